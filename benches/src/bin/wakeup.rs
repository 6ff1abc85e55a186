//! How long a line takes from a socket to the output of a running count, one line at a time, in continuous mode: what
//! waking a sleeping query costs.
//!
//! `cargo run --release -p tidemill-benches --bin wakeup -- --help`
//!
//! The exit code is not zero if an answer is missing, or the median is above the limit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::io::Write;
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use tidemill::connectors::{for_each, socket_listener};
use tidemill::{Graph, Idle, Mode, Options, Run};
use tidemill_benches::harness::slots::histogram;

/// Sends lines to a query and waits for their counts.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many lines.
    #[arg(long, default_value_t = 400)]
    lines: u64,
    /// Milliseconds from line to line.
    #[arg(long, default_value_t = 5)]
    gap: u64,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// What an idle worker does: `park` or `spin:50us`.
    #[arg(long, value_delimiter = ',', default_value = "park,spin:50us")]
    idle: Vec<Idle>,
    /// The greatest median in microseconds.
    #[arg(long, default_value_t = 1000)]
    limit: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut good = true;
    for workers in &arguments.workers {
        for idle in &arguments.idle {
            let listener = socket_listener("127.0.0.1:0").expect("a free port");
            let mut stream = TcpStream::connect(listener.local_addr()).expect("the listener answers");
            stream.set_nodelay(true).expect("a socket");
            let (sender, answers) = mpsc::channel();
            let graph = Graph::new("wakeup");
            graph
                .source(listener)
                .key_by(|line| line.to_string())
                .count()
                .update()
                // The receiver lives as long as the query.
                .sink(for_each(move |(word, count)| drop(sender.send((Instant::now(), word, count)))));
            let options =
                Options::default().with_mode(Mode::Continuous).with_workers(*workers).with_idle(*idle);
            let query = graph.start(options).expect("the query starts");
            sleep(Duration::from_millis(300));

            let mut latencies = histogram();
            let mut right = 0;
            for line in 0..arguments.lines {
                let text = format!("word{line}\n");
                let sent = Instant::now();
                stream.write_all(text.as_bytes()).expect("the query listens");
                let Ok((seen, word, count)) = answers.recv_timeout(Duration::from_secs(5)) else { break };
                right += u64::from(count == 1 && word == text.trim_end());
                latencies.saturating_record(seen.saturating_duration_since(sent).as_nanos() as u64);
                sleep(Duration::from_millis(arguments.gap).saturating_sub(sent.elapsed()));
            }
            query.stop();
            query.wait().expect("it ends in order");
            let at = |q| latencies.value_at_quantile(q) as f64 / 1e3;
            let kept = right == arguments.lines && at(0.5) <= arguments.limit as f64;
            good &= kept;
            println!(
                "socket to output, {workers} workers, {idle}: p50 {:.0} us  p99 {:.0} us  max {:.0} us  {right} of {} answers right: {}",
                at(0.5),
                at(0.99),
                at(1.0),
                arguments.lines,
                if kept { "kept" } else { "MISSED" }
            );
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
