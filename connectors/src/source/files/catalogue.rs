//! The files known so far, in the order in which they were found, cut into numbered blocks.
//!
//! Invariants: the list only grows, and the length of a file is the one that it had when it was first seen (a followed
//! file apart); so block `b` means the same bytes as long as the query runs. With a checkpoint what is found is written
//! down before it counts, so that this holds for all runs of the query. Everything before `released` has been
//! given to an epoch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::{PlanLimits, ProcessingTime, SourceError, SourceLog};

use super::pattern;
use super::scan::{Opened, Splitting};
use super::sought::{self, Found, Past, Sought};

/// What the user has said about a file source.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) pattern: String,
    pub(super) partitions: u32,
    pub(super) bounded: bool,
    pub(super) follow: bool,
    pub(super) max_files: Option<u64>,
    pub(super) max_bytes: u64,
    pub(super) interval: Duration,
    pub(super) block: u64,
    pub(super) splitting: Splitting,
    /// Whether bytes that are not UTF-8 are replaced.
    pub(super) lossy: bool,
}

impl Settings {
    /// Whether a file is one block, read piece by piece.
    pub(super) fn whole_files(&self) -> bool {
        self.follow || matches!(self.splitting, Splitting::Csv { .. })
    }
}

/// A position in the sequence of all blocks; `byte` counts from the beginning of the block, 0 is before anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    pub(super) block: u64,
    pub(super) byte: u64,
}

/// A block: the bytes `[start, end)` of a file of `len` bytes.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) path: Arc<Path>,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) len: u64,
}

struct Entry {
    path: Arc<Path>,
    len: u64,
    first: u64,
}

#[derive(Default)]
pub(super) struct Catalogue {
    files: Vec<Entry>,
    /// The files that have been found, and how long they were, or were last said to be.
    known: HashMap<PathBuf, u64>,
    /// Those that an earlier run has found under another spelling of the pattern, from the root.
    elsewhere: HashSet<PathBuf>,
    total: u64,
    listed: bool,
    next_listing: Option<ProcessingTime>,
    released: Position,
    /// Whether the query is to end with the files that are known.
    frozen: bool,
    /// The block at which each partition stands.
    standing: BTreeMap<u64, u64>,
    /// Where what was found is kept, so that a later run counts the same blocks.
    log: Option<Arc<dyn SourceLog>>,
}

impl Catalogue {
    /// The catalogue of a query that begins, or goes on: with what its log tells.
    pub(super) fn open(log: Option<Arc<dyn SourceLog>>, settings: &Settings) -> Result<Self, SourceError> {
        let mut catalogue = Catalogue { log, ..Catalogue::default() };
        let Some(log) = &catalogue.log else { return Ok(catalogue) };
        let now = Sought::now(settings);
        let past = Past::read(&log.entries()?, settings, &now)?;
        if past.outdated {
            log.append(&sought::written(&now)?)?;
        }
        catalogue.add(past.found, settings);
        catalogue.elsewhere = past.elsewhere;
        catalogue.listed = past.looked;
        if settings.bounded && past.looked {
            catalogue.tell_what_is_left_out(settings);
        }
        Ok(catalogue)
    }

    /// A bounded source that goes on does not look for files; but whoever has put some there should know.
    fn tell_what_is_left_out(&mut self, settings: &Settings) {
        // What it needs may be elsewhere, or read to the end and gone.
        let Ok(found) = pattern::list(&settings.pattern) else { return };
        let new = self.new_among(found, settings);
        if let Some((first, _)) = new.first() {
            tracing::warn!(
                pattern = %settings.pattern,
                "{} files are not read, such as {}: they were not there when the query first started, and a bounded \
                 source reads what was there then. To read what is new in every run, leave the source unbounded and use \
                 the trigger available-now",
                new.len(),
                first.display()
            );
        }
    }

    /// The same query from its beginning.
    pub(super) fn again(&self, settings: &Settings) -> Result<Self, SourceError> {
        Catalogue::open(self.log.clone(), settings)
    }

