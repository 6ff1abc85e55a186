//! The hash of a value in a sketch, which is in checkpoints: the same in every run and on every platform.
//!
//! A number is hashed by its value and not by its bytes, and by 64 bits whatever the width of `usize`. Texts and other bytes are
//! hashed by XXH3, whose result is specified. Each part is mixed by the finalizer of MurmurHash3 (A. Appleby), which is a bijection:
//! two different numbers of 64 bits never have the same hash.

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::xxh3_64;

/// Returns the hash of a value. A borrowed form has the hash of its owned one (`str` as `String`).
///
/// It must never change: sketches in checkpoints consist of hashes.
#[inline]
pub(super) fn hash_value<Q: Hash + ?Sized>(value: &Q) -> u64 {
    // The start is arbitrary, but not zero, whose hash is zero.
    let mut hasher = ValueHasher(0x7469_6465_6d69_6c6c);
    value.hash(&mut hasher);
    hasher.finish()
}

/// Spreads every bit of a number over all bits.
#[inline]
pub(super) fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

struct ValueHasher(u64);

impl Hasher for ValueHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(xxh3_64(bytes));
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        // Rotated, so that parts that are exchanged give another hash.
        self.0 = mix(self.0.rotate_left(23) ^ number);
    }

    #[inline]
    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    #[inline]
    fn write_i8(&mut self, number: i8) {
        self.write_i64(number.into());
    }

    #[inline]
    fn write_i16(&mut self, number: i16) {
        self.write_i64(number.into());
    }

    #[inline]
    fn write_i32(&mut self, number: i32) {
        self.write_i64(number.into());
    }

    #[inline]
    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }

    #[inline]
    fn write_i128(&mut self, number: i128) {
        self.write_u128(number.cast_unsigned());
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.write_i64(number as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_never_changes() {
        assert_eq!(hash_value(&0u64), 0x65d9_ef1f_add0_3db3);
        assert_eq!(hash_value(&1u64), 0x6afa_5043_e392_0746);
        assert_eq!(hash_value("tide"), 0x6d60_6114_7ccf_75b1);
        assert_eq!(hash_value(&(7u32, "mill")), 0xb636_ac56_ccf9_9c05);
    }

    #[test]
    fn hash_depends_on_value_and_not_on_its_width() {
        assert_eq!(hash_value(&7usize), hash_value(&7u64));
        assert_eq!(hash_value(&7u8), hash_value(&7u64));
        assert_eq!(hash_value(&-7isize), hash_value(&-7i64));
        assert_eq!(hash_value(&"tide".to_owned()), hash_value("tide"));
        assert_ne!(hash_value(&(1u64, 2u64)), hash_value(&(2u64, 1u64)));
    }

    #[test]
    fn bits_of_hashes_of_successive_numbers_are_even() {
        for bit in 0..64 {
            let ones = (0..10_000u64).filter(|number| hash_value(number) >> bit & 1 == 1).count();
            assert!(ones.abs_diff(5_000) < 250, "bit {bit}: {ones}");
        }
    }
}
