//! Which query writes into an output, and in which of its runs: what an output is claimed with.

use serde::{Deserialize, Serialize};

/// A record beside an output, or in an external ledger, of the query and the run that wrote there last.
///
/// A sink that keeps its output across runs writes the claim of [`SinkContext::claim`](super::SinkContext::claim) before
/// its first row, and reads an existing claim before that. [`SinkContext::owns`](super::SinkContext::owns) decides whether
/// the output is this query's: only then may it truncate, delete or rename anything of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputClaim {
    /// The id of the query's checkpoint; see [`SinkContext::query_id`](super::SinkContext::query_id).
    pub query_id: String,
    /// The name of the query, for messages.
    pub query: String,
    /// The execution number of the run.
    pub execution: u64,
    /// A random number of the run, in hexadecimal: two copies of a checkpoint count their executions alike.
    pub run: String,
}

/// The id of a query and the runs that its checkpoint knows of.
///
/// The checkpoint makes the id when it is created, and keeps it in restarts; a run that begins from a savepoint gets a new
/// one. Each run adds a random number of its own, so a copied checkpoint does not know the runs that the original has
/// made since, nor the other way round.
///
/// ```
/// use tidemill::QueryIdentity;
///
/// let first = QueryIdentity::new("4af1", vec![(1, "a0".to_owned())]);
/// let restarted = QueryIdentity::new("4af1", vec![(1, "a0".to_owned()), (2, "b7".to_owned())]);
/// let copied = QueryIdentity::new("4af1", vec![(1, "a0".to_owned()), (2, "c3".to_owned())]);
/// let claim = restarted.claim("orders").ok_or("a run")?;
/// assert!(restarted.owns(&claim));
/// assert!(!first.owns(&claim) && !copied.owns(&claim));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QueryIdentity {
    id: String,
    /// Execution and random number, in ascending order; the last is the present run.
    runs: Vec<(u64, String)>,
}

impl QueryIdentity {
    /// An identity with these runs, by execution number and random number; the last one is the present run.
    pub fn new(id: impl Into<String>, runs: Vec<(u64, String)>) -> Self {
        QueryIdentity { id: id.into(), runs }
    }

    /// The id of the query.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The runs that are known: execution number and random number, in ascending order.
    pub fn runs(&self) -> &[(u64, String)] {
        &self.runs
    }

    /// The claim of the present run, for the query of that name.
    pub fn claim(&self, query: &str) -> Option<OutputClaim> {
        let (execution, run) = self.runs.last()?.clone();
        Some(OutputClaim { query_id: self.id.clone(), query: query.to_owned(), execution, run })
    }

    /// Whether a claim was made by this query in a run that it knows of. Runs before the first one in the list are
    /// believed: the list of a checkpoint is bounded.
    pub fn owns(&self, claim: &OutputClaim) -> bool {
        let is_old = self.runs.first().is_some_and(|(execution, _)| claim.execution < *execution);
        let is_known =
            || self.runs.iter().any(|(execution, run)| (*execution, run) == (claim.execution, &claim.run));
        claim.query_id == self.id && (is_old || is_known())
    }
}