    /// How many blocks there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How far epochs may read.
    pub(super) fn released(&self) -> Position {
        self.released
    }

    /// Finds the block of that number.
    pub(super) fn block(&self, number: u64, settings: &Settings) -> Option<Block> {
        if number >= self.total {
            return None;
        }
        let after = self.files.partition_point(|entry| entry.first <= number);
        let entry = self.files.get(after.checked_sub(1)?)?;
        let (start, end) = if settings.whole_files() {
            (0, entry.len)
        } else {
            let start = (number - entry.first) * settings.block;
            (start, entry.len.min(start + settings.block))
        };
        Some(Block { path: Arc::clone(&entry.path), start, end, len: entry.len })
    }

    /// Looks for new files. A bounded source looks once.
    pub(super) fn list(&mut self, settings: &Settings) -> Result<(), SourceError> {
        if (settings.bounded || self.frozen) && self.listed {
            return Ok(());
        }
        let found = match pattern::list(&settings.pattern) {
            // What was there at the start may go and come again, as a log does that is rotated.
            Err(SourceError::Setup(_)) if self.listed => return Ok(()),
            found => found?,
        };
        if settings.bounded && found.is_empty() {
            tracing::warn!(
                pattern = %settings.pattern,
                "there is no file to read: none matches, where hidden ones and directories do not count, nor what is in \
                 these; a bounded source reads what is there when it starts, and ends"
            );
        }
        let new = self.new_among(found, settings);
        if let Some(log) = self.log.as_ref().filter(|_| !new.is_empty() || !self.listed) {
            log.append(&sought::written(&new)?)?;
        }
        self.add(new, settings);
        self.listed = true;
        Ok(())
    }

    /// Those of the files that nobody knew of. Of one that has grown behind what is read of it this tells, once.
    fn new_among(&mut self, found: Vec<pattern::Found>, settings: &Settings) -> Found {
        let mut new = Found::new();
        let mut now = None;
        for pattern::Found { path, len, .. } in found {
            match self.known.get_mut(&path) {
                Some(was) if *was < len && !settings.follow => {
                    tracing::warn!(
                        file = %path.display(),
                        "the file had {was} bytes when it was found, and has {len} now: what was added is not read. A \
                         file must appear whole (write it elsewhere and rename it), unless the source follows files"
                    );
                    *was = u64::MAX;
                }
                Some(_) => {}
                None if self.elsewhere.is_empty() => new.push((path, len)),
                None => {
                    let now = now.get_or_insert_with(|| Sought::now(settings));
                    if !self.elsewhere.contains(&now.whole(&path)) {
                        new.push((path, len));
                    }
                }
            }
        }
        new
    }

    fn add(&mut self, found: Found, settings: &Settings) {
        for (path, len) in found {
            let blocks = match settings.splitting {
                _ if settings.follow => 1,
                Splitting::Csv { .. } => len.min(1),
                Splitting::Lines | Splitting::Blocks => len.div_ceil(settings.block),
            };
            self.known.insert(path.clone(), len);
            // An empty file has no block, and so could not be found by number.
            if blocks > 0 {
                self.files.push(Entry { path: path.into(), len, first: self.total });
                self.total += blocks;
            }
        }
    }

    /// Looks once more, and then no more.
    pub(super) fn freeze(&mut self, settings: &Settings) -> Result<(), SourceError> {
        self.list(settings)?;
        self.frozen = true;
        Ok(())
    }

    /// A reader has come to a block.
    pub(super) fn stand(&mut self, block: u64, settings: &Settings) {
        self.standing.insert(block % u64::from(settings.partitions.max(1)), block);
    }

    /// Whether a partition has read every block that is known.
    pub(super) fn is_caught_up(&self, partition: u32) -> bool {
        let partition = u64::from(partition);
        self.standing.get(&partition).copied().unwrap_or(partition) >= self.total
    }

