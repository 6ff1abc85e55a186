//! How a chain assigns watermarks, and what it has observed of a batch.

use std::time::Duration;

use crate::EventTime;
use crate::setting::Setting;
use crate::span::words;

/// The watermark that the records of a batch justify, gathered while they pass.
#[derive(Debug)]
pub struct ObservedWatermark {
    /// The greatest candidate so far; `EventTime::MIN` before the first.
    pub watermark: EventTime,
    /// Whether there was any.
    pub seen: bool,
}

impl ObservedWatermark {
    /// A observed that has seen nothing.
    pub fn new() -> Self {
        ObservedWatermark { watermark: EventTime::MIN, seen: false }
    }
}

impl Default for ObservedWatermark {
    fn default() -> Self {
        ObservedWatermark::new()
    }
}

/// How a stream's watermark is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkSpec {
    /// How far records may be behind the latest one of their partition; `None` where records say it themselves.
    pub delay: Option<Duration>,
    /// After how long without records a partition no longer holds the others back.
    pub idle_after: Option<Duration>,
}

impl WatermarkSpec {
    /// The settings that a restored watermark depends on.
    ///
    /// `idle_after` is not one: it decides when a partition stops holding the watermark, from the restart on.
    pub fn settings(&self) -> Vec<Setting> {
        match self.delay {
            Some(delay) => vec![("watermark", "delayed".to_owned()), ("delay", words(delay))],
            None => vec![("watermark", "punctuated".to_owned())],
        }
    }
}
