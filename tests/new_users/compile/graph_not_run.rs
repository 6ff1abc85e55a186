//~ warning: unused `QueryHandle` that must be used
//~ `.wait()`
use tidemill::prelude::*;

fn main() -> Result<(), RunError> {
    let graph = Graph::new("numbers");
    graph.source(memory([1u64, 2])).sink(console());
    graph.start(Options::default())?;
    Ok(())
}
