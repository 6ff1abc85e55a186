//~ `f64` has no order by which records could be ranked
//~ use `top_n_by` or `sort_within_window_by` with a comparison
use tidemill::prelude::*;

fn main() -> Result<(), RunError> {
    let graph = Graph::new("the hottest");
    let readings = graph.source(memory([(7u32, 20u32)]));
    readings.key_by(|reading| reading.0).top_n(3, |reading| f64::from(reading.1)).update().sink(discard().0);
    graph.run(Options::default())?;
    Ok(())
}
