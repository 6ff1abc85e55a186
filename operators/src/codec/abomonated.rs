//! Rows as they lie in memory: read back by putting pointers right, many times faster than any decoding. Apart from
//! a hint to the processor in `prefetch.rs`, the only unsafe code of this crate.
//!
//! `abomonation` is unsound on bytes that it did not write itself (RUSTSEC-2021-0120), on misaligned bytes, and on types
//! whose `Abomonation` does not tell of all their pointers. What is done about it:
//!
//! - *Foreign bytes.* A block begins with a keyed hash of all that follows, of its length and of the type of the rows;
//!   the key is drawn when the process starts and never leaves it. So [`Abomonated::decode`](Codec::decode) is safe on
//!   any bytes: a truncated, damaged or foreign block is refused before a pointer is touched.
//! - *Alignment.* A block is read at an address that is a multiple of [`BLOCK`], or copied to one; in it, the rows come first, and what a row owns
//!   begins at a multiple of [`Abomonable::ALIGN`]. What else must be aligned is checked while it is written: a part
//!   that comes from `address` and has `length` bytes holds values whose alignment divides both, and `ALIGN`; where its
//!   place is not a multiple of all three's common power of two the block is written with postcard instead.
//!   [`abomonate!`](crate::abomonate) pads fields, so that this does not happen to ordinary structs.
//! - *Types.* [`Abomonable`] is an unsafe trait: the macro implements it and checks that no field is left out.
//! - *Ownership.* The rows in a block own nothing: they are borrowed for a call, for looking or cloning, never dropped.
//!   The bytes are borrowed mutably for as long. Afterwards their seal no longer fits, and they are refused.
//! - *Padding* between fields is copied along with its row and has no defined value. Only bytes are made of it, in
//!   memory that the compiler is told to know nothing of ([`black_box`]).

#![allow(unsafe_code, reason = "the safety argument is above; every block says which part of it holds")]

use std::any::TypeId;
use std::hash::{BuildHasher, Hash, Hasher};
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::OnceLock;

use abomonation::Abomonation;

use super::{Codec, CodecError, Postcard};
use crate::{Data, EventTime};

/// The alignment of a block, and the length of its head: hash and number of rows.
const BLOCK: usize = 16;
/// In the place of the number of rows: they are written with postcard.
const IN_POSTCARD: u64 = u64::MAX;

/// Rows as they lie in memory. Only for what this very process reads back; never for a checkpoint or a socket.
///
/// ```
/// use tidemill::codec::{Abomonated, Codec};
///
/// let mut bytes = Vec::new();
/// Abomonated::encode(&[(1u64, "tide".to_owned())], &mut bytes)?;
/// let mut rows: Vec<(u64, String)> = Vec::new();
/// Abomonated::decode(&mut bytes.clone(), &mut rows)?;
/// assert_eq!(rows, [(1, "tide".to_owned())]);
/// assert!(<Abomonated as Codec<u64>>::decode(&mut bytes, &mut vec![]).is_err());
/// # Ok::<(), tidemill::codec::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Abomonated;

/// A type whose [`Abomonation`] is to be relied upon. Implemented by [`abomonate!`](crate::abomonate) for your structs.
///
/// # Safety
///
/// `entomb` and `exhume` must tell of every pointer in a value; types whose references alone promise that what they
/// point to is there (a `Box`, a reference) must not be among them. `ALIGN` must be a power of two and at least the
/// alignment of everything that a value owns outside itself, however deep.
pub unsafe trait Abomonable: Abomonation {
    /// The greatest alignment of what a value owns outside itself; 1 if it owns nothing.
    const ALIGN: usize;
}

macro_rules! plain {
    ($($plain:ty),*) => {$(
        // SAFETY: there are no pointers in it.
        unsafe impl Abomonable for $plain {
            const ALIGN: usize = 1;
        }
    )*};
}

plain! { u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, bool, char }
plain! { (), std::time::Duration, EventTime }

impl Abomonation for EventTime {}

// SAFETY: a string owns bytes, and abomonation knows.
unsafe impl Abomonable for String {
    const ALIGN: usize = 1;
}

