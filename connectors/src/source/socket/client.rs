//! Lines from a server that this source connects to.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::SourceError;

use super::lines::{Stopped, fail, read_lines};
use super::source::{Launch, Settings, Side, SocketSource};
use super::{OnDisconnect, Outlet, Stopper, address, spawn};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The side that connects.
pub struct Client {
    address: String,
}

/// Returns a [`SocketSource`] that connects to `address` when the query starts.
///
/// `address` is a host and a port, such as `localhost:9999` or `[::1]:9999`; any other text is refused before the query
/// runs. When the server closes the connection, the stream ends.
pub fn socket(address: impl Into<String>) -> SocketSource {
    SocketSource::new(Client { address: address.into() }, OnDisconnect::End)
}

impl Side for Client {
    fn describe(&self) -> String {
        format!("socket {}", self.address)
    }

    fn check(&self) -> Result<(), SourceError> {
        address::check(&self.address)
    }

    fn launch(&self, with: Launch) -> Result<(), SourceError> {
        let Launch { settings, outlet, stopper } = with;
        let address = self.address.clone();
        spawn("tidemill-socket", outlet, move |outlet| run(&address, settings, outlet, &stopper))
    }
}

fn run(address: &str, settings: Settings, outlet: &Outlet, stopper: &Stopper) {
    while !stopper.is_stopped() {
        let why = match connect(address, stopper) {
            Ok(Some(stream)) => {
                let why = read_lines(&stream, address, settings.lines, outlet);
                stopper.remove(0);
                why
            }
            Ok(None) => return,
            Err(error) => Stopped::Failed(SourceError::io(format!("cannot connect to {address}"), error)),
        };
        match (why, settings.on_disconnect) {
            // A new connection does not make a bad line a good one.
            (Stopped::Failed(error @ SourceError::BadRecord { .. }), _) => return fail(outlet, error),
            (Stopped::Unwanted, _) | (Stopped::Closed, OnDisconnect::End) => return,
            (_, OnDisconnect::Reconnect { after }) => {
                if !stopper.pause(after) {
                    return;
                }
            }
            (Stopped::Closed, OnDisconnect::Fail) => {
                return fail(outlet, SourceError::Disconnected { peer: address.to_owned() });
            }
            (Stopped::Failed(error), _) => return fail(outlet, error),
        }
    }
}

/// Connects to the first of the addresses that answers. `None` if the reader has gone.
fn connect(address: &str, stopper: &Stopper) -> std::io::Result<Option<Arc<TcpStream>>> {
    let mut failure = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => {
                let stream = Arc::new(stream);
                return Ok(stopper.add(0, &stream).then_some(stream));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use tidemill_operators::{PlanLimits, Source};

    use super::*;
    use crate::source::testing::Drive;

    fn server() -> (TcpListener, SocketSource) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = socket(listener.local_addr().unwrap().to_string());
        (listener, source)
    }

    #[test]
    fn lines_have_no_terminators_and_end_with_connection() {
        let (listener, source) = server();
        let mut drive = Drive::new(source).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"one\r\ntw").unwrap();
        assert_eq!(drive.read_at_least(1).unwrap(), ["one"]);
        peer.write_all("o\n\ngrün\n".as_bytes()).unwrap();
        drop(peer);
        assert_eq!(drive.read_at_least(usize::MAX).unwrap(), ["two", "", "grün"]);
        assert!(drive.ended());
    }

    #[test]
    fn an_epoch_holds_the_lines_that_have_come() {
        let (listener, source) = server();
        source.refresh(&PlanLimits::new(None, Default::default())).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"a\nb\n").unwrap();
        drop(peer);
        let mut drive = Drive::resume(source, &[40]).unwrap();
        let mut rows = Vec::new();
        while !drive.ended() {
            rows.extend(drive.epoch(Some(1)).unwrap().remove(0));
        }
        assert_eq!(rows, ["a", "b"]);
        assert_eq!(drive.offsets(), [42]);
    }

    #[test]
    fn a_disconnect_fails_the_query_where_the_user_said_so() {
        let (listener, source) = server();
        let mut drive = Drive::new(source.on_disconnect(OnDisconnect::Fail)).unwrap();
        drop(listener.accept().unwrap());
        let error = drive.read_at_least(1).unwrap_err();
        assert!(error.to_string().ends_with("closed the connection"), "{error}");
    }

    #[test]
    fn a_client_that_is_told_to_connects_again() {
        let (listener, source) = server();
        let after = Duration::from_millis(1);
        let mut drive = Drive::new(source.on_disconnect(OnDisconnect::Reconnect { after })).unwrap();
        for line in ["a\n", "b\n"] {
            listener.accept().unwrap().0.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(drive.read_at_least(2).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_line_that_is_not_utf8_fails_with_peer_and_byte() {
        let (listener, source) = server();
        let mut drive = Drive::new(source).unwrap();
        let (mut peer, address) = listener.accept().unwrap();
        peer.write_all(b"good\nba\xffd\n").unwrap();
        let error = drive.read_at_least(2).unwrap_err();
        assert!(error.to_string().contains("byte 7: the line is not UTF-8"), "{error} {address}");
    }

    #[test]
    fn a_lossy_source_replaces_what_is_not_utf8() {
        let (listener, source) = server();
        let mut drive = Drive::new(source.lossy()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"good\nba\xffd\r\n\xfe\n").unwrap();
        drop(peer);
        assert_eq!(drive.read_at_least(usize::MAX).unwrap(), ["good", "ba\u{fffd}d", "\u{fffd}"]);
    }

    #[test]
    fn a_line_may_be_as_long_as_it_is_said_and_no_longer() {
        let (listener, source) = server();
        let mut drive = Drive::new(source.max_line(3)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"abc\nabc\r\nabc\r").unwrap();
        assert_eq!(drive.read_at_least(2).unwrap(), ["abc", "abc"]);
        peer.write_all(b"\n").unwrap();
        assert_eq!(drive.read_at_least(1).unwrap(), ["abc"]);
        peer.write_all(b"abcd\n").unwrap();
        let error = drive.read_at_least(1).unwrap_err().to_string();
        assert!(error.contains("byte 14: the line is longer than 3 bytes; `.max_line(bytes)`"), "{error}");
    }

    #[test]
    fn endless_line_fails_at_limit_and_is_not_kept_in_memory() {
        let (listener, source) = server();
        let mut drive = Drive::new(source.max_line(1 << 20)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        // The peer is sent away in the middle, for it would never stop.
        let sending = std::thread::spawn(move || (0..).find(|_| peer.write_all(&[b'x'; 4096]).is_err()));
        let error = drive.read_at_least(1).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:") && error.contains("longer than 1048576 bytes"), "{error}");
        drop(drive);
        sending.join().unwrap();
    }

    #[test]
    fn a_reader_that_is_dropped_closes_the_connection() {
        let (listener, source) = server();
        let drive = Drive::new(source).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        drop(drive);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn refused_connection_is_error_with_address() {
        let (listener, source) = server();
        drop(listener);
        let mut drive = Drive::new(source).unwrap();
        let error = drive.read_at_least(1).unwrap_err();
        assert!(error.to_string().starts_with("cannot connect to 127.0.0.1:"), "{error}");
    }
}
