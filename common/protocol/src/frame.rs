//! How a control message becomes bytes: a header of [`HEADER_BYTES`] and a body.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 | protocol version, [`Version`] |
//! | 1 | [`Kind`] of the message |
//! | 2..6 | length of the body in bytes, u32 little-endian |
//!
//! A reader reads the header, lets [`Header::parse`] hold the length against the limit of that
//! kind, and only then makes room for the body.

use crate::{Kind, Message, ProtocolError, Version};

/// Length of a frame's header.
pub const HEADER_BYTES: usize = 6;

/// A checked header: the body's length is within the limit of its kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    version: Version,
    kind: Kind,
    length: usize,
}

impl Header {
    /// Checks a header that came from the peer.
    ///
    /// # Errors
    /// A version that is not spoken here, an unknown kind, or a body longer than its kind may be.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, ProtocolError> {
        let [version, kind, a, b, c, d] = bytes;
        let version = Version::from_number(version).ok_or(ProtocolError::Version {
            actual: version,
            expected: Version::LATEST,
        })?;
        let kind = Kind::from_number(kind).ok_or(ProtocolError::UnknownKind(kind))?;
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > kind.limit() {
            return Err(ProtocolError::TooLong {
                what: kind.name(),
                actual: length.into(),
                limit: kind.limit() as u64,
            });
        }
        Ok(Self {
            version,
            kind,
            length: length as usize,
        })
    }

    /// The version that the frame is written in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the body holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Length of the body in bytes, at most `self.kind().limit()`.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// The frame of `message` in the latest version: header and body.
///
/// # Errors
/// [`ProtocolError::TooLong`] where the message is over its kind's limit.
pub fn encode(message: &Message) -> Result<Vec<u8>, ProtocolError> {
    encode_in(Version::LATEST, message)
}

/// The frame of `message` in this version: header and body. What an older one does not know is left out.
///
/// # Errors
/// [`ProtocolError::TooLong`] where the message is over its kind's limit.
pub fn encode_in(version: Version, message: &Message) -> Result<Vec<u8>, ProtocolError> {
    let kind = message.kind();
    let body = message.encode_body(version)?;
    let length = match u32::try_from(body.len()) {
        Ok(length) if body.len() <= kind.limit() => length,
        _ => {
            return Err(ProtocolError::TooLong {
                what: kind.name(),
                actual: body.len() as u64,
                limit: kind.limit() as u64,
            });
        }
    };
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend([version.number(), kind.number()]);
    frame.extend(length.to_le_bytes());
    frame.extend(body);
    Ok(frame)
}

/// A frame in another version.
///
/// # Errors
/// A frame that is none, or over the limit of its kind.
pub fn translate(version: Version, frame: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let (header, body) =
        frame
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(ProtocolError::WrongLength {
                what: "frame",
                actual: frame.len() as u64,
                expected: HEADER_BYTES as u64,
            })?;
    encode_in(version, &decode(Header::parse(*header)?, body)?)
}

/// The message in the body that followed `header`.
///
/// # Errors
/// A body of another length than announced, malformed, or with trailing bytes.
pub fn decode(header: Header, body: &[u8]) -> Result<Message, ProtocolError> {
    if body.len() != header.length {
        return Err(ProtocolError::WrongLength {
            what: header.kind.name(),
            actual: body.len() as u64,
            expected: header.length as u64,
        });
    }
    Message::decode_body(header.kind, header.version, body)
}
