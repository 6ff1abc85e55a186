//! What the runs of a query have looked for, as its log keeps it, and whether this run may resume from it.
//!
//! An offset counts blocks through all files in the order in which they were found. It means nothing for other files, and
//! other bytes where files are cut otherwise. So the log says what was looked for before it says what was found. Logs
//! from before it did are lists of files only: then the files themselves tell whether the pattern has changed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_operators::SourceError;

use super::catalogue::Settings;
use super::name::{Logged, shown};
use super::pattern;
use super::segment::Note;

/// Files found together: each with the length that counts.
pub(super) type Found = Vec<(PathBuf, u64)>;

/// An entry of the log.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Found(Vec<(Logged, u64)>),
    Notes(Vec<Note>),
    Sought(Sought),
}

/// What was looked for or found, as an entry of the log.
pub(super) fn written(entry: &impl Serialize) -> Result<Vec<u8>, SourceError> {
    serde_json::to_vec(entry).map_err(|error| SourceError::Other(error.into()))
}

/// Files that were found together, as an entry of the log.
pub(super) fn found(files: &Found) -> Result<Vec<u8>, SourceError> {
    let logged: Vec<_> = files.iter().map(|(path, len)| (Logged(path.clone()), len)).collect();
    written(&logged)
}

fn read(entry: &[u8]) -> Result<Entry, SourceError> {
    serde_json::from_slice(entry).map_err(|error| {
        let entry = String::from_utf8_lossy(entry);
        SourceError::Other(
            format!("the checkpoint's list of files has an entry that cannot be read: {error}: {entry}")
                .into(),
        )
    })
}

/// What a run looks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sought {
    pattern: String,
    /// Where a relative pattern begins.
    #[serde(with = "super::name")]
    within: PathBuf,
    cut: Cut,
}

/// What a block of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Cut {
    /// This many bytes.
    Blocks(u64),
    /// The whole of it.
    Whole,
    /// The whole of it, and what is appended.
    Followed,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cut::Blocks(bytes) => write!(f, "read in blocks of {bytes} bytes (lines, JSON Lines)"),
            Cut::Whole => f.write_str("read as a whole (CSV)"),
            Cut::Followed => f.write_str("followed"),
        }
    }
}

impl Sought {
    /// What these settings look for.
    pub(super) fn now(settings: &Settings) -> Sought {
        let cut = match (settings.follow, settings.whole_files()) {
            (true, _) => Cut::Followed,
            (false, true) => Cut::Whole,
            (false, false) => Cut::Blocks(settings.block),
        };
        // Where there is no such directory any more, relative paths are compared as they are.
        let within = std::env::current_dir().unwrap_or_default();
        Sought { pattern: settings.pattern.clone(), within, cut }
    }

    /// A path from its root. Paths are compared by their parts, so that `./` within them means nothing.
    pub(super) fn whole(&self, path: impl AsRef<Path>) -> PathBuf {
        self.within.join(path)
    }

    fn admits(&self, path: &Path) -> bool {
        pattern::admits(&self.whole(&self.pattern), path)
    }

    /// Whether both say the same in the same words; the directory in which the program runs may be another.
    fn reads_as(&self, other: &Sought) -> bool {
        self.pattern == other.pattern
    }
}

/// What the log of former runs tells.
#[derive(Default)]
pub(super) struct Past {
    /// All files in their order, with paths that lead to them from here.
    pub(super) found: Found,
    /// What became of followed files, in order.
    pub(super) notes: Vec<Note>,
    /// Whether anybody has looked.
    pub(super) looked: bool,
    /// Files that were found under another spelling of their names, from the root.
    pub(super) elsewhere: HashSet<PathBuf>,
    /// Whether the log does not say yet what is looked for now.
    pub(super) outdated: bool,
}

impl Past {
    /// Reads the log, and refuses it if its offsets would mean something else now.
    pub(super) fn read(entries: &[Vec<u8>], settings: &Settings, now: &Sought) -> Result<Past, SourceError> {
        let (mut past, mut last) = (Past::default(), None::<Sought>);
        for entry in entries {
            let found = match read(entry)? {
                Entry::Found(found) => found.into_iter().map(|(Logged(path), len)| (path, len)),
                Entry::Notes(notes) => {
                    past.looked = true;
                    for mut note in notes {
                        if let Some(path) = note.path_mut() {
                            *path = past.lead(std::mem::take(path), last.as_ref(), now);
                        }
                        if let Note::Begun { path, start: 0, .. } = &note {
                            past.found.push((path.clone(), 0));
                        }
                        past.notes.push(note);
                    }
                    continue;
                }
                Entry::Sought(sought) => {
                    last = Some(sought);
                    continue;
                }
            };
            past.looked = true;
            for (path, len) in found {
                let path = past.lead(path, last.as_ref(), now);
                past.found.push((path, len));
            }
        }
        past.outdated = last.as_ref() != Some(now);
        if past.looked {
            past.check(last.as_ref(), settings, now)?;
        }
        Ok(past)
    }

