//! The names of the files in a directory of results: while they are written, and afterwards.

use std::path::{Path, PathBuf};

/// `part-<worker>-<execution>-<sequence>.<extension>`, and hidden names made of it, which globs pass over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartName {
    pub(super) worker: u64,
    pub(super) execution: u64,
    pub(super) sequence: u64,
    pub(super) extension: String,
}

/// What a name says about a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is being written: `.part-….pending`.
    Pending,
    /// It is finished, for readers.
    Finished,
    /// Parts up to this one, of its worker and execution, have been or are being given their final names:
    /// `.part-….shown`, an empty file. So a part that is missing has been taken away by a reader.
    Shown,
}

impl PartName {
    /// The meaning of a name, if it is one of ours.
    pub(super) fn parse(name: &str) -> Option<(PartName, Kind)> {
        let hidden = |ending| name.strip_prefix('.').and_then(|name| name.strip_suffix(ending));
        let (plain, kind) = match (hidden(".pending"), hidden(".shown")) {
            (Some(plain), _) => (plain, Kind::Pending),
            (None, Some(plain)) => (plain, Kind::Shown),
            (None, None) => (name, Kind::Finished),
        };
        let (stem, extension) = plain.strip_prefix("part-")?.split_once('.')?;
        let mut numbers = stem.split('-').map(|number| number.parse().ok());
        let (worker, execution, sequence) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let is_plain = numbers.next().is_none() && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let part = PartName { worker, execution, sequence, extension: extension.to_owned() };
        is_plain.then_some((part, kind))
    }

    /// The name under which readers find the file.
    pub(super) fn shown(&self) -> String {
        let PartName { worker, execution, sequence, extension } = self;
        format!("part-{worker}-{execution}-{sequence:06}.{extension}")
    }

    pub(super) fn shown_in(&self, dir: &Path) -> PathBuf {
        dir.join(self.shown())
    }

    /// The name while it is under way.
    pub(super) fn pending_name(&self) -> String {
        format!(".{}.pending", self.shown())
    }

    pub(super) fn pending_in(&self, dir: &Path) -> PathBuf {
        dir.join(self.pending_name())
    }

    /// The file that says that this part and those before it were given their final names.
    pub(super) fn marker_in(&self, dir: &Path) -> PathBuf {
        dir.join(format!(".{}.shown", self.shown()))
    }

    /// Whether both are of one worker in one run.
    pub(super) fn is_beside(&self, other: &PartName) -> bool {
        (self.worker, self.execution, &self.extension) == (other.worker, other.execution, &other.extension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let part = PartName { worker: 3, execution: 12, sequence: 4, extension: "jsonl".into() };
        assert_eq!(part.shown(), "part-3-12-000004.jsonl");
        assert_eq!(PartName::parse(&part.shown()), Some((part.clone(), Kind::Finished)));
        let pending = part.pending_in(Path::new(""));
        assert_eq!(pending.to_str(), Some(".part-3-12-000004.jsonl.pending"));
        assert_eq!(PartName::parse(".part-3-12-000004.jsonl.pending"), Some((part.clone(), Kind::Pending)));
        assert_eq!(PartName::parse(".part-3-12-000004.jsonl.shown"), Some((part, Kind::Shown)));
    }

    #[test]
    fn other_files_are_not_ours() {
        for name in
            ["part-1-2.jsonl", "part-1-2-3-4.csv", "part-1-2-x.csv", "data.csv", "part-1-2-3./../x", "part"]
        {
            assert_eq!(PartName::parse(name), None, "{name}");
        }
    }
}
