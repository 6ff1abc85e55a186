//! The files known so far, in the order in which they were found, cut into numbered blocks.
//!
//! Invariants: the list only grows, and the length of a file is the one that it had when it was first seen (a followed
//! file apart); so block `b` means the same bytes as long as the query runs. With a checkpoint what is found is written
//! down before it counts, so that this holds for all runs of the query. Everything before `released` has been
//! given to an epoch.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_operators::{PlanLimits, ProcessingTime, SourceError, SourceLog};

use super::follow::Followed;
use super::name::shown;
use super::pattern::{self, Listing};
use super::scan::{LongLine, Opened, Splitting};
use super::sought::{self, Found, Past, Sought};
use super::watch::Watch;

/// How much is read at once.
const BLOCK: u64 = 256 * 1024;

/// How many bytes an epoch takes, unless the user says so.
const PORTION: u64 = 256 * 1024 * 1024;

/// Up to how many records of an epoch are counted. Where it takes more, they are cheap and their bytes are estimated: each
/// byte would be read twice.
const COUNTED: u64 = 20_000;

/// What the user has said about a file source.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) pattern: String,
    pub(super) partitions: u32,
    pub(super) bounded: bool,
    /// Whether a bounded source may find nothing.
    pub(super) allow_empty: bool,
    /// Whether files that are found together are read in the order of their names.
    pub(super) by_name: bool,
    pub(super) follow: bool,
    pub(super) max_files: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) interval: Duration,
    pub(super) block: u64,
    pub(super) splitting: Splitting,
    /// Whether bytes that are not UTF-8 are replaced.
    pub(super) lossy: bool,
    /// Globs of names that are left out.
    pub(super) exclude: Vec<String>,
    /// How many bytes a line may have.
    pub(super) max_line: usize,
}

impl Settings {
    /// The settings of which the user has said nothing.
    pub(super) fn new(pattern: String, splitting: Splitting) -> Settings {
        Settings {
            pattern,
            partitions: 8,
            bounded: false,
            allow_empty: false,
            by_name: false,
            follow: false,
            max_files: None,
            max_bytes: None,
            interval: Duration::from_millis(100),
            block: BLOCK,
            splitting,
            lossy: false,
            exclude: Vec::new(),
            max_line: usize::MAX,
        }
    }

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
    /// What matches the pattern and is no file.
    special: HashSet<PathBuf>,
    /// Those that an earlier run has found under another spelling of the pattern, from the root.
    elsewhere: HashSet<PathBuf>,
    total: u64,
    /// The files, where they are followed.
    followed: Option<Followed>,
    listed: bool,
    /// Finds what changes in a large directory.
    watch: Option<Watch>,
    /// Followed files that are to be looked at again, though nothing reports them.
    pending: Vec<PathBuf>,
    next_listing: Option<ProcessingTime>,
    released: Position,
    /// Where it is released within a long line.
    long_line: LongLine,
    /// How long records are, once some have been counted.
    record_bytes: Option<f64>,
    /// Whether the query is to end with the files that are known.
    frozen: bool,
    /// Where what was found is kept, so that a later run counts the same blocks.
    log: Option<Arc<dyn SourceLog>>,
}

impl Catalogue {
    /// The catalogue of a query that starts, or resumes from its log.
    pub(super) fn open(log: Option<Arc<dyn SourceLog>>, settings: &Settings) -> Result<Self, SourceError> {
        let mut catalogue = Catalogue { log, ..Catalogue::default() };
        let Some(log) = &catalogue.log else { return Ok(catalogue) };
        let log = Arc::clone(log);
        let now = Sought::now(settings);
        let past = Past::read(&log.entries()?, settings, &now)?;
        if past.outdated {
            log.append(&sought::written(&now)?)?;
        }
        if settings.follow {
            catalogue.followed = Some(Followed::new(Some(log), settings.partitions, past.notes));
        } else {
            catalogue.add(past.found, settings);
        }
        catalogue.elsewhere = past.elsewhere;
        catalogue.listed = past.looked;
        if settings.bounded && past.looked {
            catalogue.tell_what_is_left_out(settings);
        }
        Ok(catalogue)
    }

