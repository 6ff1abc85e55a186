//! Which files a pattern stands for: a directory, one file, or a glob in the last part of a path.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tidemill_operators::SourceError;

/// A file that was found.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    modified: SystemTime,
}

/// The files that the pattern stands for now, the oldest first, those of one age by name. Names that begin with `.` or
/// `_` are hidden, unless the pattern is that very file.
pub(super) fn list(pattern: &str) -> Result<Vec<Found>, SourceError> {
    let path = Path::new(pattern);
    let failed = |error| SourceError::io(format!("cannot list {pattern}"), error);
    let mut found = Vec::new();
    let (directory, name) = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => (path, "*"),
        Ok(metadata) => return Ok(vec![file(path.to_owned(), &metadata).map_err(failed)?]),
        Err(error) => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.contains(['*', '?']) {
                return Err(missing(pattern, path, error.to_string()));
            }
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), name)
        }
    };
    let entries = directory
        .read_dir()
        .map_err(|error| missing(pattern, path, format!("cannot list {}: {error}", directory.display())))?;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let file_name = entry.file_name();
        let text = file_name.to_string_lossy();
        if text.starts_with(['.', '_']) || !matches(name, &text) {
            continue;
        }
        match entry.path().metadata() {
            Ok(metadata) if metadata.is_file() => found.push(file(entry.path(), &metadata).map_err(failed)?),
            Ok(_) => {}
            // Gone since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    found.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    Ok(found)
}

fn missing(pattern: &str, path: &Path, error: String) -> SourceError {
    let globbed = path.parent().is_some_and(|parent| parent.to_string_lossy().contains(['*', '?']));
    let advice = if globbed { ": `*` and `?` may stand in the last part of a path only" } else { "" };
    SourceError::Setup(format!("no input at {pattern}: {error}{advice}"))
}

/// Whether a file of that path may be one that the pattern stands for, as far as names tell.
pub(super) fn admits(pattern: &Path, path: &Path) -> bool {
    let Some(directory) = path.parent() else { return path == pattern };
    let globbed = || {
        let (glob, name) = (pattern.file_name()?.to_str()?, path.file_name()?.to_string_lossy());
        (pattern.parent() == Some(directory)).then(|| matches(glob, &name))
    };
    path == pattern || directory == pattern || globbed().unwrap_or(false)
}

fn file(path: PathBuf, metadata: &Metadata) -> std::io::Result<Found> {
    Ok(Found { path, len: metadata.len(), modified: metadata.modified()? })
}

/// Whether a name matches a glob, where `*` stands for any characters and `?` for one.
fn matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.chars();
    match parts.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = parts.as_str();
            name.char_indices().any(|(at, _)| name.get(at..).is_some_and(|tail| matches(rest, tail)))
                || matches(rest, "")
        }
        Some(wanted) => {
            let mut letters = name.chars();
            letters.next().is_some_and(|letter| wanted == '?' || wanted == letter)
                && matches(parts.as_str(), letters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_whole_names() {
        for (glob, name) in
            [("*.txt", "a.txt"), ("*", ""), ("a?c*", "äbc".replace('ä', "a").as_str()), ("a*a", "aba")]
        {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in [("*.txt", "a.txt.gz"), ("?", ""), ("a*a", "a"), ("", "x")] {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }

    #[test]
    fn hidden_files_and_directories_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "_tmp.txt", ".x.txt", "c.csv"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(dir.path().join("d.txt")).unwrap();
        let time = SystemTime::UNIX_EPOCH;
        for name in ["b.txt", "a.txt"] {
            std::fs::File::open(dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        let found = list(dir.path().join("*.txt").to_str().unwrap()).unwrap();
        let names: Vec<_> = found.iter().map(|found| found.path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.txt", "b.txt"]);
        assert_eq!(list(dir.path().to_str().unwrap()).unwrap().len(), 3);
    }
}
