//! Rows with serde and postcard: small, for every type, safe on any bytes.

use super::{Codec, CodecError};
use crate::Data;
use crate::schema::encode;

/// The default: for every type that can be state. See [`Codec`] for an example.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<T: Data> Codec<T> for Postcard {
    fn encode(rows: &[T], bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(encode(rows, bytes)?)
    }

    fn decode(bytes: &mut [u8], rows: &mut Vec<T>) -> Result<(), CodecError> {
        let (mut read, rest) = postcard::take_from_bytes::<Vec<T>>(bytes)?;
        if !rest.is_empty() {
            return Err(CodecError::LeftOver(rest.len()));
        }
        rows.append(&mut read);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_no_truncation_passes() {
        let rows = vec![(1u64, "tide".to_owned(), vec![1u32, 2]), (u64::MAX, String::new(), vec![])];
        let mut bytes = vec![7];
        Postcard::encode(&rows, &mut bytes).unwrap();
        assert_eq!(bytes.remove(0), 7, "what was there before stays");
        let mut read = rows[..1].to_vec();
        Postcard::decode(&mut bytes, &mut read).unwrap();
        assert_eq!(read, [&rows[..1], &rows[..]].concat());
        for end in 0..bytes.len() {
            assert!(
                <Postcard as Codec<(u64, String, Vec<u32>)>>::decode(&mut bytes[..end], &mut read).is_err()
            );
        }
        bytes.push(0);
        assert!(matches!(Postcard::decode(&mut bytes, &mut read), Err(CodecError::LeftOver(1))));
        assert_eq!(read.len(), 3);
    }
}
