//! The error of a query.

use std::time::Duration;

use tidemill_operators::graph::Node;
use tidemill_operators::spill::SpillError;
use tidemill_operators::{GraphError, OperatorError, SinkError, SourceError};

use crate::Summary;
use crate::checkpoint::CheckpointError;

/// A place in the graph: the operator's name, and its line in the user's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The operator.
    pub operator: String,
    /// The user's file and line; empty for an operator that is in the checkpoint and no longer in the program.
    pub location: String,
}

impl Site {
    pub(crate) fn of(node: &Node) -> Site {
        Site {
            operator: node.label(),
            location: format!("{}:{}", node.location.file(), node.location.line()),
        }
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.operator)?;
        if self.location.is_empty() { Ok(()) } else { write!(f, " at {}", self.location) }
    }
}

/// Why a query ended. `{:?}` prints it for people too, with all causes, so that a `main` that returns it reads well.
#[non_exhaustive]
pub enum RunError {
    /// The graph cannot run as it is; nothing has run.
    Graph(GraphError),
    /// An option is invalid, or two options contradict each other; nothing has run.
    Options {
        /// The option, as a flag.
        option: &'static str,
        /// The problem, and the fix.
        problem: String,
    },
    /// A function of the user panicked.
    Panic {
        /// The worker, from 0; none if the driver or a helper thread of the engine called the function.
        worker: Option<usize>,
        /// The operator whose function it was.
        site: Site,
        /// The message of the panic.
        message: String,
    },
    /// A source has failed.
    Source {
        /// The source.
        site: Site,
        /// Why.
        error: SourceError,
    },
    /// A sink has failed.
    Sink {
        /// The sink.
        site: Site,
        /// Why.
        error: SinkError,
    },
    /// An operator has failed.
    Operator {
        /// The operator.
        site: Site,
        /// Why.
        error: OperatorError,
    },
    /// The checkpoint cannot be written or read.
    Checkpoint(CheckpointError),
    /// The checkpoint does not fit the graph.
    Restore {
        /// The operator or source that does not fit.
        site: Site,
        /// The difference, and the fix.
        problem: String,
    },
    /// The query failed more often than [`Options::restart`](crate::Options::with_restart) allows.
    GivenUp {
        /// The error of the last attempt. [`RunError::cause`] returns it for any error.
        error: Box<RunError>,
        /// The number of restarts before it.
        restarts: u32,
        /// The time from the first start to this end.
        after: Duration,
        /// Why there is no further attempt.
        why: &'static str,
    },
    /// Ctrl-C (SIGINT) or SIGTERM stopped the query; all input that was read is committed.
    ///
    /// It is an error so that a program does not continue as if its input had ended. A service, which usually ends by a
    /// signal, handles it as success:
    ///
    /// ```
    /// use tidemill::prelude::*;
    /// # fn service(graph: Graph, options: Options) -> Result<(), RunError> {
    /// match graph.run(options) {
    ///     Ok(summary) => println!("all sources have ended: {summary}"),
    ///     Err(RunError::Interrupted(summary)) => println!("stopped, all input that was read is committed: {summary}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A `main` that returns it ends with exit code 1, as with any error.
    Interrupted(
        /// The summary, as of a query whose sources have ended.
        Box<Summary>,
    ),
    /// The query was cancelled: epochs that were not committed are lost.
    Cancelled {
        /// The time that it had run.
        after: Duration,
        /// Set if a stop took longer than [`Options::stop_timeout`](crate::Options::stop_timeout).
        stop_timeout: Option<Duration>,
    },
    /// A function of the user, its storage or the `Drop` of one of its values has not returned after the end of the
    /// query. Its thread keeps running.
    Stuck {
        /// The operator whose function it is; the first if there are several.
        site: Site,
        /// The time for which the query waited.
        within: Duration,
        /// The error that ended the query; none if it ended in order, and everything is committed.
        error: Option<Box<RunError>>,
    },
    /// The query has ended, so the request cannot be served.
    Ended {
        /// The request.
        wanted: &'static str,
    },
    /// The engine could not be set up: threads, signals.
    Engine(String),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Graph(error) => error.fmt(f),
            RunError::Options { option, problem } => write!(f, "{option}: {problem}"),
            RunError::Panic { worker, site, message } => {
                write!(f, "{} panicked in {site}: {message}", thread_name(*worker))
            }
            RunError::Source { site, error } => write!(f, "source {site}: {error}"),
            RunError::Sink { site, error } => write!(f, "sink {site}: {error}"),
            RunError::Operator { site, error } => write!(f, "operator {site}: {error}"),
            RunError::Checkpoint(error) => write!(f, "checkpoint: {error}"),
            RunError::Restore { site, problem } => write!(f, "the checkpoint does not fit {site}: {problem}"),
            RunError::GivenUp { error, restarts, after, why } => write!(
                f,
                "{error} (attempt {}, {:.1} s after the first one began: {why})",
                restarts + 1,
                after.as_secs_f64()
            ),
            RunError::Interrupted(summary) => {
                write!(f, "interrupted: all input that was read is committed ({summary})")
            }
            RunError::Cancelled { after, stop_timeout } => write!(
                f,
                "cancelled {after:.1?} after the start{}: epochs that were not committed are lost",
                because(*stop_timeout)
            ),
            RunError::Stuck { site, within, error } => write!(
                f,
                "{site} has not returned within {within:?} after the end of the query{}: its thread keeps running, \
                 and the \
         checkpoint stays locked until the process exits",
                in_brackets(error.as_deref())
            ),
            RunError::Ended { wanted } => write!(
                f,
                "the query has ended, so no {wanted} can be made: start it again and request it while it runs; its \
                 checkpoint is unchanged"
            ),
            RunError::Engine(error) => write!(f, "the engine cannot start: {error}"),
        }
    }
}

