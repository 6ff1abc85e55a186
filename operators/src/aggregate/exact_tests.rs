//! Exact sums against long integers, in every order and however they are merged.

use num_bigint::{BigInt, Sign};
use proptest::prelude::*;

use super::*;

/// A finite float as a multiple of 2⁻¹⁰⁷⁴.
fn units(float: f64) -> BigInt {
    let bits = float.abs().to_bits();
    let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    let magnitude = match exponent {
        0 => BigInt::from(fraction),
        _ => BigInt::from(fraction | 1 << 52) << (exponent - 1),
    };
    if float < 0.0 { -magnitude } else { magnitude }
}

/// Whether a finite float is the one nearest to `exact`, of two the even one; its neighbours are given as units, since the next
/// one may be beyond the end of the range.
fn is_nearest(float: f64, exact: &BigInt, last_bit: bool, next: &BigInt, before: Option<&BigInt>) -> bool {
    let exact = BigInt::from_biguint(Sign::Plus, exact.magnitude().clone());
    let float = units(float.abs());
    let away = |other: &BigInt| match exact.clone() - other {
        away if away.sign() == Sign::Minus => -away,
        away => away,
    };
    let mine = away(&float);
    [Some(next), before].into_iter().flatten().all(|other| match away(other) {
        theirs if theirs == mine => last_bit,
        theirs => theirs > mine,
    })
}

fn check_f64(sum: f64, exact: &BigInt) {
    assert!((exact.sign() == Sign::Minus) == sum.is_sign_negative(), "{sum:e} for {exact}");
    if sum.is_infinite() {
        let end: BigInt = units(f64::MAX) + (BigInt::from(1) << (970 + 1074));
        return assert!(exact.magnitude() >= end.magnitude());
    }
    let bits = sum.abs().to_bits();
    let beyond = units(f64::MAX) + (BigInt::from(1) << (971 + 1074));
    let next = match f64::from_bits(bits + 1) {
        next if next.is_finite() => units(next),
        _ => beyond,
    };
    let before = bits.checked_sub(1).map(|before| units(f64::from_bits(before)));
    let even = bits & 1 == 0;
    assert!(is_nearest(sum, exact, even, &next, before.as_ref()), "{sum:e} is not nearest to {exact}");
}

fn check_f32(sum: f32, exact: &BigInt) {
    if sum.is_infinite() {
        let end: BigInt = units(f64::from(f32::MAX)) + (BigInt::from(1) << (103 + 1074));
        return assert!(exact.magnitude() >= end.magnitude());
    }
    let bits = sum.abs().to_bits();
    let next = match f32::from_bits(bits + 1) {
        next if next.is_finite() => units(next.into()),
        _ => units(2f64.powi(128)),
    };
    let before = bits.checked_sub(1).map(|before| units(f32::from_bits(before).into()));
    assert!(
        is_nearest(sum.into(), exact, bits & 1 == 0, &next, before.as_ref()),
        "{sum:e} is not nearest to {exact}"
    );
}

/// A total of the floats, divided and merged as the seed has it; parts are taken in, and out again, on the way.
fn total<F: Copy>(floats: &[F], seed: u64) -> Exact
where
    Exact: Total<F>,
{
    match floats {
        [] => unreachable!(),
        [float] => <Exact as Total<F>>::of(*float),
        _ if floats.len() < 4 || seed.is_multiple_of(3) => {
            let mut total = <Exact as Total<F>>::of(floats[0]);
            floats[1..].iter().for_each(|float| Total::<F>::add(&mut total, *float));
            total
        }
        _ => {
            let (left, right) = floats.split_at(1 + seed as usize % (floats.len() - 1));
            let (mut left, right) = (total(left, seed / 3), total(right, seed / 5));
            Total::<F>::merge(&mut left, right.clone());
            if seed.is_multiple_of(2)
                && Total::<F>::can_retract(&right, 2)
                && Total::<F>::can_retract(&left, 2)
            {
                Total::<F>::merge(&mut left, right.clone());
                Total::<F>::retract(&mut left, &right);
            }
            let bytes = postcard::to_stdvec(&left).unwrap();
            postcard::from_bytes(&bytes).unwrap()
        }
    }
}

/// The bits of the sum of the floats in several orders and divisions, which are the same.
fn sum<F: Copy + Into<f64>>(floats: &mut [F], seeds: [u64; 4], bits: impl Fn(F) -> u64) -> F
where
    Exact: Total<F>,
{
    let first: F = total(floats, 0).value();
    for seed in seeds {
        for place in (1..floats.len()).rev() {
            floats.swap(place, (seed.rotate_left(place as u32 % 64) % (place as u64 + 1)) as usize);
        }
        assert_eq!(bits(total(floats, seed).value()), bits(first), "order and division show in the sum");
    }
    first
}