// SAFETY: a vector owns its elements and what they own, and abomonation knows.
unsafe impl<T: Abomonable> Abomonable for Vec<T> {
    const ALIGN: usize = max(&[align_of::<T>(), T::ALIGN]);
}

// SAFETY: an option owns what its value owns, and abomonation knows.
unsafe impl<T: Abomonable> Abomonable for Option<T> {
    const ALIGN: usize = T::ALIGN;
}

// SAFETY: an array owns what its elements own, and abomonation knows.
unsafe impl<T: Abomonable, const N: usize> Abomonable for [T; N]
where
    [T; N]: Abomonation,
{
    const ALIGN: usize = T::ALIGN;
}

macro_rules! tuples {
    ($($($part:ident)+;)+) => {$(
        // SAFETY: a tuple owns what its parts own, and abomonation knows.
        unsafe impl<$($part: Abomonable),+> Abomonable for ($($part,)+) {
            const ALIGN: usize = max(&[$($part::ALIGN),+]);
        }
    )+};
}

tuples! { A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G; A B C D E F G H; }

/// Lets rows of a struct be [`Abomonated`]: all its fields, each with its type. One left out does not compile.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidemill::codec::{Abomonated, Codec};
///
/// #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
/// struct Order { customer: String, cents: u64, items: Vec<u32> }
/// tidemill::abomonate!(Order { customer: String, cents: u64, items: Vec<u32> });
///
/// let orders = vec![Order { customer: "ada".into(), cents: 250, items: vec![7, 9] }];
/// let (mut bytes, mut read) = (Vec::new(), Vec::<Order>::new());
/// Abomonated::encode(&orders, &mut bytes)?;
/// Abomonated::decode(&mut bytes, &mut read)?;
/// assert_eq!(read, orders);
/// # Ok::<(), tidemill::codec::CodecError>(())
/// ```
///
/// ```compile_fail
/// struct Order { customer: String, cents: u64 }
/// tidemill::abomonate!(Order { customer: String });
/// ```
#[macro_export]
macro_rules! abomonate {
    ($type:ident { $($field:ident : $of:ty),+ $(,)? }) => {
        #[allow(unsafe_code, reason = "every field is told, each by its own implementation")]
        const _: () = {
            use $crate::codec::expansion;

            impl expansion::Abomonation for $type {
                #[inline]
                unsafe fn entomb<W: ::std::io::Write>(&self, write: &mut W) -> ::std::io::Result<()> {
                    let Self { $($field),+ } = self;
                    $(unsafe { expansion::entomb_padded::<$of, Self, W>($field, write)? };)+
                    Ok(())
                }

                #[inline]
                unsafe fn exhume<'b>(&mut self, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
                    let Self { $($field),+ } = self;
                    $(let bytes = unsafe { expansion::exhume_padded::<$of, Self>($field, bytes)? };)+
                    Some(bytes)
                }

                #[inline]
                fn extent(&self) -> usize {
                    let Self { $($field),+ } = self;
                    0 $(+ expansion::padded::<$of, Self>($field))+
                }
            }

            // SAFETY: the pattern without `..` has all the fields, and each is of a type that is `Abomonable`.
            unsafe impl $crate::codec::Abomonable for $type {
                const ALIGN: usize = expansion::max(&[$(<$of as $crate::codec::Abomonable>::ALIGN),+]);
            }
        };
    };
}

/// The greatest.
pub const fn max(numbers: &[usize]) -> usize {
    match numbers {
        [] => 1,
        [first, rest @ ..] => {
            let rest = max(rest);
            if *first > rest { *first } else { rest }
        }
    }
}

/// How many bytes are missing to the next multiple of `align`, a power of two.
const fn gap(length: usize, align: usize) -> usize {
    length.wrapping_neg() & (align - 1)
}

/// How many bytes a field takes outside the row, with the padding after it.
#[inline]
pub fn padded<F: Abomonable, T: Abomonable>(field: &F) -> usize {
    if F::ALIGN == 1 && !std::mem::needs_drop::<F>() {
        return 0;
    }
    let extent = field.extent();
    extent + gap(extent, T::ALIGN)
}

