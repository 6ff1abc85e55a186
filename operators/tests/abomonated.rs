//! Blocks of rows as they lie in memory: what comes back, and what is refused. Also run under valgrind, by
//! `ci/valgrind.sh`: the tests called `solid` have rows without padding, whose every byte is accounted for.
#![cfg(feature = "abomonation")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill_operators::codec::{Abomonable, Abomonated, Codec, CodecError};
use tidemill_operators::{Data, EventTime, abomonate};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Order {
    customer: String,
    cents: u64,
    items: Vec<u32>,
}
abomonate!(Order { customer: String, cents: u64, items: Vec<u32> });

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Basket {
    at: EventTime,
    note: Option<String>,
    orders: Vec<Order>,
    flag: bool,
    weights: Vec<(u8, f64)>,
    wide: Vec<u128>,
}
abomonate!(Basket {
    at: EventTime,
    note: Option<String>,
    orders: Vec<Order>,
    flag: bool,
    weights: Vec<(u8, f64)>,
    wide: Vec<u128>,
});

trait Row: Data + Clone + PartialEq + Debug + Abomonable {}
impl<T: Data + Clone + PartialEq + Debug + Abomonable> Row for T {}

fn block<T: Row>(rows: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Abomonated::encode(rows, &mut bytes).unwrap();
    bytes
}

/// Reads the block where it lies.
fn read_there<T: Row>(bytes: &mut [u8]) -> Result<Vec<T>, CodecError> {
    let mut rows = Vec::new();
    Abomonated::decode(bytes, &mut rows).map(|()| rows)
}

fn read<T: Row>(bytes: &[u8]) -> Result<Vec<T>, CodecError> {
    read_there(&mut bytes.to_vec())
}

fn is_as_in_memory(block: &[u8]) -> bool {
    block[8..16] != u64::MAX.to_ne_bytes()
}

/// Every way in which a block can lie in memory or be cut off.
fn check<T: Row>(rows: &[T]) {
    let whole = block(rows);
    for offset in 0..16 {
        let mut around = vec![0xAA; whole.len() + 64];
        let base = around.as_ptr().align_offset(16);
        let place = &mut around[base + offset..][..whole.len()];
        place.copy_from_slice(&whole);
        assert_eq!(read_there::<T>(place).unwrap(), rows, "at offset {offset}");
        assert!(around[..base + offset].iter().all(|byte| *byte == 0xAA), "before offset {offset}");
    }
    for end in 0..whole.len() {
        assert!(matches!(read::<T>(&whole[..end]), Err(CodecError::Foreign)), "cut at {end}");
    }
    for begin in 1..whole.len().min(64) {
        assert!(matches!(read::<T>(&whole[begin..]), Err(CodecError::Foreign)), "begun at {begin}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(read::<T>(&longer).is_err(), "a byte too many");
    // It is appended at any offset, and leaves the bytes before it alone.
    for before in 0..16 {
        let mut bytes = vec![7; before];
        Abomonated::encode(rows, &mut bytes).unwrap();
        assert!(bytes[..before].iter().all(|byte| *byte == 7));
        assert_eq!(read::<T>(&bytes[before..]).unwrap(), rows);
    }
}

fn orders(count: usize) -> Vec<Order> {
    let order = |n: usize| Order {
        customer: "x".repeat(n % 19),
        cents: n as u64,
        items: (0..n as u32 % 7).collect(),
    };
    (0..count).map(order).collect()
}

#[test]
fn numbers_survive_every_offset_and_no_truncation_passes() {
    check::<u8>(&[]);
    check::<u8>(&[1, 2, 3]);
    check(&[u128::MAX, 1]);
    check(&[(1u64, u64::MAX), (0, 0)]);
    check(&[f64::INFINITY, -0.0]);
    check(&['a', 'é', '🌊']);
    check(&[EventTime::from_micros(i64::MIN), EventTime::from_micros(0)]);
    check(&[[1u16; 5], [2; 5]]);
}

#[test]
fn strings_survive_every_offset_and_no_truncation_passes() {
    check(&[String::new(), "tide".to_owned(), "é".repeat(40)]);
    check(&[Vec::<u64>::new(), vec![1], vec![2; 9], Vec::with_capacity(5)]);
    check(&[vec![vec![1u32], vec![]], vec![], vec![vec![2; 3], vec![3; 2]]]);
    check(&[vec!["a".to_owned(), String::new(), "b".repeat(33)], vec![]]);
    check(&orders(23));
}

#[test]
fn solid_rows_without_size_come_back() {
    check(&[(), (), ()]);
    check::<()>(&[]);
    check(&[vec![(), ()], vec![], vec![(); 7]]);
    check(&[((), 1u8), ((), 2)]);
    check(&[vec![((), ()); 3], vec![]]);
}

#[test]
fn padding_survives_every_offset_and_no_truncation_passes() {
    check(&[Some(1u64), None]);
    check(&[None, Some("tide".to_owned()), Some(String::new())]);
    check(&[(1u8, 2u64, true), (3, 4, false)]);
    check(&[(Some(vec![1u16]), "abc".to_owned()), (None, String::new())]);
    check(&[Some(Duration::from_nanos(5)), None]);
    check(&[(1u8, (2u32, (3u8, Some(vec![(4u8, 5u64)]))))]);
}

#[test]
fn structs_survive_every_offset_and_no_truncation_passes() {
    let basket = |n: usize| Basket {
        at: EventTime::from_micros(n as i64),
        note: (n % 2 == 1).then(|| "n".repeat(n)),
        orders: orders(n),
        flag: n.is_multiple_of(3),
        weights: vec![(n as u8, n as f64); n % 4],
        wide: vec![u128::MAX; n % 3],
    };
    check(&(0..6).map(basket).collect::<Vec<_>>());
}

#[test]
fn struct_with_text_before_vector_keeps_its_layout() {
    assert!(is_as_in_memory(&block(&orders(100))));
}

#[test]
fn what_would_be_misaligned_is_written_another_way() {
    let rows = [("odd".to_owned(), vec![1u64, 2]), ("even".to_owned(), vec![3])];
    assert!(!is_as_in_memory(&block(&rows)));
    check(&rows);
    // A part that happens to lie well may stay.
    assert!(is_as_in_memory(&block(&[(vec![3u64], "odd".to_owned())])));
}

#[test]
fn rows_of_another_type_are_refused() {
    assert!(matches!(read::<i64>(&block(&[1u64, 2])), Err(CodecError::Foreign)));
    assert!(matches!(read::<Vec<u8>>(&block(&[String::from("a")])), Err(CodecError::Foreign)));
}

#[test]
fn a_changed_bit_is_refused_wherever_it_is() {
    let whole = block(&orders(5));
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read::<Order>(&changed), Err(CodecError::Foreign)), "bit {bit}");
    }
}

