//! What a run does with the files that it finds in its directory: it finishes its own, and refuses those of others.

use std::path::Path;

use tidemill_operators::{Committed, Epoch, SinkContext, SinkError};

use super::super::claim::{self, Output, Owner};
use super::super::disk;
use super::name::{Kind, PartName};
use super::parts::{Files, Parts, Record, elsewhere, finish, gone, whole};

impl Parts {
    /// Looks through the directory before the run claims it. Returns the highest number of an execution in the names of
    /// files that were there before this query; its own runs are counted on from there.
    pub(super) fn inspect(
        &self,
        output: &Output,
        owner: &Owner,
        context: &SinkContext,
    ) -> Result<u64, SinkError> {
        let list = self.list()?;
        let before = list.iter().map(|(part, _)| part.execution + 1).max().unwrap_or(0);
        let before = if context.durable { before } else { 0 };
        let of = |part: &PartName, is: Kind, kind| is == kind && part.extension == self.extension;
        let some = |kind| list.iter().filter(move |(part, is)| of(part, *is, kind)).map(|(part, _)| part);
        // Without a commit of its own, the checkpoint knows of no finished file.
        let begins = context.durable && (context.committed.is_none() || context.fork);
        match owner {
            Owner::This { executions_before } => {
                let newer = some(Kind::Finished).filter(|part| part.execution > *executions_before);
                if begins {
                    refuse_newer(&self.dir, newer.collect(), None)?;
                }
                return Ok(*executions_before);
            }
            Owner::Other(claim) => {
                let is_fresh = context.committed.is_none() && !context.fork;
                let has_pending = list.iter().any(|(_, kind)| *kind == Kind::Pending);
                let has_some = has_pending || list.iter().any(|(_, kind)| *kind == Kind::Finished);
                // For a query that begins, the refusal below names the finished files and what to do.
                let finished_only = is_fresh && !has_pending && some(Kind::Finished).next().is_some();
                let may_begin = finished_only && (self.adds || context.durable);
                let may_add = is_fresh && !has_pending && self.adds;
                if has_some && !may_begin && !may_add && !context.take_over {
                    return Err(claim::refusal(output, claim, context));
                }
            }
            Owner::Unknown if begins => self.refuse_unfinished(some(Kind::Pending).collect())?,
            Owner::Unknown => {}
        }
        if begins && !self.adds {
            self.refuse_finished(some(Kind::Finished).collect())?;
        }
        Ok(before)
    }

    fn refuse_unfinished(&self, parts: Vec<&PartName>) -> Result<(), SinkError> {
        let Some(name) = parts.iter().map(|part| part.pending_name()).min() else { return Ok(()) };
        Err(SinkError::Setup(format!(
            "{} holds {} unfinished files of an earlier run, such as {name}, while the checkpoint of this query is \
             new: they may have rows that are committed in the checkpoint of that run. Start the query with that \
             checkpoint; or, if the files are not needed, delete them, or give the sink another directory",
            self.dir.display(),
            parts.len()
        )))
    }

    fn refuse_finished(&self, parts: Vec<&PartName>) -> Result<(), SinkError> {
        let Some(name) = parts.iter().map(|part| part.shown()).min() else { return Ok(()) };
        Err(SinkError::Setup(format!(
            "{} holds {} files of an earlier run, such as {name}, while the checkpoint of this query is new: all rows \
             would be written a second time. Start the query with the checkpoint that they belong to; or, \
             to start over, empty the directory or give the sink another one; or, to add rows to the existing files, \
             call `.add_to_existing()` on the sink",
            self.dir.display(),
            parts.len()
        )))
    }

