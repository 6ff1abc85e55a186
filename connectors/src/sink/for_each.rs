//! A function of your own: for every row, or for all rows of an epoch.

use tidemill_operators::{Epoch, Sink, SinkContext, SinkError};

use super::Pending;

/// A sink that calls a function for every row; see [`for_each`] and [`try_for_each`].
pub struct ForEach<T> {
    pending: Pending<T>,
    call: Box<dyn FnMut(T) -> Result<(), SinkError> + Send>,
}

/// A sink that calls `call` for every row: when its epoch commits, in continuous mode at once.
///
/// ```
/// use tidemill_connectors::for_each;
/// use tidemill_operators::{Epoch, Sink};
///
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let mut sink = for_each(move |row: u32| drop(sender.send(row * 2)));
/// sink.write(Epoch(0), &mut vec![1, 2])?;
/// sink.commit(Epoch(0))?;
/// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2, 4]);
/// # Ok::<(), tidemill_operators::SinkError>(())
/// ```
pub fn for_each<T: Send + 'static>(mut call: impl FnMut(T) + Send + 'static) -> ForEach<T> {
    let call = move |row| {
        call(row);
        Ok(())
    };
    ForEach { pending: Pending::new(), call: Box::new(call) }
}

/// As [`for_each`], with a function that may fail; its error ends the query.
pub fn try_for_each<T, E>(mut call: impl FnMut(T) -> Result<(), E> + Send + 'static) -> ForEach<T>
where
    T: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let call = move |row| call(row).map_err(|error| SinkError::Other(error.into()));
    ForEach { pending: Pending::new(), call: Box::new(call) }
}

impl<T: Send + 'static> Sink<T> for ForEach<T> {
    fn describe(&self) -> String {
        "for each".to_owned()
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.pending.open(context);
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        self.pending.add(epoch, rows).into_iter().flatten().try_for_each(&mut self.call)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.pending.commit(epoch).into_iter().flat_map(|(_, rows)| rows).try_for_each(&mut self.call)
    }

    fn abort(&mut self) {
        self.pending.abort();
    }
}

/// A sink that calls a function for every epoch; see [`for_each_epoch`].
pub struct ForEachEpoch<T> {
    pending: Pending<T>,
    call: Box<dyn FnMut(Epoch, Vec<T>) -> Result<(), SinkError> + Send>,
}

/// A sink that calls `call` once for every epoch that has rows, with all of them, when it commits: in both modes.
///
/// After a crash the last epoch may be given again, with the same number and, in micro-batch, the same rows; who notes
/// the number together with what it writes can leave it out then.
///
/// ```
/// use tidemill_connectors::for_each_epoch;
/// use tidemill_operators::{Epoch, Sink};
///
/// let mut sink = for_each_epoch(|epoch, rows: Vec<u32>| {
///     println!("epoch {epoch}: {} rows", rows.len());
///     Ok::<(), std::io::Error>(())
/// });
/// sink.write(Epoch(0), &mut vec![1, 2])?;
/// sink.commit(Epoch(0))?;
/// # Ok::<(), tidemill_operators::SinkError>(())
/// ```
pub fn for_each_epoch<T, E>(
    mut call: impl FnMut(Epoch, Vec<T>) -> Result<(), E> + Send + 'static,
) -> ForEachEpoch<T>
where
    T: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let call = move |epoch, rows| call(epoch, rows).map_err(|error| SinkError::Other(error.into()));
    ForEachEpoch { pending: Pending::new(), call: Box::new(call) }
}

impl<T: Send + 'static> Sink<T> for ForEachEpoch<T> {
    fn describe(&self) -> String {
        "for each epoch".to_owned()
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        // Never opened as immediate, so every row waits for the commit.
        self.pending.add(epoch, rows);
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        for (epoch, rows) in self.pending.commit(epoch) {
            if !rows.is_empty() {
                (self.call)(epoch, rows)?;
            }
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.pending.abort();
    }
}

#[cfg(test)]
mod tests {
    use tidemill_operators::OutputMode;

    use super::super::testing::{open, write};
    use super::*;

    #[test]
    fn an_epoch_is_handed_over_once_and_whole_in_both_modes() {
        for immediate in [false, true] {
            let (sender, calls) = crossbeam_channel::unbounded();
            let mut sink = for_each_epoch(move |epoch, rows: Vec<u8>| sender.send((epoch, rows)));
            open(&mut sink, OutputMode::Append, immediate);
            write(&mut sink, 4, vec![1, 2]);
            write(&mut sink, 5, vec![]);
            sink.commit(Epoch(4)).unwrap();
            sink.commit(Epoch(5)).unwrap();
            assert_eq!(calls.try_iter().collect::<Vec<_>>(), [(Epoch(4), vec![1, 2])]);
        }
    }

    #[test]
    fn an_error_of_the_function_is_the_sinks() {
        let mut sink = try_for_each(|row: u8| row.checked_sub(1).map(drop).ok_or("zero"));
        open(&mut sink, OutputMode::Append, true);
        write(&mut sink, 0, vec![1]);
        assert_eq!(sink.write(Epoch(0), &mut vec![0]).unwrap_err().to_string(), "zero");
    }
}
