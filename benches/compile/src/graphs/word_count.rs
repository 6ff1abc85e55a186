//! Words of text files.

use std::error::Error;
use std::path::Path;

use tidemill::prelude::*;

use crate::check;

pub fn run(scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::write(scratch.join("a.txt"), "to be or\nnot to be\n")?;
    std::fs::write(scratch.join("b.txt"), "To sleep\n")?;
    let graph = Graph::new("word count");
    let (sink, table) = memory_sink();
    graph
        .source(text_files(scratch.join("*.txt").display().to_string()).bounded())
        .map(|line| line.to_lowercase())
        .flat_map(|line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .key_by(|word| word.clone())
        .count()
        .complete()
        .sink(sink);
    graph.run(options.clone())?;

    let expected = [("be", 2), ("not", 1), ("or", 1), ("sleep", 1), ("to", 3)];
    check(table.snapshot(), expected.map(|(word, count)| (word.to_owned(), count)).to_vec())
}
