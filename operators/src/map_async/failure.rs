//! Where a row goes whose request has failed: it fails the query, or leaves by an output of its own.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::build::{KeepsTime, Outputs};
use crate::chain::TimeDomain;
use crate::{Data, EventTime, OperatorError};

/// A row whose request has failed, after all attempts: a row of the side output of
/// [`map_async_with_failed`](crate::Stream::map_async_with_failed).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRequest<T> {
    /// The row.
    pub row: T,
    /// How many attempts there were.
    pub attempts: u32,
    /// How the last one failed.
    pub failure: RequestFailure,
}

/// How a request has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestFailure {
    /// It was not answered in time.
    TimedOut,
    /// The function returned an error, whose text this is.
    Failed(String),
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFailure::TimedOut => f.write_str("not answered in time"),
            RequestFailure::Failed(error) => f.write_str(error),
        }
    }
}

/// The error that ends the query.
#[derive(Debug)]
struct RequestError {
    attempts: u32,
    failure: RequestFailure,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestError { attempts, failure } = self;
        let attempts = if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
        write!(
            f,
            "a request has failed after {attempts}: {failure}. `map_async_with_failed` sends the rows of such requests to a side output"
        )
    }
}

impl Error for RequestError {}

/// How a request that failed is handled.
pub(super) trait OnFailure<T, R: Send + 'static, M: TimeDomain>: 'static {
    /// The outputs of the operator: the results, and perhaps the failures.
    type Outputs: Outputs;

    fn answered(out: &mut Self::Outputs, time: EventTime, result: R);

    fn failed(
        out: &mut Self::Outputs,
        time: EventTime,
        failed: FailedRequest<T>,
    ) -> Result<(), OperatorError>;
}

/// The query fails.
pub(super) enum FailQuery {}

impl<T, R: Send + 'static, M: TimeDomain> OnFailure<T, R, M> for FailQuery {
    type Outputs = (KeepsTime<R, M>,);

    fn answered(out: &mut Self::Outputs, time: EventTime, result: R) {
        out.0.push(time, result);
    }

    fn failed(_: &mut Self::Outputs, _: EventTime, failed: FailedRequest<T>) -> Result<(), OperatorError> {
        let FailedRequest { attempts, failure, .. } = failed;
        Err(OperatorError::User(Box::new(RequestError { attempts, failure })))
    }
}

/// The row leaves by the second output.
pub(super) enum Divert {}

impl<T: Data, R: Send + 'static, M: TimeDomain> OnFailure<T, R, M> for Divert {
    type Outputs = (KeepsTime<R, M>, KeepsTime<FailedRequest<T>, M>);

    fn answered(out: &mut Self::Outputs, time: EventTime, result: R) {
        out.0.push(time, result);
    }

    fn failed(
        out: &mut Self::Outputs,
        time: EventTime,
        failed: FailedRequest<T>,
    ) -> Result<(), OperatorError> {
        out.1.push(time, failed);
        Ok(())
    }
}
