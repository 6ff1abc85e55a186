//! A file that rows are written to, as bytes: what JSON Lines and CSV have in common.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use tidemill_operators::{Epoch, SinkContext, SinkError};

use super::Pending;

#[derive(Debug)]
pub(super) struct OutFile {
    path: PathBuf,
    pub(super) append: bool,
    file: Option<File>,
    pending: Pending<u8>,
    /// The epoch that was shown last.
    shown: Option<Epoch>,
}

impl OutFile {
    pub(super) fn new(path: PathBuf) -> Self {
        OutFile { path, append: false, file: None, pending: Pending::new(), shown: None }
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether the file holds the rows of one epoch only.
    pub(super) fn replaces(&self) -> bool {
        self.pending.replaces()
    }

    /// Opens the file, with the directories above it. Returns whether it is empty.
    pub(super) fn open(&mut self, context: &SinkContext) -> Result<bool, SinkError> {
        self.pending.open(context);
        if self.append && self.replaces() {
            return Err(SinkError::Setup(format!(
                "{} cannot be appended to: every epoch outputs the complete table, which replaces the last one",
                self.name()
            )));
        }
        let failed = |error| SinkError::io(format!("cannot open {}", self.path.display()), error);
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut options = File::options();
        options.create(true).append(self.append).write(true).truncate(!self.append);
        let file = options.open(&self.path).map_err(failed)?;
        let empty = file.metadata().map_err(failed)?.len() == 0;
        self.file = Some(file);
        Ok(empty)
    }

    pub(super) fn write(&mut self, epoch: Epoch, mut bytes: Vec<u8>) -> Result<(), SinkError> {
        self.pending.add(epoch, &mut bytes).map_or(Ok(()), |bytes| self.show(epoch, &bytes))
    }

    pub(super) fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.pending.commit(epoch).into_iter().try_for_each(|(epoch, bytes)| self.show(epoch, &bytes))
    }

    pub(super) fn abort(&mut self) {
        self.pending.abort();
    }

    fn show(&mut self, epoch: Epoch, bytes: &[u8]) -> Result<(), SinkError> {
        let fresh = self.replaces() && self.shown != Some(epoch);
        let Some(file) = &mut self.file else {
            return Err(SinkError::Setup(format!("{} has not been opened", self.path.display())));
        };
        let mut written = Ok(());
        if fresh {
            written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map(drop);
        }
        written = written.and_then(|()| file.write_all(bytes)).and_then(|()| file.flush());
        written.map_err(|error| SinkError::io(format!("cannot write to {}", self.path.display()), error))?;
        self.shown = Some(epoch);
        Ok(())
    }
}