    /// Looks for the first time, unless that has been done.
    pub(super) fn ensure_listed(&mut self, settings: &Settings) -> Result<(), SourceError> {
        if self.listed { Ok(()) } else { self.list(settings) }
    }

    /// Looks again if it is time to. Returns when it will be.
    pub(super) fn look_again(
        &mut self,
        settings: &Settings,
        now: ProcessingTime,
    ) -> Result<ProcessingTime, SourceError> {
        match self.next_listing {
            Some(next) if now < next => Ok(next),
            _ => {
                self.list(settings)?;
                let next = now + settings.interval;
                self.next_listing = Some(next);
                Ok(next)
            }
        }
    }

    /// A query goes on from `from`, in one of `n` partitions: all that it has read has been released.
    ///
    /// A partition that stands at the beginning of block `b` has been given its blocks up to `b - n`; so the limit was
    /// at least at `b - n + 1`, and the partition that had got furthest tells it exactly.
    /// One that has ended may stand anywhere beyond the end, and tells no more than that it has been given all its blocks.
    pub(super) fn resume(&mut self, mut from: Position, partitions: u32) {
        if let Some(beyond) = from.block.checked_sub(self.total) {
            from.block = self.total + beyond % u64::from(partitions.max(1));
        }
        let limit = if from.byte > 0 {
            from
        } else {
            Position { block: (from.block + 1).saturating_sub(u64::from(partitions)), byte: 0 }
        };
        self.released = self.released.max(limit);
    }

    /// Releases blocks for the next epoch, as many as the limits allow and at least one; looks for new files first if
    /// those known could not fill the epoch.
    pub(super) fn release(&mut self, settings: &Settings, limits: &PlanLimits) -> Result<(), SourceError> {
        self.ensure_listed(settings)?;
        let backlog = (self.total.saturating_sub(self.released.block)).saturating_mul(settings.block);
        if limits.whole || backlog < settings.max_bytes || settings.max_files.is_some() {
            self.list(settings)?;
        }
        if limits.whole {
            self.released = self.released.max(Position { block: self.total, byte: 0 });
            return Ok(());
        }
        let mut records = limits.max_records.map(|most| most.max(1));
        let (mut bytes, mut files, mut last) = (0u64, 0, None);
        while let Some(block) = self.block(self.released.block, settings) {
            if last.as_ref() != Some(&block.path) {
                files += 1;
                if settings.max_files.is_some_and(|most| files > most.max(1)) {
                    break;
                }
            }
            let size = (block.end - block.start).saturating_sub(self.released.byte);
            if bytes > 0 && bytes.saturating_add(size) > settings.max_bytes {
                break;
            }
            if let Some(left) = &mut records {
                if *left == 0 {
                    break;
                }
                if let Some(byte) = count(settings, &block, self.released.byte, left)? {
                    self.released.byte = byte;
                    break;
                }
            }
            bytes = bytes.saturating_add(size);
            self.released = Position { block: self.released.block + 1, byte: 0 };
            last = Some(block.path);
        }
        Ok(())
    }
}

/// Takes the records of a block off what is `left`. If the block has more, returns the byte of it where they end.
fn count(settings: &Settings, block: &Block, byte: u64, left: &mut u64) -> Result<Option<u64>, SourceError> {
    if settings.splitting == Splitting::Blocks {
        *left -= 1;
        return Ok(None);
    }
    let mut file = Opened::open(&block.path)?;
    let (from, to) = if settings.whole_files() {
        (byte, block.len)
    } else {
        let begin = if byte > 0 { block.start + byte } else { file.line_start(block.start, block.len)? };
        (begin, file.line_start(block.end, block.len)?)
    };
    let header = u64::from(byte == 0 && matches!(settings.splitting, Splitting::Csv { header: true, .. }));
    let (records, end) = file.count(settings.splitting, from, to, left.saturating_add(header))?;
    *left = left.saturating_sub(records.saturating_sub(header));
    Ok((end < to).then_some(end.saturating_sub(block.start)))
}