#[test]
fn what_was_there_before_a_refusal_stays() {
    let mut rows = vec![1u64];
    assert!(Abomonated::decode(&mut [0; 40], &mut rows).is_err());
    assert_eq!(rows, [1]);
}

#[test]
fn a_block_is_shown_where_it_lies_and_only_once() {
    let rows = orders(20);
    let mut bytes = vec![0; 16];
    let shift = bytes.as_ptr().align_offset(16);
    bytes.truncate(shift);
    Abomonated::encode(&rows, &mut bytes).unwrap();
    let place = &mut bytes[shift..];
    let (range, mut shown) = (place.as_ptr_range(), 0);
    Abomonated::visit(place, &mut |read: &[Order]| {
        assert_eq!(read, rows);
        shown += usize::from(range.contains(&read.as_ptr().cast()));
    })
    .unwrap();
    // Its pointers have been changed, unless it had to be copied.
    assert_eq!(read::<Order>(place).is_err(), shown == 1);
}

#[test]
fn the_rows_that_come_back_are_on_their_own() {
    let bytes = block(&orders(9));
    let mut rows: Vec<Order> = read(&bytes).unwrap();
    drop(bytes);
    for order in &mut rows {
        order.customer.push('!');
        order.items.push(1);
    }
    assert_eq!(rows[4].customer, "xxxx!");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn solid_random_rows_come_back(
        rows in proptest::collection::vec(
            (".{0,20}", any::<u64>(), proptest::collection::vec(any::<u32>(), 0..6)), 0..20,
        ),
    ) {
        let order = |(customer, cents, items)| Order { customer, cents, items };
        let orders: Vec<Order> = rows.iter().cloned().map(order).collect();
        prop_assert_eq!(read::<Order>(&block(&orders)).unwrap(), orders);
        prop_assert_eq!(read::<(String, u64, Vec<u32>)>(&block(&rows)).unwrap(), rows);
    }
}
