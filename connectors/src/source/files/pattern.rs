//! Which files a pattern stands for: a directory, one file, or a glob in the last part of a path.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidemill_operators::{SourceError, files};
use wildmatch::WildMatch;

use super::identity::FileId;
use super::name::shown;

/// A file that was found.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    modified: SystemTime,
    /// When it was last written to or renamed, which no program can set; where a system does not keep that, `modified`.
    pub(super) changed: SystemTime,
    pub(super) id: Option<FileId>,
}

/// The files that a pattern stands for now.
#[derive(Default)]
pub(super) struct Listing {
    /// The oldest first, those of one age by name.
    pub(super) files: Vec<Found>,
    /// Pipes, sockets and devices among them, each with what it is.
    pub(super) special: Vec<(PathBuf, &'static str)>,
    /// How many entries the directory has.
    pub(super) entries: usize,
}

/// What a pattern stands for.
enum Target<'a> {
    File(Metadata),
    /// The names in a directory that match a glob.
    Names(&'a Path, &'a str),
}

fn target(pattern: &str) -> Result<Target<'_>, SourceError> {
    let path = Path::new(pattern);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(Target::Names(path, "*")),
        Ok(metadata) => Ok(Target::File(metadata)),
        Err(error) => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.contains(['*', '?']) {
                return Err(missing(pattern, path, None, error));
            }
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(Target::Names(parent.unwrap_or(Path::new(".")), name))
        }
    }
}

/// Returns the directory that a pattern lists, and the glob of names; nothing if it is a file.
pub(super) fn directory(pattern: &str) -> Option<(PathBuf, String)> {
    match target(pattern) {
        Ok(Target::Names(directory, glob)) => Some((directory.to_owned(), glob.to_owned())),
        _ => None,
    }
}

/// Returns which directory it is, and when it was changed.
pub(super) fn state(directory: &Metadata) -> Option<(Option<FileId>, SystemTime)> {
    Some((FileId::of(directory), changed(directory).or(directory.modified().ok())?))
}

/// Whether a name in the directory is one of those that the pattern stands for.
pub(super) fn is_wanted(glob: &str, exclude: &[String], name: &str) -> bool {
    !name.starts_with(['.', '_']) && matches(glob, name) && !exclude.iter().any(|glob| matches(glob, name))
}

/// Lists the files that the pattern stands for now. Names that begin with `.` or `_` are hidden, unless the pattern is
/// that very file. Those that match one of `exclude` are left out.
pub(super) fn list(pattern: &str, exclude: &[String]) -> Result<Listing, SourceError> {
    let path = Path::new(pattern);
    let failed = |error| SourceError::io(format!("cannot list {pattern}"), error);
    let mut listing = Listing::default();
    let (directory, glob) = match target(pattern)? {
        Target::Names(directory, glob) => (directory, glob),
        Target::File(metadata) => {
            if let Some(kind) = special(&metadata) {
                return Err(unreadable(path, kind));
            }
            listing.files.push(file(path.to_owned(), &metadata).map_err(failed)?);
            return Ok(listing);
        }
    };
    let entries = files::list(directory).map_err(|error| missing(pattern, path, Some(directory), error))?;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        listing.entries += 1;
        if is_wanted(glob, exclude, &entry.file_name().to_string_lossy()) {
            listing.examine(entry.path()).map_err(failed)?;
        }
    }
    listing.sort();
    Ok(listing)
}