/// The text of an error contains that of its cause, so the source is what the cause does not say itself. The cause is in the
/// variant, or [`RunError::cause`].
impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Graph(error) => error.source(),
            RunError::Source { error, .. } => error.source(),
            RunError::Sink { error, .. } => error.source(),
            RunError::Operator { error, .. } => error.source(),
            RunError::Checkpoint(error) => error.source(),
            RunError::GivenUp { error, .. } => error.source(),
            RunError::Stuck { error, .. } => error.as_ref().and_then(|error| error.source()),
            _ => None,
        }
    }
}

impl From<GraphError> for RunError {
    fn from(error: GraphError) -> Self {
        RunError::Graph(error)
    }
}

impl From<CheckpointError> for RunError {
    fn from(error: CheckpointError) -> Self {
        RunError::Checkpoint(error)
    }
}

fn because(stop_timeout: Option<Duration>) -> String {
    let because = |timeout| format!(", since it had not stopped within the --stop-timeout of {timeout:?}");
    stop_timeout.map_or_else(String::new, because)
}

fn in_brackets(error: Option<&RunError>) -> String {
    error.map_or_else(String::new, |error| format!(" ({error})"))
}

fn thread_name(worker: Option<usize>) -> String {
    worker.map_or_else(|| "a thread of the engine".to_owned(), |worker| format!("worker {worker}"))
}

/// What `main` prints of an error that it returns: the text, and the causes that it does not contain.
impl std::fmt::Debug for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The class of an error by its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The user's program or options.
    User,
    /// The environment: files, sockets, disks.
    World,
    /// No fault: a stop, a cancel or a signal.
    Nobody,
    /// Tidemill itself.
    Engine,
}

impl RunError {
    /// Returns the origin of the error.
    pub fn fault(&self) -> Fault {
        match self {
            RunError::Graph(_)
            | RunError::Options { .. }
            | RunError::Panic { .. }
            | RunError::Stuck { .. }
            | RunError::Ended { .. }
            | RunError::Restore { .. } => Fault::User,
            RunError::Checkpoint(_) => Fault::World,
            RunError::Source { error, .. } => match error {
                SourceError::Setup(_) | SourceError::NotReplayable { .. } => Fault::User,
                _ => Fault::World,
            },
            RunError::Sink { error, .. } => match error {
                SinkError::Setup(_) | SinkError::Encode { .. } => Fault::User,
                _ => Fault::World,
            },
            RunError::Operator { error, .. } => match error {
                OperatorError::User(_)
                | OperatorError::NegativeRows { .. }
                | OperatorError::TooManyRows { .. }
                | OperatorError::NotAtRest { .. }
                | OperatorError::OtherTable { .. } => Fault::User,
                OperatorError::Spill(SpillError::Disk { .. }) => Fault::World,
                _ => Fault::Engine,
            },
            RunError::GivenUp { error, .. } => error.fault(),
            RunError::Interrupted(_) | RunError::Cancelled { .. } => Fault::Nobody,
            RunError::Engine(_) => Fault::Engine,
        }
    }

