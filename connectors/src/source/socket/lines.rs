//! Reads lines from a stream and hands them over, as soon as they are there.

use std::io::Read;

use memchr::memchr;
use tidemill_operators::SourceError;

use super::{Feed, Message};

const BUFFER: usize = 64 * 1024;

/// What counts as a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// How many bytes it may have, without its end.
    pub(super) max: usize,
    /// Whether bytes that are not UTF-8 are replaced.
    pub(super) lossy: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { max: 16 << 20, lossy: false }
    }
}

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
pub(super) fn read_lines(stream: &mut impl Read, peer: &str, lines: Lines, feed: &Feed<Message>) -> Stopped {
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
            if is_too_long(&begun, line, lines) {
                return too_long(peer, at, lines);
            }
            begun.extend_from_slice(line);
            let length = begun.len() as u64 + 1;
            if begun.last() == Some(&b'\r') {
                begun.pop();
            }
            if let Err(stopped) = hand_over(std::mem::take(&mut begun), peer, at, lines, feed) {
                return stopped;
            }
            at += length;
        }
        if is_too_long(&begun, rest, lines) {
            return too_long(peer, at, lines);
        }
        begun.extend_from_slice(rest);
        feed.ring();
    }
    if !begun.is_empty() {
        if let Err(stopped) = hand_over(begun, peer, at, lines, feed) {
            return stopped;
        }
        feed.ring();
    }
    Stopped::Closed
}

/// Whether a line that goes on so is longer than it may be; a CR at its end does not count.
fn is_too_long(begun: &[u8], more: &[u8], lines: Lines) -> bool {
    let length = begun.len() + more.len();
    let end = more.last().or_else(|| begun.last());
    length - usize::from(end == Some(&b'\r')) > lines.max
}

fn too_long(peer: &str, at: u64, lines: Lines) -> Stopped {
    bad(
        peer,
        at,
        format!("the line is longer than {} bytes; `.max_line(bytes)` on the source allows more", lines.max),
    )
}

fn bad(peer: &str, byte: u64, reason: String) -> Stopped {
    Stopped::Failed(SourceError::BadRecord { place: format!("{peer}, byte {byte}"), reason })
}

fn hand_over(line: Vec<u8>, peer: &str, at: u64, lines: Lines, feed: &Feed<Message>) -> Result<(), Stopped> {
    let line = match String::from_utf8(line) {
        Ok(line) => line,
        Err(error) if lines.lossy => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        Err(error) => {
            let byte = at + error.utf8_error().valid_up_to() as u64;
            let reason = "the line is not UTF-8; `.lossy()` on the source replaces such bytes";
            return Err(bad(peer, byte, reason.to_owned()));
        }
    };
    feed.push(Ok(line)).map_err(|_| Stopped::Unwanted)
}

/// Hands an error over. If nobody takes it any more, nobody misses it.
pub(super) fn fail(feed: &Feed<Message>, error: SourceError) {
    let _ = feed.push(Err(error));
    feed.ring();
}