impl Listing {
    /// Adds what is at a path, if that is a file, or is worth a warning.
    pub(super) fn examine(&mut self, path: PathBuf) -> std::io::Result<()> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => self.files.push(file(path, &metadata)?),
            Ok(metadata) => self.special.extend(special(&metadata).map(|kind| (path, kind))),
            // Gone since it was listed, or a link to what is not there.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            Err(_) if path.is_symlink() => {
                self.special.push((path, "a symbolic link that cannot be followed (to itself, perhaps)"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks once more, after that time, at new files that were changed shortly before: they may have been half written.
    pub(super) fn wait_for(&mut self, grace: Duration, is_new: &dyn Fn(&Found) -> bool) {
        let is_young = |found: &Found| found.changed.elapsed().is_ok_and(|age| age < grace) && is_new(found);
        let (young, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files).into_iter().partition(is_young);
        self.files = rest;
        if !young.is_empty() {
            std::thread::sleep(grace);
            for found in young {
                // A file that cannot be read any more fails the next listing.
                let _ = self.examine(found.path);
            }
            self.sort();
        }
    }

    /// Puts the oldest files first.
    pub(super) fn sort(&mut self) {
        self.files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    }
}

/// Lists files, of which the new ones come in the order in which they appeared.
///
/// A directory is not listed at one instant: a listing may show a file and miss one that appeared before it. So what a
/// first listing shows is looked for again, and the files that appeared after the youngest of it wait for the next call.
pub(super) fn list_in_order(
    list: &mut dyn FnMut() -> Result<Listing, SourceError>,
    is_new: &dyn Fn(&Found) -> bool,
) -> Result<Listing, SourceError> {
    let first = list()?;
    let Some(youngest) = first.files.iter().filter(|found| is_new(found)).map(|found| found.changed).max()
    else {
        return Ok(first);
    };
    let mut second = list()?;
    // What has been written to or renamed since the first listing is not younger for that.
    let shown: HashSet<PathBuf> = first.files.into_iter().map(|found| found.path).collect();
    second.files.retain(|found| found.changed <= youngest || !is_new(found) || shown.contains(&found.path));
    Ok(second)
}

/// Returns what a thing is that is neither a regular file nor a directory.
fn special(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_dir() {
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kinds = [
            (kind.is_fifo(), "a pipe (FIFO)"),
            (kind.is_socket(), "a socket"),
            (kind.is_char_device(), "a character device"),
            (kind.is_block_device(), "a block device"),
        ];
        if let Some((_, name)) = kinds.into_iter().find(|(is, _)| *is) {
            return Some(name);
        }
    }
    Some("no regular file")
}

/// Refuses a file whose reported length does not bound its content, such as one of `/proc`: it reports 0 bytes and can be
/// read all the same. Its content is made at each read, so that nothing could be read again.
pub(super) fn refuse_unbounded(found: &Found) -> Result<(), SourceError> {
    if found.len > 0 {
        return Ok(());
    }
    // What cannot be opened has its error where it is read.
    let Ok(mut file) = files::open_to_read(&found.path) else { return Ok(()) };
    let read = file.read(&mut [0]).unwrap_or_default();
    // Else it has been written to since it was listed.
    if read > 0 && file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        return Err(unreadable(
            &found.path,
            "a file that reports a length of 0 bytes but has content, as those of /proc do",
        ));
    }
    Ok(())
}

fn unreadable(path: &Path, kind: &str) -> SourceError {
    let path = shown(path);
    SourceError::Setup(format!(
        "{path} is {kind}: a source of files reads regular files only, which have a length and can be read again after a \
         failure. Copy it to a regular file first (`cat {path} > copy`), or read it on a thread of your own that sends its \
         records into a `channel` source"
    ))
}

/// Returns the error for a pattern whose file or directory cannot be opened.
///
/// A path that does not exist is a [`SourceError::Setup`]: at the start a mistake in the pattern, later perhaps a directory
/// that is about to be created again. Any other failure, such as missing permissions, is a [`SourceError::Io`].
fn missing(pattern: &str, path: &Path, directory: Option<&Path>, error: std::io::Error) -> SourceError {
    let what = directory.map(|directory| format!("cannot list {}: ", shown(directory))).unwrap_or_default();
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        return SourceError::io(format!("cannot list {pattern}"), error);
    }
    let globbed = path.parent().is_some_and(|parent| parent.to_string_lossy().contains(['*', '?']));
    let advice = if globbed { ": `*` and `?` are allowed only in the last part of a path" } else { "" };
    SourceError::Setup(format!("no input at {pattern}: {what}{error}{advice}"))
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
    let modified = metadata.modified()?;
    let changed = changed(metadata).unwrap_or(modified);
    Ok(Found { path, len: metadata.len(), modified, changed, id: FileId::of(metadata) })
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let since = Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) -> Option<SystemTime> {
    None
}

/// Whether a name matches a glob, where `*` stands for any characters and `?` for one.
///
/// Not with `glob` or `globset`: there a name with brackets is a class of characters, and `**` an error.
fn matches(glob: &str, name: &str) -> bool {
    WildMatch::new(glob).matches(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_missed_by_listing_keeps_its_place() {
        let found = |name: &str, changed| {
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed);
            Found { path: PathBuf::from(name), len: 1, modified: changed, changed, id: None }
        };
        // The first listing shows c, which appeared after a and b, and misses these; d appears during the second one.
        let second = vec![found("b", 10), found("a", 11), found("d", 13), found("c", 14), found("known", 15)];
        let mut listings = vec![vec![found("c", 12)], second].into_iter();
        let mut list = || Ok(Listing { files: listings.next().unwrap(), ..Listing::default() });
        let listing = list_in_order(&mut list, &|found| !found.path.ends_with("known")).unwrap();
        let names: Vec<_> = listing.files.iter().map(|found| found.path.to_str().unwrap()).collect();
        assert_eq!(names, ["b", "a", "c", "known"]);
        assert!(listings.next().is_none());
    }

    #[test]
    fn a_glob_matches_whole_names() {
        for (glob, name) in [
            ("*.txt", "a.txt"),
            ("*", ""),
            ("a?c*", "aäc"),
            ("a*a", "aba"),
            ("*[1].txt", "a[1].txt"),
            ("**", "a"),
        ] {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in
            [("*.txt", "a.txt.gz"), ("?", ""), ("a*a", "a"), ("", "x"), ("*[1].txt", "1.txt"), ("?", "äb")]
        {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }

    #[test]
    fn glob_of_many_stars_is_matched_without_trying_all_ways() {
        // Every way to divide 60 letters among 20 stars: more than a computer tries in a year.
        let (glob, name) = (format!("{}b", "*a".repeat(20)), "a".repeat(60));
        assert!(!matches(&glob, &name));
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
        let found = list(dir.path().join("*.txt").to_str().unwrap(), &[]).unwrap().files;
        let names: Vec<_> = found.iter().map(|found| found.path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.txt", "b.txt"]);
        assert_eq!(list(dir.path().to_str().unwrap(), &[]).unwrap().files.len(), 3);
        let excluded = ["b*".to_owned(), "*.csv".to_owned()];
        assert_eq!(list(dir.path().to_str().unwrap(), &excluded).unwrap().files.len(), 1);
    }
}