    /// Returns the error without the number of attempts: the error of the last attempt if this is
    /// [`RunError::GivenUp`], otherwise this error.
    pub fn cause(&self) -> &RunError {
        match self {
            RunError::GivenUp { error, .. } => error.cause(),
            error => error,
        }
    }

    /// Adds how often the query was restarted, unless it was interrupted or cancelled.
    pub(crate) fn given_up(self, restarts: u32, after: Duration, why: &'static str) -> RunError {
        if restarts == 0 || self.fault() == Fault::Nobody {
            return self;
        }
        RunError::GivenUp { error: Box::new(self), restarts, after, why }
    }

    /// Returns whether [`Options::restart`](crate::Options::restart) starts the query again after this error: a source,
    /// a sink, an operator or a function of the user failed. A sink that was set up in a way that cannot work is not
    /// retried, nor is a table with rows that cannot be right.
    pub fn is_retryable(&self) -> bool {
        match self {
            RunError::Sink { error: SinkError::Setup(_), .. }
            | RunError::Operator {
                error:
                    OperatorError::NegativeRows { .. }
                    | OperatorError::TooManyRows { .. }
                    | OperatorError::NotAtRest { .. }
                    | OperatorError::OtherTable { .. },
                ..
            } => false,
            RunError::Panic { .. }
            | RunError::Source { .. }
            | RunError::Sink { .. }
            | RunError::Operator { .. } => true,
            RunError::GivenUp { error, .. } => error.is_retryable(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error that prints its own message only, and has a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("the table cannot be written")]
    struct Own(#[source] std::num::ParseIntError);

    #[test]
    fn each_message_of_a_chain_is_printed_once() {
        let site = || Site { operator: "sink".into(), location: "main.rs:3".into() };
        let full = || std::io::Error::other("no space left");
        let own = || Own("x".parse::<u64>().unwrap_err());
        let io = RunError::Sink { site: site(), error: SinkError::io("cannot write rows", full()) };
        let errors = [
            RunError::Sink { site: site(), error: SinkError::io("cannot write rows", full()) },
            RunError::Source { site: site(), error: SourceError::io("cannot read rows", full()) },
            RunError::Sink { site: site(), error: SinkError::Other(Box::new(own())) },
            RunError::Operator { site: site(), error: OperatorError::User(Box::new(own())) },
            RunError::Checkpoint(CheckpointError::Io { what: "cannot write".into(), error: full() }),
            io.given_up(1, Duration::ZERO, "--restart allows no more attempts"),
        ];
        for error in errors {
            let mut chain = vec![error.to_string()];
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                chain.push(error.to_string());
                cause = error.source();
            }
            let whole = chain.concat();
            assert_eq!(format!("{error:?}"), chain.join(": "));
            for part in ["no space left", "the table cannot be written", "invalid digit found"] {
                assert!(whole.matches(part).count() <= 1, "{chain:?}");
            }
            assert!(whole.contains("no space left") || whole.contains("invalid digit found"), "{chain:?}");
        }
    }

    #[test]
    fn error_is_retryable_if_restart_applies() {
        let site = || Site { operator: "map".into(), location: String::new() };
        let panic = || RunError::Panic { worker: None, site: site(), message: "no".into() };
        assert!(panic().is_retryable());
        let given_up = panic().given_up(1, Duration::ZERO, "--restart allows no more attempts");
        assert!(matches!(given_up, RunError::GivenUp { .. }) && given_up.is_retryable());
        let setup = RunError::Sink { site: site(), error: SinkError::Setup("no".into()) };
        assert!(!setup.is_retryable());
        assert!(!RunError::Engine("no".into()).is_retryable());
    }
}
