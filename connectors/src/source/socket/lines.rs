//! Reads lines from a stream and hands them over, as soon as they are there.

use std::io::Read;

use memchr::memchr;
use tidemill_operators::SourceError;

use super::{Feed, Message};

const BUFFER: usize = 64 * 1024;

/// Why reading has stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The peer has closed the connection.
    Closed,
    /// Nobody takes the lines any more.
    Unwanted,
    /// The connection, or what came over it, is broken.
    Failed(SourceError),
}

/// Reads lines until the stream ends. A last line without terminator counts.
pub(super) fn read_lines(stream: &mut impl Read, peer: &str, feed: &Feed<Message>) -> Stopped {
    let mut buffer = vec![0; BUFFER];
    // The beginning of a line whose end has not come yet, and where in the stream it stands.
    let mut begun: Vec<u8> = Vec::new();
    let mut at = 0;
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Stopped::Failed(SourceError::io(format!("cannot read from {peer}"), error)),
        };
        let mut rest = buffer.get(..read).unwrap_or_default();
        while let Some(end) = memchr(b'\n', rest) {
            let (line, next) = rest.split_at(end);
            rest = next.get(1..).unwrap_or_default();
            begun.extend_from_slice(line);
            let length = begun.len() as u64 + 1;
            if begun.last() == Some(&b'\r') {
                begun.pop();
            }
            if let Err(stopped) = hand_over(std::mem::take(&mut begun), peer, at, feed) {
                return stopped;
            }
            at += length;
        }
        begun.extend_from_slice(rest);
        feed.ring();
    }
    if !begun.is_empty() {
        if let Err(stopped) = hand_over(begun, peer, at, feed) {
            return stopped;
        }
        feed.ring();
    }
    Stopped::Closed
}

fn hand_over(line: Vec<u8>, peer: &str, at: u64, feed: &Feed<Message>) -> Result<(), Stopped> {
    let line = String::from_utf8(line).map_err(|error| {
        let byte = at + error.utf8_error().valid_up_to() as u64;
        Stopped::Failed(SourceError::BadRecord {
            place: format!("{peer}, byte {byte}"),
            reason: "the line is not UTF-8".to_owned(),
        })
    })?;
    feed.push(Ok(line)).map_err(|_| Stopped::Unwanted)
}

/// Hands an error over. If nobody takes it any more, nobody misses it.
pub(super) fn fail(feed: &Feed<Message>, error: SourceError) {
    let _ = feed.push(Err(error));
    feed.ring();
}
