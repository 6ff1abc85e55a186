//! The names of the files in a directory of results: what they are while they are written, and afterwards.

use std::path::{Path, PathBuf};

/// `part-<worker>-<execution>-<sequence>.<extension>`; under way `.part-….pending`, which globs pass over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartName {
    pub(super) worker: u64,
    pub(super) execution: u64,
    pub(super) sequence: u64,
    pub(super) extension: String,
}

impl PartName {
    /// What a name means; whether it is one of a file under way is said beside it.
    pub(super) fn parse(name: &str) -> Option<(PartName, bool)> {
        let under_way = name.strip_prefix('.').and_then(|name| name.strip_suffix(".pending"));
        let (stem, extension) = under_way.unwrap_or(name).strip_prefix("part-")?.split_once('.')?;
        let mut numbers = stem.split('-').map(|number| number.parse().ok());
        let (worker, execution, sequence) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let plain = numbers.next().is_none() && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let part = PartName { worker, execution, sequence, extension: extension.to_owned() };
        plain.then_some((part, under_way.is_some()))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let part = PartName { worker: 3, execution: 12, sequence: 4, extension: "jsonl".into() };
        assert_eq!(part.shown(), "part-3-12-000004.jsonl");
        assert_eq!(PartName::parse(&part.shown()), Some((part.clone(), false)));
        let pending = part.pending_in(Path::new(""));
        assert_eq!(pending.to_str(), Some(".part-3-12-000004.jsonl.pending"));
        assert_eq!(PartName::parse(".part-3-12-000004.jsonl.pending"), Some((part, true)));
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
