//! Finds what changes in a large directory without listing it at every look.
//!
//! Where the system reports changes (inotify), a look reads the reports, and looks at the files that they name. Besides, a
//! thread lists the directory: at once if reports were lost, soon if the directory has changed without a report (as on
//! network file systems), and otherwise so rarely that it takes less than half a percent of a core.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, TryRecvError};
use tidemill_operators::{SourceError, files};

use super::catalogue::Settings;
use super::identity::FileId;
use super::name::shown;
use super::pattern::{self, Listing};

/// A directory of more entries is watched; one of fewer is listed at every look.
const FEW: usize = 128;
/// How many files a look examines itself.
const MOST: usize = 256;

#[cfg(test)]
thread_local! {
    /// Whether the system reports nothing to this thread.
    pub(super) static DEAF: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The files of a listing: their lengths, and when they were changed.
type Files = HashMap<PathBuf, (u64, SystemTime)>;

/// What the thread has listed.
struct Listed {
    /// The files that have changed since the listing before.
    changes: Result<Listing, SourceError>,
    files: Files,
    took: Duration,
}

/// When the directory is to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// In case something was not reported.
    Rarely,
    /// It has changed, and no report says how.
    Soon,
    /// Reports were lost.
    Now,
}

impl Due {
    /// For how long no listing starts after one, in units of the time that one takes.
    fn rest(self) -> u32 {
        match self {
            Due::Rarely => 250,
            Due::Soon => 20,
            Due::Now => 4,
        }
    }
}

/// A directory that is watched.
pub(super) struct Watch {
    settings: Settings,
    directory: PathBuf,
    glob: String,
    /// Which directory it is, and when it was changed.
    state: Option<(Option<FileId>, SystemTime)>,
    reports: Option<Reports>,
    /// Files that are perhaps still being written, and since when they have been known.
    fresh: HashMap<OsString, Instant>,
    files: Files,
    listing: Option<Receiver<Listed>>,
    due: Due,
    listed: Instant,
    took: Duration,
    has_warned: bool,
}

impl Watch {
    /// Watches the directory of a listing that took that long; nothing if it is small.
    pub(super) fn new(settings: &Settings, listing: &Listing, took: Duration) -> Option<Watch> {
        if listing.entries <= FEW || files::is_simulated() {
            return None;
        }
        let (directory, glob) = pattern::directory(&settings.pattern)?;
        let files = of(listing);
        let mut watch = Watch {
            settings: settings.clone(),
            directory,
            glob,
            state: None,
            reports: None,
            fresh: HashMap::new(),
            files,
            listing: None,
            // For what has changed since the listing began.
            due: Due::Now,
            listed: Instant::now(),
            took,
            has_warned: false,
        };
        watch.state = watch.state_now();
        watch.begin();
        Some(watch)
    }

    /// Returns the files that have appeared or changed since the last call, as far as that is known.
    pub(super) fn changes(&mut self) -> Result<Listing, SourceError> {
        let mut changes = self.listed()?;
        let state = self.state_now();
        let before = std::mem::replace(&mut self.state, state);
        if before.map(|(id, _)| id) != self.state.map(|(id, _)| id) {
            // Another directory under the same name, or none.
            (self.reports, self.due) = (None, Due::Now);
            // Before the listing that this asks for, which perhaps waits for one that is under way.
            self.begin();
        }
        let mut news = News::default();
        if let Some(reports) = &self.reports {
            reports.read(&mut news);
        }
        if news.is_lost {
            self.reports = None;
        }
        if news.is_incomplete || news.is_lost {
            self.due = Due::Now;
        } else if before != self.state && !news.is_any {
            self.note_silence();
        }
        for name in self.ready(news) {
            if pattern::is_wanted(&self.glob, &self.settings.exclude, &name.to_string_lossy()) {
                let failed = |error| SourceError::io(format!("cannot list {}", self.settings.pattern), error);
                changes.examine(self.directory.join(&name)).map_err(failed)?;
            }
        }
        changes.sort();
        let rest = self.took.saturating_mul(self.due.rest()).max(self.settings.interval);
        if self.listing.is_none() && self.listed.elapsed() >= rest {
            self.begin();
            self.list()?;
        }
        Ok(changes)
    }

    fn state_now(&self) -> Option<(Option<FileId>, SystemTime)> {
        pattern::state(&self.directory.metadata().ok()?)
    }