/// Floats whose sums come out differently by plain addition: near together, far apart, cancelling, at the ends.
fn floats() -> impl Strategy<Value = Vec<f64>> {
    let finite = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |float| float.is_finite());
    let one = prop_oneof![
        4 => finite.clone(),
        4 => (-1_000_000i64..1_000_000).prop_map(|cents| cents as f64 / 100.0),
        2 => (any::<i32>(), -60..60i32).prop_map(|(n, exponent)| f64::from(n) * 2f64.powi(exponent)),
        1 => Just(f64::MAX),
        1 => Just(-f64::MAX),
        1 => Just(5e-324),
        1 => Just(2f64.powi(970)),
        1 => Just(-0.0),
    ];
    let near = (-1_000i64..1_000).prop_map(|n| n as f64 * 5e-324 * 1e5);
    let list = prop_oneof![
        proptest::collection::vec(one.clone(), 1..40),
        proptest::collection::vec(near, 1..40),
        proptest::collection::vec(one.clone(), 1..4),
    ];
    // Some of them are cancelled by their opposites.
    (list, any::<u64>()).prop_map(|(mut list, seed)| {
        for place in 0..list.len() {
            if seed >> (place % 64) & 1 == 1 {
                list.push(-list[place]);
            }
        }
        list
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn float_sums_are_exact_in_every_order(mut floats in floats(), seeds: [u64; 4]) {
        let exact: BigInt = floats.iter().copied().map(units).sum();
        let sum = sum(&mut floats, seeds, f64::to_bits);
        if exact == BigInt::ZERO {
            prop_assert_eq!(sum, 0.0);
            prop_assert_eq!(sum.is_sign_negative(), floats.iter().all(|float| float.to_bits() == (-0.0f64).to_bits()));
        } else {
            check_f64(sum, &exact);
        }
    }

    #[test]
    fn short_float_sums_are_exact_in_every_order(floats in floats(), raw: Vec<u32>, seeds: [u64; 4]) {
        let raw = raw.into_iter().map(f32::from_bits);
        let mut floats: Vec<f32> =
            floats.into_iter().map(|float| float as f32).chain(raw).filter(|float| float.is_finite()).collect();
        floats.push(0.5);
        let exact: BigInt = floats.iter().map(|float| units(f64::from(*float))).sum();
        let sum = sum(&mut floats, seeds, |float| float.to_bits().into());
        if exact != BigInt::ZERO {
            check_f32(sum, &exact);
        }
    }

    #[test]
    fn sums_with_what_is_not_finite_have_one_result(
        mut floats in floats(),
        odd in proptest::collection::vec(prop_oneof![
            2 => Just(f64::INFINITY), 2 => Just(f64::NEG_INFINITY), 1 => Just(f64::NAN), 1 => Just(-f64::NAN),
        ], 1..4),
        seeds: [u64; 4],
    ) {
        floats.extend(&odd);
        let sum = sum(&mut floats, seeds, f64::to_bits);
        let both = odd.contains(&f64::INFINITY) && odd.contains(&f64::NEG_INFINITY);
        if both || odd.iter().any(|float| float.is_nan()) {
            prop_assert_eq!(sum.to_bits(), f64::NAN.to_bits());
        } else {
            prop_assert_eq!(sum, odd[0]);
        }
    }
}

#[test]
fn a_pair_of_floats_is_enough_for_sums_of_amounts() {
    let mut total = <Exact as Total<f64>>::of(0.0);
    (0..1_000_000).for_each(|n| Total::<f64>::add(&mut total, f64::from(n) / 100.0));
    assert!(!total.has_bins());
    assert_eq!(Total::<f64>::value(&total), 4_999_995_000.0);
    assert_eq!(size_of::<Exact>(), 24);
    Total::<f64>::add(&mut total, 1e-300);
    assert!(total.has_bins());
    assert_eq!(Total::<f64>::value(&total), 4_999_995_000.0);
}

#[test]
fn bins_pass_carries_on_before_they_run_full() {
    let bins = |number: f64| {
        let mut bins = Bins::default();
        bins.add(number);
        bins
    };
    let mut total = bins(f64::MAX);
    // Doubles it, so that the number of additions that it stands for grows past what the bins have room for.
    for doublings in 1..80 {
        let copy = total.clone();
        total.join(&copy, false);
        total.join(&bins(-f64::MAX), false);
        total.join(&bins(f64::MAX), false);
        let half = bins(2f64.powi(-1074));
        total.join(&half, false);
        total.join(&half, true);
        assert_eq!(total.value(Round::Nearest), f64::INFINITY, "{doublings}");
    }
    let mut back = total.clone();
    back.join(&total, true);
    assert_eq!(back.value(Round::Nearest).to_bits(), 0);
    back.join(&bins(-1.5), false);
    assert_eq!(back.value(Round::Nearest), -1.5);
}