    /// Returns a path that leads from here to what an earlier run found.
    fn lead(&mut self, path: PathBuf, then: Option<&Sought>, now: &Sought) -> PathBuf {
        match then {
            Some(then) if then.reads_as(now) => path,
            then => {
                let whole = then.unwrap_or(now).whole(&path);
                self.elsewhere.insert(whole.clone());
                // What it is called in messages stays, where it leads to the same.
                if now.whole(&path) == whole { path } else { whole }
            }
        }
    }

    fn check(&self, then: Option<&Sought>, settings: &Settings, now: &Sought) -> Result<(), SourceError> {
        if let Some(then) = then.filter(|then| then.cut != now.cut && !self.found.is_empty()) {
            return Err(SourceError::Setup(format!(
                "its checkpoint was made when the files were {}, and now they are {}, so that its position would \
                 refer to other bytes: configure the source as before, or {ANEW}",
                then.cut, now.cut
            )));
        }
        let strangers: Vec<&PathBuf> =
            self.found.iter().map(|(path, _)| path).filter(|path| !now.admits(&now.whole(path))).collect();
        let example = strangers.first().map(|path| format!(", such as {}", shown(path)));
        let example = example.unwrap_or_default();
        let changed = match then {
            Some(then) => !then.reads_as(now) && then.whole(&then.pattern) != now.whole(&now.pattern),
            None => !strangers.is_empty(),
        };
        if !changed {
            return Ok(());
        }
        let was = match then {
            Some(then) => format!("for the pattern {}", then.pattern),
            None => "for another pattern".to_owned(),
        };
        if settings.bounded {
            return Err(SourceError::Setup(format!(
                "its checkpoint was made {was}, and now it reads {}: a bounded source reads only the files that \
                 existed when its query first started ({} files{example}), so no other file of the new pattern would \
                 be read. Restore the old pattern, or {ANEW}",
                now.pattern,
                self.found.len()
            )));
        }
        if !strangers.is_empty() {
            tracing::warn!(
                pattern = %now.pattern,
                "the checkpoint of this source was made {was}: {} of the files found then do not match any more{example}; \
                 the unread rest of these files is still read, and new files must match the new pattern",
                strangers.len()
            );
        }
        Ok(())
    }
}