    /// Finishes what was committed and deletes what was not, of this query's files only.
    pub(super) fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        let mut parts = self.list()?;
        parts.retain(|(part, _)| part.extension == self.extension);
        let markers = parts.iter().filter(|(part, kind)| *kind == Kind::Shown && self.is_ours(part));
        self.markers = markers.map(|(part, _)| part.clone()).collect();
        // What another query has prepared is in its own directory.
        let fork = self.context.fork;
        if let Some(Committed { epoch, prepared }) = committed.filter(|_| !fork) {
            let mut records = Vec::new();
            for prepared in prepared.iter().filter(|prepared| !prepared.is_nothing()) {
                records.push(prepared.read()?);
            }
            // Before anything is changed.
            self.check_commit(epoch, &records, &parts)?;
            for Record::V1(files) in &records {
                self.finish_all(files)?;
            }
        }
        self.former_markers = self.markers.len();
        // Whatever is still under way has not been committed.
        for (part, _) in parts.iter().filter(|(part, kind)| *kind == Kind::Pending && self.is_ours(part)) {
            let pending = part.pending_in(&self.dir);
            if pending.exists() {
                disk::delete(&pending)?;
            }
        }
        if self.context.durable { disk::sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Whether a file that a former run has left under way is to be dealt with here: each instance has its share of
    /// the former instances' files.
    fn is_ours(&self, part: &PartName) -> bool {
        part.worker % self.context.workers.max(1) as u64 == self.context.worker as u64
    }

    /// Refuses a commit that is older than the finished files: resuming from it would write their rows once more.
    fn check_commit(
        &self,
        epoch: Epoch,
        records: &[Record],
        parts: &[(PartName, Kind)],
    ) -> Result<(), SinkError> {
        let finished = || parts.iter().filter(|(_, kind)| *kind == Kind::Finished).map(|(part, _)| part);
        let mut newer = Vec::new();
        for record in records {
            let Record::V1(Files { worker, execution, next, parts, .. }) = record;
            newer.extend(finished().filter(|part| {
                (part.worker, part.execution) == (*worker, *execution) && part.sequence >= *next
            }));
            // Every instance would find the files of later runs; the first one always has a record.
            if *worker == 0 {
                let later =
                    |part: &&PartName| part.execution > *execution && part.execution != self.execution;
                newer.extend(finished().filter(later));
            }
            for (name, committed) in parts {
                let Some(part) = finished().find(|part| part.shown() == *name) else { continue };
                let path = part.shown_in(&self.dir);
                let there = std::fs::metadata(&path);
                let there = there.map_err(|error| disk::failed("look at", &path, error))?.len();
                if there > *committed {
                    newer.push(part);
                } else if there < *committed {
                    return Err(disk::lost(&path, *committed, there));
                }
            }
        }
        refuse_newer(&self.dir, newer, Some(epoch))
    }

    /// Gives files with committed rows their final names, unless that has been done.
    fn finish_all(&mut self, files: &Files) -> Result<(), SinkError> {
        let (dir, mut parts) = (files.dir.as_str(), Vec::new());
        for (name, committed) in &files.parts {
            let Some((part, Kind::Finished)) = PartName::parse(name) else {
                let reason =
                    "the checkpoint names it, but it is not the name of a file of this sink".to_owned();
                return Err(SinkError::Recovery { what: name.clone(), reason });
            };
            if dir != whole(&self.dir) && part.pending_in(Path::new(dir)).exists() {
                let reason = format!(
                    "it has committed rows that are not yet published, and the sink now writes to {}: let the sink \
                     write to the old directory once more and stop the query in order, which publishes them; or move all \
                     files, with the hidden ones, to the new one",
                    self.dir.display()
                );
                return Err(SinkError::Recovery { what: dir.to_owned(), reason });
            }
            let is_marked = |marker: &PartName| marker.is_beside(&part) && marker.sequence >= part.sequence;
            let was_shown = self.markers.iter().any(is_marked);
            let is_there = part.pending_in(&self.dir).exists() || part.shown_in(&self.dir).exists();
            if !is_there && !was_shown {
                return Err(match dir == whole(&self.dir) {
                    true => gone(&self.dir, &part, *committed),
                    false => elsewhere(dir, &self.dir, &part),
                });
            }
            parts.push((part, *committed));
        }
        if let Some((last, _)) = parts.iter().max_by_key(|(part, _)| part.sequence) {
            self.mark(last)?;
        }
        for (part, committed) in &parts {
            // One that is not under way has its final name, or has even been taken away by a reader who was done with it.
            finish(&self.dir, part, *committed)?;
        }
        Ok(())
    }
}

fn refuse_newer(dir: &Path, mut parts: Vec<&PartName>, last: Option<Epoch>) -> Result<(), SinkError> {
    parts.sort_by_key(|part| part.shown());
    parts.dedup();
    let Some(first) = parts.first() else { return Ok(()) };
    let last =
        last.map_or("it has no commit".to_owned(), |epoch| format!("its last commit is epoch {epoch}"));
    Err(SinkError::Recovery {
        what: dir.display().to_string(),
        reason: format!(
            "{} of its finished files, such as {}, have rows that are newer than the checkpoint ({last}): this run would write \
             them once more. The checkpoint is older than its results: it was restored from a copy, or has lost the end \
             of its log. Start with the checkpoint that belongs to the files; or delete these files first, so that \
             this run writes their rows again",
            parts.len(),
            first.shown()
        ),
    })
}
