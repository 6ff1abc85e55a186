//! The right answers of the jobs, by plain loops over all records in their order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::path::Path;

use super::Answer;
use crate::baseline::chain::{Record, checksum, fused};
use crate::baseline::distinct::{self, Distinct};
use crate::baseline::join::{self, IntervalJoin, Joined};
use crate::baseline::process::Process;
use crate::baseline::session::Sessions;
use crate::baseline::sliding::Sliding;
use crate::baseline::top::{N, Top, Tops};
use crate::baseline::windowed_count::{STEP, Windowed, WindowedCount};
use crate::generator::{event, word_checksum};

impl From<Windowed> for Answer {
    fn from(of: Windowed) -> Answer {
        Answer { rows: of.rows, records: of.events, checksum: of.checksum }
    }
}

/// The words of a UTF-8 file.
pub(super) fn word_count(path: &Path) -> Answer {
    let text = fs::read_to_string(path).expect("the text can be read");
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
    let mut answer = Answer::default();
    for (word, count) in counts {
        answer.rows += 1;
        answer.records += count;
        answer.checksum = answer.checksum.wrapping_add(word_checksum(word, count));
    }
    answer
}

/// Tumbling windows.
pub(super) fn windowed_count(job: WindowedCount) -> Answer {
    let whole = Sliding { count: job, panes: 1 };
    sliding(whole)
}

/// Sliding windows, of one pane or of several: the counts of a pane at a time, and the sum over those of a window.
pub(super) fn sliding(job: Sliding) -> Answer {
    let (slide, panes, keys) = (job.slide(), job.panes as usize, job.count.keys as usize);
    let mut counts = vec![vec![0_u64; keys]; panes];
    let mut total = vec![0_u64; keys];
    let mut answer = Windowed::default();
    let mut next = 0;
    // Pane after pane; behind the last one, those in which only older panes are left.
    for pane in 0.. {
        let end = (pane as i64 + 1) * slide;
        let current = &mut counts[pane % panes];
        for (count, total) in current.iter_mut().zip(&mut total) {
            *total -= std::mem::take(count);
        }
        while next < job.count.events {
            let (key, time) = event(next, job.count.keys, STEP);
            if time >= end {
                break;
            }
            current[key as usize] += 1;
            total[key as usize] += 1;
            next += 1;
        }
        let mut any = false;
        for (key, count) in total.iter().enumerate().filter(|(_, count)| **count > 0) {
            answer.add(key as u64, end - job.size(), *count);
            any = true;
        }
        if !any && next >= job.count.events {
            break;
        }
    }
    answer.into()
}

/// Sessions.
pub(super) fn sessions(job: Sessions) -> Answer {
    // First and last event, and how many; none of a key that has had none yet.
    let mut open: Vec<Option<(i64, i64, u64)>> = vec![None; job.keys as usize];
    let mut answer = Windowed::default();
    for index in 0..job.events {
        let (key, time) = event(index, job.keys, STEP);
        let session = &mut open[key as usize];
        match session {
            Some((_, last, count)) if time - *last <= job.gap => {
                *last = time;
                *count += 1;
            }
            _ => {
                if let Some((first, _, count)) = session.replace((time, time, 1)) {
                    answer.add(key, first, count);
                }
            }
        }
    }
    for (key, session) in open.into_iter().enumerate() {
        if let Some((first, _, count)) = session {
            answer.add(key as u64, first, count);
        }
    }
    answer.into()
}

/// A timer for each event.
pub(super) fn process(job: Process) -> Answer {
    let mut answer = Windowed::default();
    for index in 0..job.events {
        let (key, time) = event(index, job.keys, STEP);
        answer.add(key, time + job.delay, 1);
    }
    answer.into()
}

/// Pairs: all events in the order of their times, so that an event's partners are those before it on the other side.
pub(super) fn interval_join(job: IntervalJoin) -> Answer {
    let mut recent: Vec<[VecDeque<(i64, u64)>; 2]> = vec![Default::default(); job.keys as usize];
    let mut answer = Joined::default();
    for index in 0..job.events {
        let (key, time, word) = join::event(index, job.keys);
        let side = index as usize % 2;
        let sides = &mut recent[key as usize];
        sides[side].push_back((time, word));
        let others = &mut sides[1 - side];
        while others.front().is_some_and(|(other, _)| time - other > job.bound()) {
            others.pop_front();
        }
        for (_, theirs) in others {
            answer.add(if side == 0 { (key, word, *theirs) } else { (key, *theirs, word) });
        }
    }
    Answer { rows: answer.pairs, records: job.events, checksum: answer.checksum }
}

/// The first event of each id.
pub(super) fn distinct(job: Distinct) -> Answer {
    let (mut ids, mut answer) = (HashSet::new(), Windowed::default());
    for (id, time) in (0..job.events).map(distinct::event) {
        if ids.insert(id) {
            answer.add(id, time, 1);
        }
    }
    Answer { rows: answer.rows, records: job.events, checksum: answer.checksum }
}

/// The ten greatest words of each key, window after window.
pub(super) fn top(job: Top) -> Answer {
    let mut answer = Tops::default();
    let mut words: Vec<Vec<u64>> = vec![Vec::new(); job.keys as usize];
    let mut events = (0..job.events).map(|index| join::event(index, job.keys)).peekable();
    while let Some((_, time, _)) = events.peek() {
        let start = time / job.width() * job.width();
        while let Some((key, _, word)) = events.next_if(|event| event.1 < start + job.width()) {
            words[key as usize].push(word);
        }
        for (key, words) in words.iter_mut().enumerate().filter(|(_, words)| !words.is_empty()) {
            words.sort_unstable_by(|a, b| b.cmp(a));
            answer.add(key as u64, start, words.drain(..).take(N));
        }
    }
    Answer { rows: answer.rows, records: job.events, checksum: answer.checksum }
}

/// The stateless steps.
pub(super) fn chain<R: Record>(records: u64) -> Answer {
    let mut answer = Answer { records, ..Answer::default() };
    for record in (0..records).map(R::at).filter_map(fused) {
        answer.rows += 1;
        answer.checksum = answer.checksum.wrapping_add(checksum(&record));
    }
    answer
}
