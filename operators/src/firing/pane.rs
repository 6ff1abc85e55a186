//! What is kept of a window of a key.

use serde::{Deserialize, Serialize};

use crate::{Data, EventTime, ProcessingTime, Window};

/// Where a window is kept: by its end, then by its start.
pub(super) type Place = (EventTime, EventTime);

pub(super) fn place(window: Window) -> Place {
    (window.end, window.start)
}

pub(super) fn window((end, start): Place) -> Window {
    Window { start, end }
}

/// The accumulator of a window of a key, and how the window has fired.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound(deserialize = "A: serde::de::DeserializeOwned"))]
pub(super) struct Pane<A: Data> {
    pub(super) acc: A,
    /// How many records have come since it last fired.
    pub(super) fresh: u64,
    /// How often it has fired.
    pub(super) fired: u64,
    /// Whether the clock has passed its end. It is kept for late records.
    pub(super) is_closed: bool,
    /// When it fires early.
    pub(super) early_at: Option<ProcessingTime>,
    /// Whether it has fired with the bounds that it has now.
    pub(super) is_shown: bool,
    /// Sessions that have fired with their bounds and are now part of this one.
    pub(super) replaces: Vec<Window>,
    /// Whether the last record of the key went to it; only in aggregates that depend on the order of records.
    pub(super) is_latest: bool,
}

impl<A: Data> Pane<A> {
    /// That of a first record.
    pub(super) fn new(acc: A, is_closed: bool) -> Self {
        Pane {
            acc,
            fresh: 1,
            fired: 0,
            is_closed,
            early_at: None,
            is_shown: false,
            replaces: Vec::new(),
            is_latest: false,
        }
    }
}
