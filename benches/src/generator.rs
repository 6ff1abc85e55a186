//! Inputs that are a function of an index, so that two programs under comparison see the same records
//! without sharing a file, and a checksum that does not care in which order rows arrive.

/// Scrambles a number (the finaliser of SplitMix64): neighbours come out unrelated, and no two numbers collide.
#[inline]
#[must_use]
pub const fn splitmix64(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A key in `0..keys` for event `index`. The range is cut by a multiplication, as a division would cost more
/// than everything else the generator does.
#[inline]
#[must_use]
pub const fn key(index: u64, keys: u64) -> u64 {
    ((splitmix64(index) as u128 * keys as u128) >> 64) as u64
}

/// Event `index` as `(key, event time)`: a scrambled key, and a time that grows by `step` from event to event.
#[inline]
#[must_use]
pub const fn event(index: u64, keys: u64, step: i64) -> (u64, i64) {
    (key(index, keys), index as i64 * step)
}

/// The width that gives `windows` tumbling windows over `events` events that lie `step` apart.
#[must_use]
pub const fn window_width(events: u64, step: i64, windows: u64) -> i64 {
    let windows = if windows == 0 { 1 } else { windows };
    let width = (events.div_ceil(windows)) as i64 * step;
    if width < 1 { 1 } else { width }
}

/// What one result row adds to an answer's checksum. Checksums are the wrapping sum over all rows, so any
/// order and any division of the rows among workers gives the same one.
#[inline]
#[must_use]
pub const fn row_checksum(key: u64, window: i64, count: u64) -> u64 {
    splitmix64(key ^ splitmix64((window as u64) ^ splitmix64(count)))
}

/// What one word and its count add to an answer's checksum (see [`row_checksum`]).
#[must_use]
pub fn word_checksum(word: &str, count: u64) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in word.as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    splitmix64(hash ^ splitmix64(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cover_their_range_evenly() {
        let mut seen = vec![0_u32; 100];
        for index in 0..100_000 {
            seen[key(index, 100) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1_200).contains(&n)), "{seen:?}");
    }

    #[test]
    fn widths_divide_the_run() {
        assert_eq!(window_width(100, 5, 10), 50);
        assert_eq!(window_width(101, 5, 10), 55);
        assert_eq!(window_width(0, 5, 10), 1);
    }

    #[test]
    fn checksums_tell_rows_apart() {
        assert_ne!(row_checksum(1, 2, 3), row_checksum(1, 3, 2));
        assert_ne!(row_checksum(1, 2, 3), row_checksum(2, 2, 3));
        assert_ne!(word_checksum("ab", 1), word_checksum("ba", 1));
    }
}
