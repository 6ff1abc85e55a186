//! Lines from any number of peers that connect to this source.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::{PlanLimits, ReaderContext, Source, SourceError};

use super::lines::{Lines, Stopped, fail, read_lines};
use super::{Feed, Message, OnDisconnect, Slot, SocketReader, Stopper, spawn};
use crate::lock;

/// A source of the lines that peers send who connect to it, without their terminators (LF or CRLF). The lines of one
/// peer stay in order; those of several are merged as they come. One partition; nothing can be read again.
///
/// A line is what stands before a LF or CRLF; an empty one is a record too, and so is what comes last, without an end. One that is
/// not UTF-8 fails the query, unless the source is [`lossy`](ListenerSource::lossy), and so does one that is longer than
/// [`max_line`](ListenerSource::max_line). [`json`](crate::ParseLines::json) reads lines as JSON.
///
/// With a checkpoint it wants `.journaled()`, which keeps what has been synced into the journal. What a peer has sent, and what is
/// not there yet when the process is killed, is gone, and the peer does not know: there is no acknowledgement in plain
/// lines.
///
/// ```
/// use tidemill_connectors::socket_listener;
///
/// let lines = socket_listener("127.0.0.1:0")?;
/// println!("send lines to {}", lines.local_addr());
/// # Ok::<(), tidemill_operators::SourceError>(())
/// ```
pub struct ListenerSource {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    on_disconnect: OnDisconnect,
    lines: Lines,
    slot: Mutex<Slot>,
}

/// A source that listens at `address`, as `0.0.0.0:9999`; port 0 takes any free one, which
/// [`ListenerSource::local_addr`] tells. Peers may connect at once; they are read from when the query starts.
///
/// # Errors
///
/// If the address cannot be listened at.
pub fn socket_listener(address: impl ToSocketAddrs + std::fmt::Debug) -> Result<ListenerSource, SourceError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::InvalidInput => SourceError::Setup(format!(
            "{address:?} is no address to listen at: {error}; write address and port, like \"127.0.0.1:9999\", or \
             \"0.0.0.0:9999\" for peers on other machines"
        )),
        _ => SourceError::io(format!("cannot listen at {address:?}"), error),
    };
    let listener = TcpListener::bind(&address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let on_disconnect = OnDisconnect::Reconnect { after: Duration::ZERO };
    let (lines, slot) = (Lines::default(), Mutex::default());
    Ok(ListenerSource { listener: Arc::new(listener), address, on_disconnect, lines, slot })
}

impl ListenerSource {
    /// What to do when a peer goes: wait for others (unless said), [end](OnDisconnect::End) when the last one has
    /// gone, or fail.
    #[must_use]
    pub fn on_disconnect(mut self, what: OnDisconnect) -> Self {
        self.on_disconnect = what;
        self
    }

    /// How many bytes a line may have, without its end: 16 MiB if nothing is said. A longer one fails the query; without a
    /// limit, one that never ends would take all memory.
    #[must_use]
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.lines.max = bytes;
        self
    }

    /// Replaces bytes that are not UTF-8 by U+FFFD, instead of failing the query.
    #[must_use]
    pub fn lossy(mut self) -> Self {
        self.lines.lossy = true;
        self
    }

    /// The address that peers connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn launch(&self, feed: Feed<Message>, stopper: Arc<Stopper>) -> Result<(), SourceError> {
        // The thread waits in `accept`; a connection of our own wakes it.
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(match own.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        *lock(&stopper.wake) =
            Some(Box::new(move || drop(TcpStream::connect_timeout(&own, Duration::from_secs(1)))));
        let (listener, on_disconnect, lines) = (Arc::clone(&self.listener), self.on_disconnect, self.lines);
        let run = move |feed: &Feed<Message>| accept(&listener, on_disconnect, lines, feed, &stopper);
        spawn("tidemill-listener", feed, run)
    }
}

impl Source for ListenerSource {
    type Item = String;
    type Offset = u64;
    type Reader = SocketReader;

    fn describe(&self) -> String {
        format!("socket listener {}", self.address)
    }

    fn start(&self, _partition: u32) -> Result<u64, SourceError> {
        Ok(0)
    }

    fn refresh(&self, _limits: &PlanLimits) -> Result<(), SourceError> {
        lock(&self.slot).begin(|feed, stopper| self.launch(feed, stopper))
    }

    fn latest(&self, _partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let most = from.saturating_add(limits.max_records.unwrap_or(u64::MAX));
        Ok(lock(&self.slot).latest(*from).min(most))
    }

    fn open(&self, _partition: u32, from: &u64, context: ReaderContext) -> Result<SocketReader, SourceError> {
        lock(&self.slot).open(self.describe(), *from, context, |feed, stopper| self.launch(feed, stopper))
    }
}

