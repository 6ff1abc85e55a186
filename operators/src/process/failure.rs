//! Where a row goes for which the user's function returns an error: it fails the query, or leaves by an output of its own.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::build::{Output, OutputPlace, Outputs, Rows};
use crate::named::Timer;
use crate::{Context, Data, EventTime, Key, OperatorError, RowKind, Stream};

/// What a process function returns. `?` works on any error, and so does `Err("a text".into())`.
pub type ProcessResult = Result<(), Box<dyn Error + Send + Sync>>;

/// A call of a process function that returned an error: a row of the side output for failures.
///
/// What the function had emitted and changed in its state before it failed stays. So check first, then change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed<K, T> {
    /// The key.
    pub key: K,
    /// The event time of the row or of the timer.
    pub time: EventTime,
    /// What the function was called for.
    pub call: FailedCall<T>,
    /// The text of the error.
    pub error: String,
}

/// What a process function was called for when it returned an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailedCall<T> {
    /// A row.
    Row(T),
    /// A timer, which is gone.
    Timer(Timer),
}

/// The error of a call, with the key.
struct KeyError {
    key: String,
    error: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}: {}", self.key, self.error)
    }
}

impl fmt::Debug for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for KeyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The error that ends the query.
#[cold]
pub(crate) fn of_key<K: Key>(key: &K, error: Box<dyn Error + Send + Sync>) -> OperatorError {
    let key = serde_json::to_string(key).unwrap_or_else(|_| "that JSON has no form for".to_owned());
    OperatorError::User(Box::new(KeyError { key, error }))
}

/// How a call that failed is handled.
pub(super) trait OnFailure<K, T, O: Outputs>: 'static {
    /// The outputs of the operator: those of the function, and perhaps one more.
    type Outputs: Outputs;
    /// What is kept of a row while the function has it.
    type Kept;

    fn outputs(all: &mut Self::Outputs) -> &mut O;

    fn keep(row: &T) -> Self::Kept;

    fn failed(
        all: &mut Self::Outputs,
        key: &K,
        time: EventTime,
        call: FailedCall<Self::Kept>,
        error: Box<dyn Error + Send + Sync>,
    ) -> Result<(), OperatorError>;
}

/// The query fails.
pub(super) enum FailQuery {}

impl<K: Key, T, O: Outputs> OnFailure<K, T, O> for FailQuery {
    type Outputs = O;
    type Kept = ();

    #[inline]
    fn outputs(all: &mut O) -> &mut O {
        all
    }

    #[inline]
    fn keep(_: &T) {}

    fn failed(
        _: &mut O,
        key: &K,
        _: EventTime,
        _: FailedCall<()>,
        error: Box<dyn Error + Send + Sync>,
    ) -> Result<(), OperatorError> {
        Err(of_key(key, error))
    }
}

/// The row leaves by the last output.
pub(super) enum Divert {}

impl<K: Key, T: Data + Clone, O: Outputs> OnFailure<K, T, O> for Divert {
    type Outputs = WithFailed<O, Failed<K, T>>;
    type Kept = T;

    #[inline]
    fn outputs(all: &mut Self::Outputs) -> &mut O {
        &mut all.own
    }

    #[inline]
    fn keep(row: &T) -> T {
        row.clone()
    }

    fn failed(
        all: &mut Self::Outputs,
        key: &K,
        time: EventTime,
        call: FailedCall<T>,
        error: Box<dyn Error + Send + Sync>,
    ) -> Result<(), OperatorError> {
        all.failed.push(Failed { key: key.clone(), time, call, error: error.to_string() });
        Ok(())
    }
}

/// The outputs of a function, and one for calls that failed.
pub(super) struct WithFailed<O, T> {
    own: O,
    failed: Rows<T>,
}

impl<O: Default, T> Default for WithFailed<O, T> {
    fn default() -> Self {
        WithFailed { own: O::default(), failed: Rows::default() }
    }
}

/// The most outputs that a tuple has, and one.
const MOST: usize = 7;

impl<O: Outputs, T> WithFailed<O, T> {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses what would panic")]
    const ALL: [RowKind; MOST] = {
        let mut all = [RowKind::Insert; MOST];
        let mut own = O::KINDS;
        let mut at = 0;
        while let [first, rest @ ..] = own {
            all[at] = *first;
            (own, at) = (rest, at + 1);
        }
        all
    };
}

impl<O: Outputs, T: Send + 'static> Outputs for WithFailed<O, T> {
    type Streams = (O::Streams, Stream<T>);
    const COUNT: usize = O::COUNT + 1;
    const KINDS: &'static [RowKind] = Self::ALL.split_at(O::COUNT + 1).0;

    fn streams(first: &OutputPlace) -> Self::Streams {
        (O::streams(first), Rows::stream(first.at(O::COUNT)))
    }

    fn send(&mut self, context: &mut Context) {
        self.own.send(context);
        self.failed.send(O::COUNT, context);
    }
}