    /// A bounded source that resumes does not look for files, and warns of new ones.
    fn tell_what_is_left_out(&mut self, settings: &Settings) {
        // What it needs may be elsewhere, or read to the end and gone.
        let Ok(listing) = pattern::list(&settings.pattern, &settings.exclude) else { return };
        let new = self.new_among(listing, &Sought::now(settings));
        if let Some(pattern::Found { path: first, .. }) = new.first() {
            tracing::warn!(
                pattern = %settings.pattern,
                "{} files are not read, such as {}: they did not exist when the query first started, and a bounded \
                 source reads only files that existed then. To read new files in every run, leave out `.bounded()` \
                 and use the trigger available-now",
                new.len(),
                shown(first)
            );
        }
    }

    /// How many blocks there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The files, where they are followed.
    pub(super) fn followed(&mut self, settings: &Settings) -> &mut Followed {
        let (log, partitions) = (&self.log, settings.partitions);
        self.followed.get_or_insert_with(|| Followed::new(log.clone(), partitions, Vec::new()))
    }

    /// How far epochs may read.
    pub(super) fn released(&self) -> Position {
        self.released
    }

    /// Finds the block of that number.
    pub(super) fn block(&self, number: u64, settings: &Settings) -> Option<Block> {
        if let Some(followed) = &self.followed {
            return followed.block(number);
        }
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
    pub(super) fn list(
        &mut self,
        settings: &Settings,
        now: Option<ProcessingTime>,
    ) -> Result<(), SourceError> {
        if (settings.bounded || self.frozen) && self.listed {
            return Ok(());
        }
        self.look(settings, now)
    }

    fn look(&mut self, settings: &Settings, now: Option<ProcessingTime>) -> Result<(), SourceError> {
        let sought = Sought::now(settings);
        let Some(listing) = self.listing(settings, &sought)? else { return Ok(()) };
        if settings.follow {
            for found in listing.files.iter().filter(|found| self.is_new(found, &sought)) {
                pattern::refuse_unbounded(found)?;
            }
            self.warn_of_special(listing.special);
            return self.list_followed(&listing.files, settings, now);
        }
        if settings.bounded && !settings.allow_empty && listing.files.is_empty() {
            return Err(SourceError::Setup(format!(
                "no file matches `{}` (hidden files and files in hidden directories do not count), and a bounded \
                 source \
                 reads the files that exist when it starts: correct the pattern, or allow it with `.allow_empty()`",
                settings.pattern
            )));
        }
        let mut new = self.new_among(listing, &sought);
        if settings.by_name {
            new.sort_by(|a, b| a.path.cmp(&b.path));
        }
        for found in &new {
            pattern::refuse_unbounded(found)?;
        }
        let new: Found = new.into_iter().map(|found| (found.path, found.len)).collect();
        if let Some(log) = self.log.as_ref().filter(|_| !new.is_empty() || !self.listed) {
            log.append(&sought::found(&new)?)?;
        }
        self.add(new, settings);
        self.listed = true;
        Ok(())
    }

    /// Returns the files that there are, or those that have changed, where the directory is watched; nothing if none has.
    fn listing(&mut self, settings: &Settings, sought: &Sought) -> Result<Option<Listing>, SourceError> {
        if let Some(watch) = &mut self.watch {
            let mut listing = watch.changes()?;
            let changed: HashSet<PathBuf> = listing.files.iter().map(|found| found.path.clone()).collect();
            for path in std::mem::take(&mut self.pending).into_iter().filter(|path| !changed.contains(path)) {
                let name = shown(&path).to_string();
                listing
                    .examine(path)
                    .map_err(|error| SourceError::io(format!("cannot look at {name}"), error))?;
            }
            let is_empty = listing.files.is_empty() && listing.special.is_empty();
            return Ok(Some(listing).filter(|_| settings.follow || !is_empty));
        }
        let begun = Instant::now();
        let mut list = || pattern::list(&settings.pattern, &settings.exclude);
        let listing = match pattern::list_in_order(&mut list, &|found| self.is_new(found, sought)) {
            // What was there at the start may go and come again, as a log does that is rotated.
            Err(SourceError::Setup(_)) if self.listed => Listing::default(),
            listing => listing?,
        };
        if !settings.bounded && !self.frozen {
            self.watch = Watch::new(settings, &listing, begun.elapsed());
        }
        Ok(Some(listing))
    }

    fn list_followed(
        &mut self,
        files: &[pattern::Found],
        settings: &Settings,
        now: Option<ProcessingTime>,
    ) -> Result<(), SourceError> {
        let (listed, frozen) = (std::mem::replace(&mut self.listed, true), self.frozen);
        let watched = self.watch.is_some();
        let followed = self.followed(settings);
        followed.list(files, now, frozen)?;
        let pending = files.iter().filter(|found| followed.is_pending(found)).map(|found| found.path.clone());
        self.pending = if watched { pending.collect() } else { Vec::new() };
        match &self.log {
            Some(log) if !listed && files.is_empty() => log.append(&sought::found(&Found::new())?),
            _ => Ok(()),
        }
    }

    fn is_new(&self, found: &pattern::Found, sought: &Sought) -> bool {
        match &self.followed {
            Some(followed) => followed.is_new(found),
            None => !self.known.contains_key(&found.path) && !is_among(&self.elsewhere, found, sought),
        }
    }

    fn warn_of_special(&mut self, special: Vec<(PathBuf, &'static str)>) {
        for (path, kind) in special {
            if !self.special.contains(&path) {
                tracing::warn!(path = %shown(&path), "it is {kind} and is not read: a source of files reads regular files");
                self.special.insert(path);
            }
        }
    }

    /// Returns the files that are not known yet. Warns, once, of a file that has grown behind what is read of it, and of
    /// what is no file.
    fn new_among(&mut self, listing: Listing, sought: &Sought) -> Vec<pattern::Found> {
        self.warn_of_special(listing.special);
        let mut new = Vec::new();
        for found in listing.files {
            match self.known.get_mut(&found.path) {
                Some(was) if *was < found.len => {
                    tracing::warn!(
                        file = %shown(&found.path),
                        "the file had {was} bytes when it was found, and has {} now: the bytes added since are not \
                         read. A file must be complete when it appears (write it elsewhere and rename it), unless the \
                         source follows files",
                        found.len
                    );
                    *was = u64::MAX;
                }
                Some(_) => {}
                None if is_among(&self.elsewhere, &found, sought) => {}
                None => new.push(found),
            }
        }
        new
    }

    fn add(&mut self, found: Found, settings: &Settings) {
        for (path, len) in found {
            let blocks = match settings.splitting {
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
    pub(super) fn freeze(&mut self, settings: &Settings, now: ProcessingTime) -> Result<(), SourceError> {
        let known = settings.bounded && self.listed;
        // All that is there counts now.
        self.watch = None;
        if !std::mem::replace(&mut self.frozen, true) && !known {
            self.look(settings, Some(now))?;
        }
        Ok(())
    }

    /// Looks for the first time, unless that has been done.
    pub(super) fn ensure_listed(&mut self, settings: &Settings) -> Result<(), SourceError> {
        if self.listed { Ok(()) } else { self.list(settings, None) }
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
                self.list(settings, Some(now))?;
                let next = now + settings.interval;
                self.next_listing = Some(next);
                Ok(next)
            }
        }
    }

    /// A query resumes from `from`, in one of `n` partitions: all that it has read has been released.
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
        let is_limited = settings.max_files.is_some() || settings.max_bytes.is_some();
        let mut max_bytes = settings.max_bytes.unwrap_or(PORTION);
        if limits.whole || backlog < max_bytes || settings.max_files.is_some() {
            self.list(settings, Some(limits.now))?;
        }
        if limits.whole {
            self.released = self.released.max(Position { block: self.total, byte: 0 });
            return Ok(());
        }
        let mut most_records = limits.max_records;
        if most_records.is_none() && !is_limited {
            let enough = limits.enough.saturating_mul(u64::from(settings.partitions));
            if enough < COUNTED {
                most_records = Some(enough);
            } else if let Some(length) = self.record_bytes {
                max_bytes = max_bytes.min((enough as f64 * length) as u64);
            }
        }
        let most_records = most_records.map(|most| most.max(1));
        let mut records = most_records;
        let (mut bytes, mut files, mut last) = (0u64, 0, None);
        while let Some(block) = self.block(self.released.block, settings) {
            if last.as_ref() != Some(&block.path) {
                files += 1;
                if settings.max_files.is_some_and(|most| files > most.max(1)) {
                    break;
                }
            }
            let size = (block.end - block.start).saturating_sub(self.released.byte);
            if bytes > 0 && bytes.saturating_add(size) > max_bytes {
                break;
            }
            if let Some(left) = &mut records {
                if *left == 0 {
                    break;
                }
                let byte = self.released.byte;
                if let Some(end) = count(settings, &block, byte, left, &mut self.long_line)? {
                    bytes = bytes.saturating_add(end.saturating_sub(byte));
                    self.released.byte = end;
                    break;
                }
            }
            bytes = bytes.saturating_add(size);
            self.released = Position { block: self.released.block + 1, byte: 0 };
            last = Some(block.path);
        }
        if let (Some(most), Some(left)) = (most_records, records)
            && most > left
        {
            self.record_bytes = Some(bytes as f64 / (most - left) as f64);
        }
        Ok(())
    }
}

fn is_among(elsewhere: &HashSet<PathBuf>, found: &pattern::Found, sought: &Sought) -> bool {
    !elsewhere.is_empty() && elsewhere.contains(&sought.whole(&found.path))
}

/// Takes the records of a block off what is `left`. If the block has more, returns the byte of it where they end.
fn count(
    settings: &Settings,
    block: &Block,
    byte: u64,
    left: &mut u64,
    long: &mut LongLine,
) -> Result<Option<u64>, SourceError> {
    if settings.splitting == Splitting::Blocks {
        *left -= 1;
        return Ok(None);
    }
    let file = Opened::open(&block.path)?;
    let (from, to) = if settings.whole_files() {
        (byte, block.len)
    } else {
        let begin =
            if byte > 0 { block.start + byte } else { long.line_start(&file, block.start, block.len)? };
        (begin, long.line_start(&file, block.end, block.len)?)
    };
    let header = u64::from(byte == 0 && matches!(settings.splitting, Splitting::Csv { header: true, .. }));
    let (records, end) = file.count(settings.splitting, from, to, left.saturating_add(header))?;
    *left = left.saturating_sub(records.saturating_sub(header));
    Ok((end < to).then_some(end.saturating_sub(block.start)))
}

#[cfg(test)]
mod tests {
    use super::super::text_files;
    use super::*;
    use crate::source::testing::{starts, warnings};

    #[cfg(unix)]
    #[test]
    fn pipe_or_proc_file_is_refused_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let start = |pattern: &Path| starts(&text_files(pattern.display().to_string()).bounded(), None);
        let mut refused = vec![(pipe, "a pipe (FIFO)"), (PathBuf::from("/dev/null"), "a character device")];
        if cfg!(target_os = "linux") {
            refused.push((PathBuf::from("/proc/self/status"), "a length of 0 bytes"));
        }
        for (path, kind) in refused {
            let error = start(&path).unwrap_err();
            assert!(matches!(error, SourceError::Setup(_)), "{error}");
            let error = error.to_string();
            for part in [path.to_str().unwrap(), kind, "`channel` source"] {
                assert!(error.contains(part), "{error}");
            }
        }
        std::fs::write(dir.path().join("empty"), "").unwrap();
        let (started, said) = warnings(|| start(dir.path()));
        assert!(started.is_ok() && said.len() == 1 && said[0].contains("a pipe (FIFO)"), "{said:?}");
    }
}
