//! Rows to bytes and back: for what leaves memory for a while, within the same process.
//!
//! What outlives the process (checkpoints) or leaves it (sockets) is always written with serde and postcard; a codec is
//! not asked.

#[cfg(feature = "abomonation")]
mod abomonated;
mod postcard;

#[cfg(feature = "abomonation")]
pub use self::abomonated::{Abomonable, Abomonated};
pub use self::postcard::Postcard;

/// For the expansion of [`abomonate!`](crate::abomonate).
#[cfg(feature = "abomonation")]
#[doc(hidden)]
pub mod expansion {
    pub use super::abomonated::{entomb_padded, exhume_padded, max, padded};
    pub use ::abomonation::Abomonation;
}

use crate::Data;

/// A way to write rows down and read them back in the same process. Chosen by type: nothing of it is kept with the rows.
///
/// ```
/// use tidemill::codec::{Codec, Postcard};
///
/// let mut bytes = Vec::new();
/// Postcard::encode(&[(1u64, "tide".to_owned())], &mut bytes)?;
/// let mut rows: Vec<(u64, String)> = Vec::new();
/// Postcard::decode(&mut bytes, &mut rows)?;
/// assert_eq!(rows, [(1, "tide".to_owned())]);
/// # Ok::<(), tidemill::codec::CodecError>(())
/// ```
pub trait Codec<T: Data>: Send + Sync + 'static {
    /// Appends the rows to the bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError::Encode`] if the rows cannot be written; what was appended is then of no use.
    fn encode(rows: &[T], bytes: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Appends the rows of what one call of [`encode`](Self::encode) has appended: no byte more, none less. The bytes may
    /// be of no use afterwards.
    ///
    /// # Errors
    ///
    /// If the bytes are something else. No row is appended then.
    fn decode(bytes: &mut [u8], rows: &mut Vec<T>) -> Result<(), CodecError>;

    /// Shows the rows instead, for those who need not own them: some codecs need make none for that.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode). No row is shown then.
    fn visit(bytes: &mut [u8], visit: &mut dyn FnMut(&[T])) -> Result<(), CodecError> {
        let mut rows = Vec::new();
        Self::decode(bytes, &mut rows)?;
        visit(&rows);
        Ok(())
    }
}

impl From<::postcard::Error> for CodecError {
    fn from(error: ::postcard::Error) -> Self {
        CodecError::Rows(error)
    }
}

impl From<crate::schema::EncodeError> for CodecError {
    fn from(error: crate::schema::EncodeError) -> Self {
        CodecError::Encode(error)
    }
}

/// Why rows cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Rows cannot be read back.
    #[error("rows cannot be decoded: {0}")]
    Rows(::postcard::Error),
    /// Rows cannot be written.
    #[error("rows cannot be encoded: {0}")]
    Encode(crate::schema::EncodeError),
    /// There are bytes after the last row.
    #[error("corrupt block: {0} bytes follow the last row")]
    LeftOver(usize),
    /// The bytes are not what this process has written for rows of this type.
    #[error("corrupt block: it was not written by this process for rows of this type")]
    Foreign,
}
