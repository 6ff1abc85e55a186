//! Counting events per key and session; see [`baseline::session`](crate::baseline::session), whose table of open
//! sessions it uses.

use std::collections::VecDeque;
use std::time::Instant;

use renoir::operator::StreamElement;

use super::{Row, State, context, events, gather, gathered, operator};
use crate::baseline::session::{Open, Sessions};
use crate::baseline::windowed_count::Windowed;

/// Runs the job.
#[must_use]
pub fn sessions(job: Sessions) -> Windowed {
    let start = Instant::now();
    let context = context(job.workers);
    let owned = events(&context, job.events, job.keys).group_by(|key| *key).drop_key();
    let output = gather(operator(owned, Open::new(job.gap)));
    context.execute_blocking();
    Windowed { elapsed: start.elapsed(), ..gathered(output) }
}

impl State for Open {
    type In = u64;
    type Out = Row;

    #[inline]
    fn take(&mut self, key: u64, time: i64) {
        self.count(key, time);
    }

    fn advance(&mut self, watermark: i64, out: &mut VecDeque<StreamElement<Row>>) {
        self.close(watermark, |row| out.push_back(StreamElement::Timestamped(row, row.1)));
    }
}
