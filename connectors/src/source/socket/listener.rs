//! Lines from any number of peers that connect to this source.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_operators::SourceError;

use super::lines::{Stopped, fail, read_lines};
use super::source::{Launch, Settings, Side, SocketSource};
use super::{OnDisconnect, Outlet, Stopper, spawn};
use crate::lock;

/// For how long no peer is accepted after one could not be.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is reported that peers cannot be accepted.
const REPORT: Duration = Duration::from_secs(60);
/// How many file descriptors are left to the rest of the process, for a checkpoint's files say.
const SPARE: usize = 16;

/// A [`SocketSource`] to which peers connect.
pub type ListenerSource = SocketSource<Listener>;

/// The side that is connected to.
pub struct Listener {
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

/// Returns a [`SocketSource`] that listens at `address`, such as `0.0.0.0:9999`.
///
/// With port 0 the operating system chooses a free port, which [`local_addr`](ListenerSource::local_addr) returns.
/// Peers can connect at once; the source reads their lines when the query has started. When a peer closes its
/// connection, the source waits for others.
///
/// # Peers you do not trust
///
/// Use `on_bad_record(BadRecords::Skip)`: otherwise a peer ends the query by one bad line, or by closing its connection
/// within a line. With a `max_line` of at most 16 KiB, no peer waits for the long lines of others. If longer lines are
/// allowed, and a peer sends no further bytes of a long line for 30 s while other peers need memory for theirs, that
/// line counts as bad. The number of peers is not limited, and idle peers are not disconnected: if you need that, put a
/// proxy in front.
///
/// If the process has no file descriptors, threads or memory left, a new peer is not accepted until other peers have
/// disconnected. A warning is logged (by `tracing`) at most once a minute.
///
/// ```
/// use tidemill::prelude::*;
///
/// let lines = socket_listener("127.0.0.1:0")?;
/// println!("send lines to {}", lines.local_addr());
/// # Ok::<(), tidemill::SourceError>(())
/// ```
///
/// # Errors
///
/// If the address cannot be bound.
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
    let side = Listener { listener: Arc::new(listener), address };
    Ok(SocketSource::new(side, OnDisconnect::Reconnect { after: Duration::ZERO }))
}

impl ListenerSource {
    /// Returns the address that peers connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.side.address
    }

    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.settings.lines.patience = patience;
        self
    }
}

impl Side for Listener {
    fn describe(&self) -> String {
        format!("socket listener {}", self.address)
    }

    /// The socket listens already.
    fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn launch(&self, with: Launch) -> Result<(), SourceError> {
        let Launch { settings, outlet, stopper } = with;
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
        let listener = Arc::clone(&self.listener);
        spawn("tidemill-listener", outlet, move |outlet| accept(&listener, settings, outlet, &stopper))
    }
}

/// Accepts peers, one thread each, until the reader goes or the stream has ended.
fn accept(listener: &TcpListener, settings: Settings, outlet: &Outlet, stopper: &Arc<Stopper>) {
    let mut reported = None;
    for id in 0.. {
        let accepted = has_spare(listener).and_then(|()| listener.accept());
        if stopper.is_stopped() {
            return;
        }
        let error = match accepted {
            Ok((stream, peer)) => {
                let stream = Arc::new(stream);
                if !stopper.add(id, &stream) {
                    return;
                }
                let own_stopper = Arc::clone(stopper);
                let serving = move |outlet: &Outlet| {
                    serve((id, stream), &peer.to_string(), settings, outlet, &own_stopper);
                };
                let Err(error) = spawn("tidemill-peer", outlet.clone(), serving) else { continue };
                stopper.remove(id);
                error
            }
            // The peer has gone again before it was accepted.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                continue;
            }
            // The socket does not listen. Any other error is that of one peer, or passes.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                return fail(outlet, SourceError::io("cannot accept a connection", error));
            }
            Err(error) => SourceError::io("cannot accept a connection", error),
        };
        if reported.is_none_or(|at: Instant| at.elapsed() >= REPORT) {
            reported = Some(Instant::now());
            tracing::warn!(
                "{error}: new connections wait until others are closed; `ulimit -n` shows how many files and \
                 connections a process may have"
            );
        }
        if !stopper.pause(PAUSE) {
            return;
        }
    }
}

/// Whether there are file descriptors for more than one peer.
fn has_spare(listener: &TcpListener) -> std::io::Result<()> {
    let spare: Result<Vec<_>, _> = (0..=SPARE).map(|_| listener.try_clone()).collect();
    spare.map(drop)
}

fn serve(
    (id, stream): (u64, Arc<TcpStream>),
    peer: &str,
    settings: Settings,
    outlet: &Outlet,
    stopper: &Stopper,
) {
    let why = read_lines(&stream, peer, settings.lines, outlet);
    let left = stopper.remove(id);
    match (why, settings.on_disconnect) {
        (Stopped::Unwanted, _) => {}
        (Stopped::Failed(error @ SourceError::BadRecord { .. }), _) => fail(outlet, error),
        // A connection that breaks is one peer's end, not the listener's.
        (_, OnDisconnect::Reconnect { .. }) => {}
        (_, OnDisconnect::Fail) if !stopper.is_stopped() => {
            fail(outlet, SourceError::Disconnected { peer: peer.to_owned() });
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
        TcpStream::connect(address).unwrap().write_all(b"late\n").unwrap();
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
