//~ `(u32, f64)` has no order by which records could be ranked
//~ between equal ranks, that of the records: `#[derive(PartialEq, Eq, PartialOrd, Ord)]`
use tidemill::prelude::*;

fn main() -> Result<(), RunError> {
    let graph = Graph::new("the hottest");
    let readings = graph.source(memory([(7u32, 20.5f64)]));
    readings.key_by(|reading| reading.0).top_n(3, |reading| reading.1 as i64).update().sink(discard().0);
    graph.run(Options::default())?;
    Ok(())
}
