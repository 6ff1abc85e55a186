//~ trait `Run` which provides `run` is implemented but not in scope
//~ use tidemill::Run;
use tidemill::connectors::{console, memory};
use tidemill::{Graph, Options};

fn main() {
    let graph = Graph::new("numbers");
    graph.source(memory([1u64, 2])).sink(console());
    let _ = graph.run(Options::default());
}
