//! What a query costs that has nothing to do: a source that brings nothing, in both modes.
//!
//! `cargo run --release -p tidemill-benches --bin idle -- --help`
//!
//! The exit code is not zero if one takes more of a core than the limit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use tidemill::connectors::{channel, discard, socket_listener};
use tidemill::{Graph, Mode, Options, Run};
use tidemill_benches::measure::cpu_time;

/// Runs queries that have nothing to do.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How many per cent of a core one may take.
    #[arg(long, default_value_t = 1.0)]
    limit: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut good = true;
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2] {
            for of in ["channel", "socket listener"] {
                let graph = Graph::new("idle");
                let (sender, source) = channel::<String>(16);
                let count = |key: &String| key.clone();
                let (sink, _) = discard();
                if of == "channel" {
                    graph.source(source).key_by(count).count().update().sink(sink);
                } else {
                    let listener = socket_listener("127.0.0.1:0").expect("a free port");
                    graph
                        .source(listener)
                        .map(|line| line.to_string())
                        .key_by(count)
                        .count()
                        .update()
                        .sink(sink);
                }
                let options = Options::default().with_mode(mode).with_workers(workers);
                let query = graph.start(options).expect("the query starts");
                // What starting costs is not idleness.
                sleep(Duration::from_millis(500));
                let (start, before) = (Instant::now(), cpu_time().unwrap_or_default());
                sleep(Duration::from_secs_f64(arguments.seconds));
                let used = cpu_time().unwrap_or_default().saturating_sub(before);
                let share = used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
                let kept = share < arguments.limit && !query.is_finished();
                good &= kept;
                println!(
                    "idle {of}, {mode:?}, {workers} workers: {share:.2} % of a core: {}",
                    if kept { "kept" } else { "MISSED" }
                );
                query.stop();
                query.wait().expect("it ends in order");
                drop(sender);
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