/// Takes peers in, one thread each, until the reader goes or the stream has ended.
fn accept(
    listener: &TcpListener,
    on_disconnect: OnDisconnect,
    lines: Lines,
    feed: &Feed<Message>,
    stopper: &Arc<Stopper>,
) {
    for id in 0.. {
        let accepted = listener.accept();
        if stopper.is_stopped() {
            return;
        }
        let begun = accepted.and_then(|(stream, peer)| {
            stream.set_nodelay(true)?;
            Ok(stopper.add(id, &stream)?.then_some((stream, peer)))
        });
        let (stream, peer) = match begun {
            Ok(Some(begun)) => begun,
            Ok(None) => return,
            // The peer has gone again before it was let in.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return fail(feed, SourceError::io("cannot accept a connection", error)),
        };
        let own_stopper = Arc::clone(stopper);
        let serving = move |feed: &Feed<Message>| {
            serve((id, stream), &peer.to_string(), on_disconnect, lines, feed, &own_stopper);
        };
        if let Err(error) = spawn("tidemill-peer", feed.clone(), serving) {
            return fail(feed, error);
        }
    }
}

fn serve(
    (id, mut stream): (u64, TcpStream),
    peer: &str,
    on_disconnect: OnDisconnect,
    lines: Lines,
    feed: &Feed<Message>,
    stopper: &Stopper,
) {
    let why = read_lines(&mut stream, peer, lines, feed);
    let left = stopper.remove(id);
    match (why, on_disconnect) {
        (Stopped::Unwanted, _) => {}
        (Stopped::Failed(error @ SourceError::BadRecord { .. }), _) => fail(feed, error),
        // A connection that breaks is one peer's end, not the listener's.
        (_, OnDisconnect::Reconnect { .. }) => {}
        (_, OnDisconnect::Fail) if !stopper.is_stopped() => {
            fail(feed, SourceError::Disconnected { peer: peer.to_owned() });
        }
        (_, OnDisconnect::End) if left == 0 => stopper.stop(),
        (_, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::source::testing::Drive;

    #[test]
    fn several_peers_are_merged_and_each_keeps_its_order() {
        let source = socket_listener("127.0.0.1:0").unwrap();
        let address = source.local_addr();
        let mut drive = Drive::new(source).unwrap();
        let mut peers: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        for round in 0..4 {
            for (name, peer) in peers.iter_mut().enumerate() {
                writeln!(peer, "{name}{round}").unwrap();
            }
        }
        drop(peers);
        let lines = drive.read_at_least(12).unwrap();
        for name in ["0", "1", "2"] {
            let own: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(name)).collect();
            assert_eq!(own, ["0", "1", "2", "3"]);
        }
        assert!(!drive.ended());
        TcpStream::connect(address).unwrap().write_all(b"late").unwrap();
        assert_eq!(drive.read_at_least(1).unwrap(), ["late"]);
    }

    #[test]
    fn an_address_that_cannot_be_one_is_told_with_what_to_write() {
        for address in ["localhost", "0.0.0.0:http", "::"] {
            let error = socket_listener(address).err().unwrap();
            assert!(matches!(&error, SourceError::Setup(_)), "{error:?}");
            let error = error.to_string();
            assert!(error.contains(&format!("{address:?}")) && error.contains("127.0.0.1:9999"), "{error}");
        }
    }

    #[test]
    fn a_listener_that_is_told_to_ends_with_its_last_peer() {
        let source = socket_listener("127.0.0.1:0").unwrap().on_disconnect(OnDisconnect::End);
        let address = source.local_addr();
        let mut drive = Drive::new(source).unwrap();
        TcpStream::connect(address).unwrap().write_all(b"only\n").unwrap();
        assert_eq!(drive.read_at_least(2).unwrap(), ["only"]);
        assert!(drive.ended());
    }

    #[test]
    fn a_peer_whose_line_is_too_long_is_named() {
        let source = socket_listener("127.0.0.1:0").unwrap().max_line(4).lossy();
        let address = source.local_addr();
        let mut drive = Drive::new(source).unwrap();
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(b"ab\xffd\nabcde").unwrap();
        let error = drive.read_at_least(2).unwrap_err().to_string();
        let place = format!("{}, byte 5", peer.local_addr().unwrap());
        assert!(error.contains(&place) && error.contains("longer than 4 bytes"), "{error}");
    }

    #[test]
    fn a_reader_that_is_dropped_sends_its_peers_away() {
        let source = socket_listener("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(source.local_addr()).unwrap();
        let mut drive = Drive::new(source).unwrap();
        peer.write_all(b"hello\n").unwrap();
        drive.read_at_least(1).unwrap();
        drop(drive);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }
}
