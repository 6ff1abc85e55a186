//! A sender that keeps what it has sent until it is told that it has arrived, and the source that tells it.
//!
//! The sender knows lines by their numbers. Each peer that connects is sent every line that has not been acknowledged, a few of
//! them ahead of the acknowledgement, and after the last line the end. The source acknowledges what the journal around it
//! has on disk; it may die before it reports that, and so skips lines that come again.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use tidemill::{PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Source, SourceError, SourceInfo};

use crate::input::Event;

/// How many lines are on their way at once.
const AHEAD: u64 = 100;

/// The sender.
pub(crate) struct Sender {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    lines: Vec<String>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Lines before this one have arrived, and are forgotten.
    acknowledged: u64,
    /// What has gone wrong.
    complaint: Option<String>,
}

impl Sender {
    /// A sender of these events, which serves one connection after the other as long as the process lives.
    pub(crate) fn of(events: impl Iterator<Item = Event>) -> Sender {
        let lines = events.enumerate().map(|(n, event)| {
            let event = serde_json::to_string(&event).unwrap();
            format!("{n} {event}\n")
        });
        let shared =
            Arc::new(Shared { lines: lines.collect(), state: Mutex::default(), changed: Condvar::new() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                own.serve(&connection.unwrap());
            }
        });
        Sender { address, shared }
    }

    /// No line that was forgotten has been asked for.
    pub(crate) fn check(&self) {
        let state = self.shared.state.lock().unwrap();
        assert_eq!(state.complaint, None);
    }

    /// Whether all lines have arrived.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.state.lock().unwrap().acknowledged == self.shared.lines.len() as u64
    }
}

impl Shared {
    /// Sends on one thread, and listens on another, until the peer has gone.
    fn serve(self: &Arc<Shared>, connection: &TcpStream) {
        let mut input = BufReader::new(connection.try_clone().unwrap());
        let mut hello = String::new();
        // Killed before it said anything.
        let Ok(Ok(from)) = input.read_line(&mut hello).map(|_| hello.trim_end().parse::<u64>()) else {
            return;
        };
        let mut sent = {
            let mut state = self.state.lock().unwrap();
            if from < state.acknowledged {
                state.complaint =
                    Some(format!("line {from} is wanted again, {} was acknowledged", state.acknowledged));
            }
            // It has on disk what is before that, even if it could not say so before it died.
            state.acknowledged = state.acknowledged.max(from);
            state.acknowledged
        };
        let gone = Arc::new(Mutex::new(false));
        let (own, its) = (Arc::clone(self), Arc::clone(&gone));
        let listening = std::thread::spawn(move || {
            for line in input.lines() {
                let Ok(Ok(number)) = line.map(|line| line.parse::<u64>()) else { break };
                let mut state = own.state.lock().unwrap();
                state.acknowledged = state.acknowledged.max(number);
                own.changed.notify_all();
            }
            let state = own.state.lock().unwrap();
            *its.lock().unwrap() = true;
            drop(state);
            own.changed.notify_all();
        });
        let mut output = connection;
        loop {
            let mut state = self.state.lock().unwrap();
            let all = self.lines.len() as u64;
            while sent < all && sent >= state.acknowledged + AHEAD && !*gone.lock().unwrap() {
                state = self.changed.wait(state).unwrap();
            }
            let until = (state.acknowledged + AHEAD).min(all);
            drop(state);
            let lines = self.lines[sent as usize..until.max(sent) as usize].concat();
            sent = until.max(sent);
            if output.write_all(lines.as_bytes()).is_err() || *gone.lock().unwrap() {
                break;
            }
            if sent == all {
                // That the peer may have gone, the other thread notices.
                let _ = output.write_all(b"end\n");
                break;
            }
        }
        listening.join().unwrap();
    }
}

/// The source of what a [`Sender`] sends.
pub(crate) struct Feed {
    address: SocketAddr,
    /// For acknowledgements.
    connection: Mutex<Option<TcpStream>>,
}

impl Feed {
    pub(crate) fn from(address: SocketAddr) -> Feed {
        Feed { address, connection: Mutex::new(None) }
    }
}

impl Source for Feed {
    type Item = Event;
    /// The number of the next line.
    type Offset = u64;
    type Reader = FeedReader;

    fn describe(&self) -> String {
        format!("numbered lines of {}", self.address)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }

    fn latest(&self, _partition: u32, from: &u64, _limits: &PlanLimits) -> Result<u64, SourceError> {
        // The journal around it is asked instead.
        Ok(*from)
    }

    fn open(&self, _partition: u32, from: &u64, context: ReaderContext) -> Result<FeedReader, SourceError> {
        let failed = |error| SourceError::io(self.describe(), error);
        let mut connection = TcpStream::connect(self.address).map_err(failed)?;
        connection.write_all(format!("{from}\n").as_bytes()).map_err(failed)?;
        let own = connection.try_clone().map_err(failed)?;
        let input = connection.try_clone().map_err(failed)?;
        *self.connection.lock().unwrap() = Some(connection);
        let (sender, lines) = channel();
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(input).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
                context.waker.wake();
            }
            drop(sender);
            context.waker.wake();
        });
        Ok(FeedReader { next: *from, lines, connection: own, thread: Some(thread) })
    }

    fn committed(&self, _partition: u32, offset: &u64) -> Result<(), SourceError> {
        if let Some(connection) = &mut *self.connection.lock().unwrap() {
            let said = connection.write_all(format!("{offset}\n").as_bytes());
            said.map_err(|error| SourceError::io(self.describe(), error))?;
        }
        Ok(())
    }
}

pub(crate) struct FeedReader {
    next: u64,
    lines: Receiver<String>,
    connection: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Reader for FeedReader {
    type Item = Event;
    type Offset = u64;

    fn poll(&mut self, _until: Option<&u64>, max: usize, out: &mut Vec<Event>) -> Result<Poll, SourceError> {
        let other = |reason: String| SourceError::Other(reason.into());
        for _ in 0..max {
            let line = match self.lines.try_recv() {
                Ok(line) => line,
                Err(TryRecvError::Empty) => return Ok(Poll::Idle),
                Err(TryRecvError::Disconnected) => return Err(other("the sender has gone".to_owned())),
            };
            if line == "end" {
                return Ok(Poll::End);
            }
            let (number, event) = line.split_once(' ').ok_or_else(|| other(format!("`{line}`")))?;
            let number: u64 = number.parse().map_err(|_| other(format!("`{line}`")))?;
            if number < self.next {
                continue;
            }
            if number > self.next {
                return Err(other(format!("line {number} came, {} is missing", self.next)));
            }
            out.push(serde_json::from_str(event).map_err(|error| other(error.to_string()))?);
            self.next += 1;
        }
        Ok(Poll::Ready)
    }

    fn offset(&self) -> u64 {
        self.next
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        Err(SourceError::NotReplayable { source_name: "a feed".to_owned(), offset: offset.to_string() })
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        let _ = self.connection.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
