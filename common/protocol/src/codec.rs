//! The one place that names bincode.
//!
//! `config::standard()`: little-endian, variable-length integers. The crate is no longer
//! maintained; the golden vectors under `tests/golden/` and the test that another crate reads the
//! same bytes keep the format ours.

use bincode::error::DecodeError;
pub(crate) use bincode::{Decode, Encode};

use crate::ProtocolError;

/// The bytes of `value`.
pub(crate) fn encode<T: Encode>(what: &'static str, value: &T) -> Result<Vec<u8>, ProtocolError> {
    bincode::encode_to_vec(value, bincode::config::standard()).map_err(|error| {
        ProtocolError::Malformed {
            what,
            why: error.to_string(),
        }
    })
}

/// The value that `bytes` hold, all of them.
///
/// `LIMIT` bounds what the decoder may allocate: without one, nine bytes that claim a huge vector
/// end the process.
pub(crate) fn decode<T: Decode<()>, const LIMIT: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ProtocolError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::decode_from_slice(bytes, config).map_err(|error| match error {
        // What another version has added: no fault of the bytes.
        DecodeError::UnexpectedVariant {
            type_name, found, ..
        } => ProtocolError::UnknownNumber {
            what,
            of: type_name,
            number: found,
        },
        error => ProtocolError::Malformed {
            what,
            why: error.to_string(),
        },
    })?;
    match bytes.len() - used {
        0 => Ok(value),
        count => Err(ProtocolError::TrailingBytes { what, count }),
    }
}

/// Encodes `$type` as the `$wire` that `$make` makes of it.
macro_rules! encode_through {
    ($type:ty, $wire:ty, $make:expr) => {
        impl bincode::Encode for $type {
            fn encode<E: bincode::enc::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), bincode::error::EncodeError> {
                let make: fn(&Self) -> $wire = $make;
                bincode::Encode::encode(&make(self), encoder)
            }
        }
    };
}
pub(crate) use encode_through;

/// Decodes `$type` as a `$wire` and then parses it, so that no unchecked value ever exists.
macro_rules! decode_through {
    ($type:ty, $wire:ty, $parse:expr) => {
        impl<Context> bincode::Decode<Context> for $type {
            fn decode<D: bincode::de::Decoder<Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                let wire = <$wire as bincode::Decode<Context>>::decode(decoder)?;
                let parse: fn($wire) -> Result<Self, $crate::ProtocolError> = $parse;
                parse(wire)
                    .map_err(|error| bincode::error::DecodeError::OtherString(error.to_string()))
            }
        }
        bincode::impl_borrow_decode!($type);
    };
}
pub(crate) use decode_through;
