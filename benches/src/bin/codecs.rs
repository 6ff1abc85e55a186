//! The codecs for rows that leave memory, side by side: how long they take to encode rows, to decode them as rows of
//! their own, and to show them where no own ones are needed; and how large the blocks are.
//!
//! `cargo run --release -p tidemill-benches --features abomonation --bin codecs`
//!
//! Every round trip is compared with the rows that went in; the exit code is not zero if one differs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tidemill::Data;
use tidemill::codec::{Abomonated, Codec, Postcard};
use tidemill_benches::measure::median;

/// Encodes and decodes rows with each codec.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often; the medians are shown.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    customer: String,
    cents: u64,
    items: Vec<u32>,
}
tidemill::abomonate!(Order { customer: String, cents: u64, items: Vec<u32> });

fn round<T: Data + Clone + PartialEq, C: Codec<T>>(
    name: &str,
    codec: &str,
    rows: &[T],
    rounds: usize,
) -> bool {
    let (mut encode, mut decode, mut visit) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    let mut equal = true;
    for _ in 0..rounds.max(1) {
        bytes.clear();
        let start = Instant::now();
        C::encode(rows, &mut bytes).expect("rows are encoded");
        encode.push(start.elapsed().as_secs_f64() * 1e3);
        let mut read = Vec::with_capacity(rows.len());
        let mut copy = bytes.clone();
        let start = Instant::now();
        C::decode(&mut copy, &mut read).expect("rows are decoded");
        decode.push(start.elapsed().as_secs_f64() * 1e3);
        equal &= read == rows;
        drop(read);
        copy.clone_from(&bytes);
        let mut seen = 0;
        let start = Instant::now();
        C::visit(&mut copy, &mut |read| seen += std::hint::black_box(read).len()).expect("rows are shown");
        visit.push(start.elapsed().as_secs_f64() * 1e3);
        equal &= seen == rows.len();
    }
    println!(
        "{name:<34} {codec:<11} {:>9.2} {:>9.2} {:>9.2} {:>9.1}   {}",
        median(&encode),
        median(&decode),
        median(&visit),
        bytes.len() as f64 / 1e6,
        if equal { "equal" } else { "DIFFERENT" }
    );
    equal
}

fn main() -> ExitCode {
    let Arguments { rounds } = Arguments::parse();
    let order = |n: u64| Order {
        customer: format!("customer {}", n * 2_654_435_761 % 1_000_003),
        cents: n * 7,
        items: (0..n as u32 % 8).collect(),
    };
    let orders: Vec<Order> = (0..200_000).map(order).collect();
    let pairs: Vec<(u64, u64)> = (0..1_000_000).map(|n| (n, n * 0x9E37_79B9_7F4A_7C15 % 1_000_003)).collect();
    println!(
        "{:<34} {:<11} {:>9} {:>9} {:>9} {:>9}",
        "rows", "codec", "encode ms", "decode ms", "visit ms", "MB"
    );
    let mut good = true;
    good &= round::<_, Postcard>("200,000 {String, u64, Vec<u32>}", "postcard", &orders, rounds);
    good &= round::<_, Abomonated>("200,000 {String, u64, Vec<u32>}", "abomonation", &orders, rounds);
    good &= round::<_, Postcard>("1,000,000 (u64, u64)", "postcard", &pairs, rounds);
    good &= round::<_, Abomonated>("1,000,000 (u64, u64)", "abomonation", &pairs, rounds);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
