//! Tables against differential dataflow as one would write it by hand: the same updates, one batch after the other.
//!
//! A batch is passed on once the results of the one before have been seen, so a run measures both how long a batch takes and how many
//! updates a second there are. Both programs get records that replace the one of their id: the hand-written one finds
//! the replaced record itself.

pub mod job;
mod schedule;

pub use schedule::{Record, Schedule};

use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::generator::splitmix64;

/// What is computed of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// How many records each group has.
    Count,
    /// The different values.
    Distinct,
    /// Orders with their customers and the regions of these.
    Join,
    /// The ten newest records of each group of this many.
    Top(u64),
    /// The sum of each customer's orders.
    Sum,
    /// These sums, joined with the customers, and summed up by region.
    Deep,
}

impl Work {
    /// What is compared with differential dataflow.
    pub const COMPARED: [Work; 5] =
        [Work::Count, Work::Distinct, Work::Join, Work::Top(100), Work::Top(10_000)];

    /// Whether Tidemill uses an operator of its own, where differential dataflow has a reduction.
    #[must_use]
    pub fn is_hashed(self) -> bool {
        !matches!(self, Work::Join)
    }
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Count => f.write_str("count"),
            Work::Distinct => f.write_str("distinct"),
            Work::Join => f.write_str("join"),
            Work::Top(size) => write!(f, "top-{size}"),
            Work::Sum => f.write_str("sum"),
            Work::Deep => f.write_str("deep"),
        }
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(name: &str) -> Result<Work, String> {
        if let Some(size) =
            name.strip_prefix("top-").and_then(|size| size.parse().ok()).filter(|size| *size > 0)
        {
            return Ok(Work::Top(size));
        }
        [Work::Count, Work::Distinct, Work::Join, Work::Sum, Work::Deep]
            .into_iter()
            .find(|work| work.to_string() == name)
            .ok_or_else(|| format!("`{name}` is none of count, distinct, join, top-SIZE, sum, deep"))
    }
}

/// How many rows the top of a group has.
pub const TOP: usize = 10;

/// How much data there is, and how it comes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Records with which a run begins.
    pub rows: u64,
    /// Records of a batch.
    pub batch: u64,
    /// Batches that are measured.
    pub rounds: u64,
    /// How many batches come before these.
    pub warmup: u64,
}

impl Sizes {
    /// How many groups are counted.
    #[must_use]
    pub fn groups(&self) -> u64 {
        (self.rows / 10).max(2)
    }

    /// How many customers have orders.
    #[must_use]
    pub fn customers(&self) -> u64 {
        (self.rows / 10).max(1)
    }

    /// How many regions have customers.
    #[must_use]
    pub fn regions(&self) -> u64 {
        (self.customers() / 100).max(1)
    }
}

/// The region of a customer.
#[must_use]
pub fn region_of(customer: u64, regions: u64) -> u64 {
    splitmix64(customer) % regions
}

/// What a program has measured of itself.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The time of the measured batches.
    pub elapsed: Duration,
    /// The CPU time of the process meanwhile.
    pub cpu: Duration,
    /// The time from the beginning until the first records have been loaded.
    pub load: Duration,
    /// The batches, in nanoseconds; empty if they overlapped.
    pub latencies: Histogram<u64>,
    /// The sum of the digests of the rows at the end.
    pub answer: u64,
}

/// A number made of a row of a result.
pub trait Digest {
    /// Returns the number.
    fn digest(&self) -> u64;
}

impl Digest for u64 {
    fn digest(&self) -> u64 {
        splitmix64(*self)
    }
}

impl Digest for () {
    fn digest(&self) -> u64 {
        0
    }
}

impl<A: Digest, B: Digest> Digest for (A, B) {
    #[inline]
    fn digest(&self) -> u64 {
        splitmix64(self.0.digest() ^ self.1.digest().rotate_left(17))
    }
}
