//~ `Rc<u64>` cannot be a row
//~ `Arc` in place of `Rc`
use std::rc::Rc;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("numbers");
    graph.source(memory([1u64, 2])).map(Rc::new).map(|n| *n).sink(console());
}
