//! Writes the figures in the documents from raw results, or checks that they are what the results say.
//!
//! `cargo run -p tidemill-benches --bin report -- --help`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidemill_benches::report::results::Results;
use tidemill_benches::report::{BLOCKS, documents, grid};

/// Writes the figures in README.md, in the guide and below docs/ from the raw results in benches/results.
///
/// A place begins with a line `<!-- from: RESULTS BLOCK -->`, where RESULTS is a directory in benches/results, and ends
/// with `<!-- end -->`. What is between is replaced.
#[derive(Debug, Parser)]
#[command(after_help = blocks())]
struct Arguments {
    /// Take these results instead, or the `latest`, wherever they have what a place is about.
    #[arg(long, value_name = "RESULTS")]
    results: Option<String>,
    /// Write nothing; fail if a document differs from what the results say.
    #[arg(long)]
    check: bool,
    /// Draw the pictures of the grid in these results (`latency.jsonl`) into their directory, and write nothing else.
    #[arg(long, value_name = "RESULTS")]
    draw: Option<String>,
    /// The repository.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
    repository: PathBuf,
}

fn blocks() -> String {
    let lines = BLOCKS.iter().map(|block| format!("  {:<11} {}", block.name, block.what));
    format!("Blocks:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("report: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let repository = arguments
        .repository
        .canonicalize()
        .map_err(|e| format!("{}: {e}", arguments.repository.display()))?;
    let results = repository.join("benches/results");
    if let Some(name) = &arguments.draw {
        let name = if name == "latest" { Results::latest(&results)? } else { name.clone() };
        for path in grid::draw(&Results::named(&results, &name)?)? {
            println!("{}: drawn", path.display());
        }
        return Ok(true);
    }
    let newer = match arguments.results.as_deref() {
        Some("latest") => Some(Results::latest(&results)?),
        Some(name) => Some(Results::named(&results, name)?.name().to_owned()),
        None => None,
    };
    let mut right = true;
    for path in documents::all(&repository)? {
        let shown = path.strip_prefix(&repository).unwrap_or(&path).display();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
        let root = documents::way_to_root(&repository, &path);
        let written = documents::rewrite(&text, &root, &results, newer.as_deref())
            .map_err(|problem| format!("{shown}, {problem}"))?;
        for kept in &written.kept {
            println!("{shown}, {kept}; what was there stays");
        }
        if written.places == 0 || written.text == text {
            continue;
        }
        if arguments.check {
            let at = text.lines().zip(written.text.lines()).take_while(|(is, should)| is == should).count();
            println!("{shown}, line {}: differs from the results; `report` rewrites it", at + 1);
            right = false;
        } else {
            std::fs::write(&path, written.text).map_err(|error| format!("{shown}: {error}"))?;
            println!("{shown}: written, {} places", written.places);
        }
    }
    Ok(right)
}
