//! Asking the memory for what is needed soon. It is a hint: nothing but time depends on it.
//!
//! # Unsafe code
//!
//! The instruction that asks for a line of memory is an unsafe function, as it takes a pointer; but it reads nothing,
//! writes nothing and does not fault, whatever the address is, so there is nothing that a caller has to keep to.

#![allow(unsafe_code, reason = "the safety argument is above")]

/// Bytes that are fetched together.
pub(crate) const LINE: usize = 64;

/// Has the memory fetched where a value begins.
#[inline(always)]
pub fn fetch_value<T>(value: &T) {
    fetch(std::ptr::from_ref(value).addr());
}

/// Has the memory fetched where a value is or will be.
#[inline(always)]
pub(crate) fn fetch_at<T>(place: *const T) {
    fetch(place.addr());
}

/// How many lines of a list are fetched at most.
const LINES_OF_LIST: usize = 16;

/// Has the memory fetched where a list is, or as much of it as a core can wait for.
#[inline]
pub(crate) fn fetch_all<T>(list: &[T]) {
    let start = list.as_ptr().addr();
    let end = start.wrapping_add(size_of_val(list).min(LINE * LINES_OF_LIST));
    (start / LINE..end.div_ceil(LINE)).for_each(|line| fetch(line * LINE));
}

/// Has the line of memory at an address fetched.
#[inline(always)]
pub(crate) fn fetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which does nothing but fill a cache, and nothing at all if the address is not a good one.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
