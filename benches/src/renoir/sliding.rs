//! Counting events per key and sliding window; see [`baseline::sliding`](crate::baseline::sliding), whose windows over
//! closed panes it uses.

use std::collections::VecDeque;
use std::time::Instant;

use renoir::operator::StreamElement;

use super::windowed_count::{in_one_phase, in_two_phases};
use super::{Row, State, context, gather, gathered, operator};
use crate::baseline::sliding::{Sliding, Windows};
use crate::baseline::windowed_count::Windowed;

/// Runs the job.
#[must_use]
pub fn sliding(job: Sliding) -> Windowed {
    let start = Instant::now();
    let context = context(job.count.workers);
    let slide = Slide { windows: Windows::new(job), rows: Vec::new() };
    let output = if job.count.two_phase {
        gather(operator(in_two_phases(&context, job.count), slide))
    } else {
        gather(operator(in_one_phase(&context, job.count), slide))
    };
    context.execute_blocking();
    Windowed { elapsed: start.elapsed(), ..gathered(output) }
}

/// The windows of one replica.
#[derive(Clone)]
struct Slide {
    windows: Windows,
    /// Rows of closed panes that have come since the last watermark.
    rows: Vec<Row>,
}

impl State for Slide {
    type In = Row;
    type Out = Row;

    fn take(&mut self, row: Row, _time: i64) {
        self.rows.push(row);
    }

    fn advance(&mut self, watermark: i64, out: &mut VecDeque<StreamElement<Row>>) {
        self.windows.put_by(&self.rows);
        self.rows.clear();
        self.windows.close(watermark, |rows| {
            out.extend(rows.drain(..).map(|row| StreamElement::Timestamped(row, row.1)));
        });
    }
}
