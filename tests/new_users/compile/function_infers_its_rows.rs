use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    let words = graph.source(memory(["to", "be"].map(str::to_owned))).key_by(|word| word.clone()).count().update();
    words.for_each(|row| println!("{}: {}", row.0, row.1));
    graph.source(memory([1u64])).try_for_each(|n| if n > 0 { Ok(()) } else { Err("zero") });
    assert!(graph.run(Options::default()).is_ok());
}