/// Writes what a field of a `T` owns, and pads it.
///
/// # Safety
///
/// As [`Abomonation::entomb`].
#[inline]
pub unsafe fn entomb_padded<F: Abomonable, T: Abomonable, W: Write>(
    field: &F,
    write: &mut W,
) -> io::Result<()> {
    if F::ALIGN == 1 && !std::mem::needs_drop::<F>() {
        return Ok(());
    }
    // SAFETY: the caller's.
    unsafe { field.entomb(write)? };
    let zeros = [0; BLOCK];
    let padding = gap(field.extent(), T::ALIGN).min(BLOCK);
    match zeros.get(..padding) {
        Some(padding @ [_, ..]) => write.write_all(padding),
        _ => Ok(()),
    }
}

/// Puts the pointers of a field of a `T` right, and skips the padding.
///
/// # Safety
///
/// As [`Abomonation::exhume`].
#[inline]
pub unsafe fn exhume_padded<'b, F: Abomonable, T: Abomonable>(
    field: &mut F,
    bytes: &'b mut [u8],
) -> Option<&'b mut [u8]> {
    if F::ALIGN == 1 && !std::mem::needs_drop::<F>() {
        return Some(bytes);
    }
    let before = bytes.len();
    // SAFETY: the caller's.
    let rest = unsafe { field.exhume(bytes)? };
    let padding = gap(before - rest.len(), T::ALIGN);
    Some(rest.split_at_mut_checked(padding)?.1)
}

/// Writes into a block and notes whether everything lies where it may.
struct Parts<'a> {
    bytes: &'a mut Vec<u8>,
    /// Where the block begins.
    start: usize,
    align: usize,
    fits: bool,
}

impl Parts<'_> {
    fn at(&self) -> usize {
        self.bytes.len() - self.start
    }
}

impl Write for Parts<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.write_all(part)?;
        Ok(part.len())
    }

    #[inline]
    fn write_all(&mut self, part: &[u8]) -> io::Result<()> {
        // The least power of two in any of them: what the values in this part are aligned to divides it.
        let common = part.as_ptr().addr() | part.len() | self.align;
        self.fits &= self.at().trailing_zeros() >= common.trailing_zeros();
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The hash of a block of rows of this type; `bytes` is all of it but the hash.
#[inline(never)]
fn seal<T: 'static>(bytes: &[u8]) -> u64 {
    static SECRET: OnceLock<u64> = OnceLock::new();
    let secret = *SECRET.get_or_init(|| std::hash::RandomState::new().hash_one("a block of rows"));
    let mut hasher = foldhash::quality::FixedState::with_seed(secret).build_hasher();
    TypeId::of::<T>().hash(&mut hasher);
    hasher.write_usize(bytes.len());
    hasher.write(black_box(bytes));
    hasher.finish()
}

/// Appends the rows as they lie in memory; says whether they lie well.
fn entomb_all<T: Abomonable>(rows: &[T], bytes: &mut Vec<u8>, start: usize) -> bool {
    if align_of::<T>() > BLOCK || T::ALIGN > BLOCK {
        return false;
    }
    let length = size_of_val(rows);
    bytes.reserve(length);
    let end = bytes.len();
    // SAFETY: there is room for this many bytes after the end, of other memory than that of the rows. (Padding: above.)
    unsafe {
        rows.as_ptr().cast::<u8>().copy_to_nonoverlapping(bytes.as_mut_ptr().add(end), length);
        bytes.set_len(end + length);
    }
    if std::mem::needs_drop::<T>() {
        let mut parts = Parts { bytes, start, align: T::ALIGN, fits: true };
        for row in rows {
            let padding = gap(parts.at(), T::ALIGN);
            parts.bytes.resize(parts.bytes.len() + padding, 0);
            // SAFETY: only writes; what is written is read by `exhume_all` alone.
            if unsafe { row.entomb(&mut parts) }.is_err() || !parts.fits {
                return false;
            }
        }
    }
    black_box(bytes.as_mut_slice());
    true
}

