//! Spans of time in words, and what can be wrong with them.

use std::time::Duration;

/// A span as people write it: `10m`, `1h30m`, `250ms`.
pub(crate) fn words(span: Duration) -> String {
    let (secs, nanos) = (span.as_secs(), span.subsec_nanos());
    let parts = [
        (secs / 86_400, "d"),
        (secs / 3_600 % 24, "h"),
        (secs / 60 % 60, "m"),
        (secs % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1_000 % 1_000), "us"),
        (u64::from(nanos % 1_000), "ns"),
    ];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// An offset in words, if there is one: `, offset 2m`.
pub(crate) fn offset_words(offset: Duration) -> String {
    if offset.is_zero() { String::new() } else { format!(", offset {}", words(offset)) }
}

/// An offset as a setting: an offset of a whole `slide` moves nothing.
pub(crate) fn offset_setting(offset: Duration, slide: Duration) -> String {
    let rest = offset.as_nanos().checked_rem(slide.as_nanos()).unwrap_or_default();
    let nanos = u64::try_from(rest).map_or(offset, Duration::from_nanos);
    words(nanos)
}

/// Why a span cannot be the `what` of a window: it is nothing, or finer than event time is.
pub(crate) fn span_problem(what: &str, span: Duration) -> Option<String> {
    if span.is_zero() {
        return Some(format!("the {what} is zero: give it at least one microsecond"));
    }
    fraction_problem(what, span)
}

/// Why a span cannot be used with event times: it is finer than they are.
pub(crate) fn fraction_problem(what: &str, span: Duration) -> Option<String> {
    (!span.subsec_nanos().is_multiple_of(1_000)).then(|| {
        format!(
            "the {what} of {} is not a whole number of microseconds: event time has a resolution of one microsecond; \
             round it",
            words(span)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        for (micros, text) in [
            (600_000_000, "10m"),
            (5_400_000_000, "1h30m"),
            (1_500_000, "1s500ms"),
            (90_000_000_007, "1d1h7us"),
            (0, "0s"),
        ] {
            assert_eq!(words(Duration::from_micros(micros)), text);
        }
    }
}