    /// Asks for reports, unless there are some.
    fn begin(&mut self) {
        if self.reports.is_some() {
            return;
        }
        let reports = Reports::begin(&self.directory, self.settings.follow);
        #[cfg(test)]
        let reports = if DEAF.get() { Err(std::io::Error::other("none are left")) } else { reports };
        match reports {
            Ok(reports) => self.reports = Some(reports),
            // While there is no such directory, there is nothing to find.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => self.warn(&format!(
                "the system does not report new files ({error}; `sysctl fs.inotify` shows the limits)"
            )),
            Err(_) => {}
        }
    }

    fn note_silence(&mut self) {
        self.due = self.due.max(Due::Soon);
        if self.reports.is_some() {
            self.warn("its file system has not reported a change, as network file systems do not");
        }
    }

    /// Warns, once, that new files are found late.
    fn warn(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let rest = self.took.saturating_mul(Due::Soon.rest()).max(self.settings.interval);
            tracing::warn!(
                directory = %shown(&self.directory),
                "{why}: the directory is listed instead, which takes {:.0?}. A separate thread lists it, with pauses \
                 of {:.0?}, so new files may be found later than `poll_interval`. Listing takes less time with fewer \
                 files in the directory",
                self.took,
                rest
            );
        }
    }

    /// Returns the names to be looked at: a file that has appeared once its writer has closed it, or after some time.
    fn ready(&mut self, news: News) -> HashSet<OsString> {
        let (now, grace) = (Instant::now(), self.settings.interval / 2);
        let mut ready = news.ready;
        for name in news.fresh {
            self.fresh.entry(name).or_insert(now);
        }
        self.fresh.retain(|name, since| {
            let waits = !ready.contains(name) && now.duration_since(*since) < grace;
            if !waits {
                ready.insert(name.clone());
            }
            waits
        });
        ready
    }

    /// Takes what the thread has listed, if it has finished.
    fn listed(&mut self) -> Result<Listing, SourceError> {
        let Some(listing) = &self.listing else { return Ok(Listing::default()) };
        match listing.try_recv() {
            Err(TryRecvError::Empty) => Ok(Listing::default()),
            Err(TryRecvError::Disconnected) => Err(SourceError::Other(
                "the thread that lists files panicked: please report it".to_owned().into(),
            )),
            Ok(Listed { changes, files, took }) => {
                (self.listing, self.listed) = (None, Instant::now());
                (self.files, self.took) = (files, took);
                match changes {
                    // There is no such directory for now, as when it is replaced.
                    Err(SourceError::Setup(_)) => Ok(Listing::default()),
                    changes => changes,
                }
            }
        }
    }

    /// Lists the directory on a thread.
    fn list(&mut self) -> Result<(), SourceError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let Settings { pattern, exclude, follow, .. } = self.settings.clone();
        let grace = self.settings.interval / 2;
        let known = std::mem::take(&mut self.files);
        let run = move || {
            let begun = Instant::now();
            let is_new = |found: &pattern::Found| !known.contains_key(&found.path);
            let mut listing = pattern::list_in_order(&mut || pattern::list(&pattern, &exclude), &is_new);
            let took = begun.elapsed();
            if let Ok(listing) = &mut listing
                && !follow
            {
                listing.wait_for(grace, &is_new);
            }
            let files = listing.as_ref().map(of).unwrap_or_default();
            let changes = listing.map(|mut listing| {
                listing.files.retain(|found| known.get(&found.path) != Some(&(found.len, found.changed)));
                listing
            });
            // If the query has ended, it is not needed.
            let _ = sender.send(Listed { changes, files, took });
        };
        let spawned = std::thread::Builder::new().name("tidemill-listing".to_owned()).spawn(run);
        spawned.map_err(|error| SourceError::io("cannot start the thread that lists files", error))?;
        (self.listing, self.due) = (Some(receiver), Due::Rarely);
        Ok(())
    }
}

fn of(listing: &Listing) -> Files {
    listing.files.iter().map(|found| (found.path.clone(), (found.len, found.changed))).collect()
}

/// What has been reported of a directory.
#[derive(Default)]
struct News {
    /// Whether anything has.
    is_any: bool,
    /// Whether more has changed than was reported.
    is_incomplete: bool,
    /// Whether there will be no more reports.
    is_lost: bool,
    /// The names of files that have been written or renamed.
    ready: HashSet<OsString>,
    /// The names that have appeared.
    fresh: HashSet<OsString>,
}

#[cfg(target_os = "linux")]
mod reports {
    use std::ffi::OsStr;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
    use rustix::io::Errno;

    use super::{MOST, News};

    /// The reports of the system about a directory.
    pub(super) struct Reports {
        inotify: OwnedFd,
        /// Whether files are followed: one need not be whole to be read.
        follow: bool,
    }

    impl Reports {
        pub(super) fn begin(directory: &Path, follow: bool) -> io::Result<Reports> {
            let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let mut what = WatchFlags::CREATE
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVE
                | WatchFlags::DELETE
                | WatchFlags::ATTRIB
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            if follow {
                what |= WatchFlags::MODIFY;
            }
            inotify::add_watch(&inotify, directory, what)?;
            Ok(Reports { inotify, follow })
        }

        /// Takes what has been reported since the last call.
        pub(super) fn read(&self, news: &mut News) {
            let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 16 * 1024];
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => return,
                    Err(_) => {
                        news.is_lost = true;
                        return;
                    }
                };
                news.is_any = true;
                let what = event.events();
                news.is_lost |= what.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT);
                let Some(name) = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) else {
                    // Of the directory itself, or of reports that were lost.
                    news.is_incomplete = true;
                    continue;
                };
                if what.contains(ReadFlags::ISDIR)
                    || what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM)
                {
                    continue;
                }
                let is_whole = self.follow || !what.intersects(ReadFlags::CREATE | ReadFlags::ATTRIB);
                if news.ready.len().max(news.fresh.len()) >= MOST {
                    (news.is_incomplete, news.ready, news.fresh) =
                        (true, Default::default(), Default::default());
                } else if is_whole {
                    news.fresh.remove(name);
                    news.ready.insert(name.to_owned());
                } else if what.contains(ReadFlags::CREATE) && !news.ready.contains(name) {
                    news.fresh.insert(name.to_owned());
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod reports {
    use std::io;
    use std::path::Path;

    use super::News;

    /// There are none.
    pub(super) enum Reports {}

    impl Reports {
        pub(super) fn begin(_directory: &Path, _follow: bool) -> io::Result<Reports> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn read(&self, _news: &mut News) {
            match *self {}
        }
    }
}

use reports::Reports;