/// Shows this many rows, which begin at the head of the block's body.
///
/// # Safety
///
/// The body was written by [`entomb_all`] for this many rows of this type, `start` bytes after the beginning of a block,
/// and begins at an address that is a multiple of [`BLOCK`], as `start` is.
unsafe fn exhume_all<T: Abomonable>(
    body: &mut [u8],
    start: usize,
    count: usize,
    visit: &mut dyn FnMut(&[T]),
) -> Option<()> {
    let length = start + body.len();
    let (heads, mut rest) = body.split_at_mut_checked(count.checked_mul(size_of::<T>())?)?;
    let first = heads.as_mut_ptr().cast::<T>();
    debug_assert!(first.is_aligned(), "a block is aligned, and its head is a multiple of that");
    // SAFETY: as the caller says, this many rows begin here, aligned, each with the bytes of a valid one. Their pointers
    // lead nowhere, but none is followed before it is put right. They are only borrowed, so none is dropped.
    let rows = unsafe { std::slice::from_raw_parts_mut(first, count) };
    if std::mem::needs_drop::<T>() {
        for row in rows.iter_mut() {
            let padding = gap(length - rest.len(), T::ALIGN);
            let parts = rest.split_at_mut_checked(padding)?.1;
            // SAFETY: what the row owns was written here, aligned as the writer has checked.
            rest = unsafe { row.exhume(parts)? };
        }
    }
    visit(rows);
    Some(())
}

impl<T: Data + Clone + Abomonable> Codec<T> for Abomonated {
    fn encode(rows: &[T], bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; BLOCK]);
        let mut count = rows.len() as u64;
        if !entomb_all(rows, bytes, start) {
            count = IN_POSTCARD;
            bytes.truncate(start + BLOCK);
            Postcard::encode(rows, bytes)?;
        }
        let block = bytes.get_mut(start..).unwrap_or_default();
        if let Some(place) = block.get_mut(8..BLOCK) {
            place.copy_from_slice(&count.to_ne_bytes());
        }
        let hash = seal::<T>(block.get(8..).unwrap_or_default());
        if let Some(place) = block.get_mut(..8) {
            place.copy_from_slice(&hash.to_ne_bytes());
        }
        Ok(())
    }

    fn decode(bytes: &mut [u8], rows: &mut Vec<T>) -> Result<(), CodecError> {
        <Self as Codec<T>>::visit(bytes, &mut |read| rows.extend_from_slice(read))
    }

    /// Where the bytes lie well (at a multiple of 16) the rows are shown where they are: nothing is copied.
    fn visit(bytes: &mut [u8], visit: &mut dyn FnMut(&[T])) -> Result<(), CodecError> {
        if !bytes.as_ptr().addr().is_multiple_of(BLOCK) {
            let mut buffer = vec![0; bytes.len() + BLOCK];
            let shift = buffer.as_ptr().align_offset(BLOCK);
            let place = buffer.get_mut(shift..).and_then(|from| from.get_mut(..bytes.len()));
            let place = place.ok_or(CodecError::Foreign)?;
            place.copy_from_slice(bytes);
            return <Self as Codec<T>>::visit(place, visit);
        }
        let (hash, sealed) = bytes.split_first_chunk_mut::<8>().ok_or(CodecError::Foreign)?;
        if seal::<T>(sealed) != u64::from_ne_bytes(*hash) {
            return Err(CodecError::Foreign);
        }
        let (count, body) = sealed.split_first_chunk_mut::<8>().ok_or(CodecError::Foreign)?;
        let count = u64::from_ne_bytes(*count);
        if count == IN_POSTCARD {
            return Postcard::visit(body, visit);
        }
        let count = usize::try_from(count).map_err(|_| CodecError::Foreign)?;
        // SAFETY: the seal says that this process has written the block for rows of this type, and how many. The block
        // is aligned, and so is what follows its head, which is as long as a block is aligned.
        unsafe { exhume_all(body, BLOCK, count, visit) }.ok_or(CodecError::Foreign)
    }
}