/// How to start from the beginning in spite of a checkpoint.
const ANEW: &str = "to read from the beginning, give the source another uid (`.uid(\"…\")`) and drop its position under the old one \
                    (--drop-state with the old uid)";

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tidemill_operators::SourceLog;

    use super::super::{FileOffset, FileSource, Format, csv_files, text_files};
    use super::*;
    use crate::source::testing::{Drive, starts, warnings};

    #[derive(Default)]
    struct Log(Mutex<Vec<Vec<u8>>>);

    impl SourceLog for Log {
        fn append(&self, entry: &[u8]) -> Result<(), SourceError> {
            self.0.lock().unwrap().push(entry.to_vec());
            Ok(())
        }
        fn entries(&self) -> Result<Vec<Vec<u8>>, SourceError> {
            Ok(self.0.lock().unwrap().clone())
        }
    }

    /// One run of a query: all that there is, and where it then stands.
    fn run<F: Format>(
        source: FileSource<F>,
        log: &Arc<Log>,
        from: &mut Option<Vec<FileOffset>>,
    ) -> Result<Vec<F::Item>, SourceError> {
        let source = source.partitions(2);
        let begin = starts(&source, Some(Arc::clone(log) as Arc<dyn SourceLog>))?;
        let mut drive = Drive::resume(source, &from.take().unwrap_or(begin))?;
        let rows = drive.epoch(None)?.into_iter().flatten().collect();
        *from = Some(drive.offsets());
        Ok(rows)
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn within(dir: &tempfile::TempDir, pattern: &str) -> String {
        dir.path().join(pattern).display().to_string()
    }

    fn sorted(rows: Vec<crate::Text>) -> Vec<String> {
        let mut rows: Vec<String> = rows.into_iter().map(String::from).collect();
        rows.sort();
        rows
    }

    #[test]
    fn a_bounded_source_refuses_a_checkpoint_of_another_pattern() {
        let dir = directory(&[("a.txt", "1\n"), ("b.log", "2\n")]);
        let (log, mut from) = (Arc::default(), None);
        let source = |pattern| text_files(within(&dir, pattern)).bounded();
        assert_eq!(sorted(run(source("*.txt"), &log, &mut from).unwrap()), ["1"]);
        for pattern in ["*.log", "*", ""] {
            let error = run(source(pattern), &log, &mut from).unwrap_err();
            assert!(matches!(&error, SourceError::Setup(_)), "{error:?}");
            let error = error.to_string();
            for part in ["made for the pattern", "*.txt", "old pattern", ".uid(", "--drop-state"] {
                assert!(error.contains(part), "{error}");
            }
        }
        assert!(run(source("*.txt"), &log, &mut from).unwrap().is_empty());
    }

    #[test]
    fn a_list_of_files_of_an_earlier_version_tells_by_its_files() {
        let dir = directory(&[("a.txt", "1\n"), ("b.log", "2\n")]);
        let source = |pattern| text_files(within(&dir, pattern)).bounded();
        let old = || {
            let entry = serde_json::to_vec(&vec![(within(&dir, "a.txt"), 2)]).unwrap();
            Arc::new(Log(Mutex::new(vec![entry])))
        };
        let start = |partition| FileOffset { block: partition, byte: 0, file: String::new(), read: None };
        let from = || Some(vec![start(0), start(1)]);
        for pattern in ["*.txt", "", "a.txt", "?.t*"] {
            let log = old();
            assert_eq!(sorted(run(source(pattern), &log, &mut from()).unwrap()), ["1"], "{pattern}");
            // From now on it is known.
            let error = run(source("*.log"), &log, &mut from()).unwrap_err().to_string();
            assert!(error.contains("made for the pattern"), "{error}");
        }
        let error = run(source("*.log"), &old(), &mut from()).unwrap_err().to_string();
        assert!(error.contains("made for another pattern") && error.contains("a.txt"), "{error}");
    }

    #[test]
    fn unbounded_source_resumes_with_another_pattern_and_warns() {
        let dir = directory(&[("a.txt", "1\n"), ("b.txt", "2\n")]);
        let (log, mut from) = (Arc::default(), None);
        let mut go = |pattern: String| {
            let (rows, said) = warnings(|| run(text_files(pattern), &log, &mut from).unwrap());
            (sorted(rows), said)
        };
        assert_eq!(go(within(&dir, "a*")), (vec!["1".to_owned()], vec![]));
        // Wider: what was read is not read again.
        assert_eq!(go(within(&dir, "*.txt")), (vec!["2".to_owned()], vec![]));
        // In other words.
        assert_eq!(go(format!("{}/./*.txt", dir.path().display())), (vec![], vec![]));
        std::fs::write(dir.path().join("c.log"), "3\n").unwrap();
        std::fs::write(dir.path().join("d.txt"), "4\n").unwrap();
        let (rows, said) = go(within(&dir, "*.log"));
        assert_eq!(rows, ["3"]);
        assert!(said[0].contains("2 of the files") && said[0].contains("a.txt"), "{said:?}");
        assert_eq!(go(within(&dir, "*.log")), (vec![], vec![]));
    }

    #[test]
    fn files_that_are_cut_otherwise_are_refused() {
        let dir = directory(&[("a.txt", "n\n1\n")]);
        let (log, mut from) = (Arc::default(), None);
        run(text_files(within(&dir, "")), &log, &mut from).unwrap();
        let errors = [
            run(csv_files::<(u64,)>(within(&dir, "")), &log, &mut from.clone()).unwrap_err(),
            run(text_files(within(&dir, "")).follow(), &log, &mut from.clone()).unwrap_err(),
        ];
        for error in errors.map(|error| error.to_string()) {
            assert!(error.contains("blocks of 262144 bytes") && error.contains(".uid("), "{error}");
        }
    }

    #[test]
    fn what_a_source_leaves_out_is_said_once() {
        let dir = directory(&[("a.txt", "1\n")]);
        let (log, mut from) = (Arc::default(), None);
        let source = || text_files(within(&dir, "*.txt"));
        run(source().bounded(), &log, &mut from).unwrap();
        std::fs::write(dir.path().join("b.txt"), "2\n").unwrap();
        std::fs::write(dir.path().join("a.txt"), "1\n3\n").unwrap();
        let (rows, said) = warnings(|| run(source().bounded(), &log, &mut from).unwrap());
        assert!(rows.is_empty());
        assert!(said[0].contains("had 2 bytes when it was found, and has 4 now"), "{said:?}");
        assert!(said[1].contains("1 files are not read, such as") && said[1].contains("b.txt"), "{said:?}");
        let (_, said) = warnings(|| {
            let mut drive = Drive::new(source().partitions(1)).unwrap();
            for text in ["1\n3\n4\n", "1\n3\n4\n5\n", ""] {
                std::fs::write(dir.path().join("a.txt"), text).unwrap();
                drive.set_clock(1_000_000);
                let _ = drive.epoch(None);
            }
        });
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn files_of_one_listing_are_read_by_name_if_asked() {
        let dir = directory(&[("b.txt", "2\n"), ("a.txt", "1\n"), ("c.txt", "3\n")]);
        for (name, seconds) in [("b.txt", 100), ("c.txt", 200), ("a.txt", 300)] {
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::open(dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        let source = || text_files(within(&dir, "*.txt")).bounded().partitions(1);
        let read = |source| {
            let rows: Vec<crate::Text> = Drive::new(source).unwrap().read().unwrap().concat();
            rows.iter().map(|row| row.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(read(source()), ["2", "3", "1"]);
        assert_eq!(read(source().by_name()), ["1", "2", "3"]);
    }

    #[test]
    fn bounded_source_without_files_is_refused_unless_allowed() {
        let dir = directory(&[("a.txt", "1\n")]);
        let source = || text_files(within(&dir, "*.json")).bounded();
        let error = Drive::new(source()).and_then(|mut drive| drive.read()).unwrap_err().to_string();
        assert!(error.contains("no file matches") && error.contains(".allow_empty()"), "{error}");
        assert!(Drive::new(source().allow_empty()).unwrap().read().unwrap().concat().is_empty());
    }
}
