//! Bulk payloads: named by their blake3 digest, sent in chunks on a stream of their own.
//!
//! A chunk is a header of [`CHUNK_HEADER_BYTES`] (offset u64, length u32, both little-endian) and
//! its bytes. Chunks follow one another without gaps from an offset that the receiver names, so a
//! broken transfer goes on where it stopped.

use crate::{Digest, ProtocolError};

/// The most bytes in one chunk.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Length of a chunk's header.
pub const CHUNK_HEADER_BYTES: usize = 12;

/// Length of a [`Request`].
pub const REQUEST_BYTES: usize = 40;

/// What the receiver of a blob writes first on the stream that it opens: which blob, and from
/// which offset on (32 bytes of digest, then u64 little-endian).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// Name of the blob.
    pub blob: Digest,
    /// Bytes that the receiver already has.
    pub offset: u64,
}

impl Request {
    /// The request that these bytes are; every one is.
    pub fn parse(bytes: [u8; REQUEST_BYTES]) -> Self {
        let mut digest = [0; 32];
        let mut offset = [0; 8];
        digest.copy_from_slice(&bytes[..32]);
        offset.copy_from_slice(&bytes[32..]);
        Self {
            blob: Digest::from_bytes(digest),
            offset: u64::from_le_bytes(offset),
        }
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..32].copy_from_slice(self.blob.as_bytes());
        bytes[32..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }
}

/// Where a chunk lies in its blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkHeader {
    offset: u64,
    length: u32,
}

impl ChunkHeader {
    /// Checks a header that came from the peer.
    ///
    /// # Errors
    /// An empty chunk, or one longer than [`CHUNK_BYTES`].
    pub fn parse(bytes: [u8; CHUNK_HEADER_BYTES]) -> Result<Self, ProtocolError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let offset = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let length = u32::from_le_bytes([i, j, k, l]);
        match length as usize {
            0 => Err(ProtocolError::WrongLength {
                what: "chunk",
                actual: 0,
                expected: 1,
            }),
            1..=CHUNK_BYTES => Ok(Self { offset, length }),
            _ => Err(ProtocolError::TooLong {
                what: "chunk",
                actual: length.into(),
                limit: CHUNK_BYTES as u64,
            }),
        }
    }

    /// Bytes of the blob before this chunk.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes in this chunk, 1 to [`CHUNK_BYTES`].
    pub fn length(&self) -> usize {
        self.length as usize
    }

    fn to_bytes(self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }
}

/// The chunks of `blob` from `offset` on: header and bytes of each.
pub fn chunks(
    blob: &[u8],
    offset: usize,
) -> impl Iterator<Item = ([u8; CHUNK_HEADER_BYTES], &[u8])> {
    let rest = blob.get(offset..).unwrap_or_default();
    rest.chunks(CHUNK_BYTES)
        .enumerate()
        .map(move |(index, chunk)| {
            let header = ChunkHeader {
                offset: (offset + index * CHUNK_BYTES) as u64,
                length: chunk.len() as u32,
            };
            (header.to_bytes(), chunk)
        })
}

/// Puts a blob together from its chunks; holds what has come, so that a transfer can go on.
#[derive(Debug)]
pub struct Assembler {
    digest: Digest,
    length: u64,
    bytes: Vec<u8>,
}

impl Assembler {
    /// Awaits the blob `digest` of `length` bytes.
    ///
    /// # Errors
    /// [`ProtocolError::TooLong`] where `length` is over `limit`; nothing is allocated then.
    pub fn new(digest: Digest, length: u64, limit: u64) -> Result<Self, ProtocolError> {
        if length > limit {
            return Err(ProtocolError::TooLong {
                what: "blob",
                actual: length,
                limit,
            });
        }
        Ok(Self {
            digest,
            length,
            bytes: Vec::new(),
        })
    }

    /// The blob that is awaited.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The offset to ask for: how many bytes have come.
    pub fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The length that was announced.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether all bytes have come.
    pub fn is_complete(&self) -> bool {
        self.offset() == self.length
    }

    /// Takes in the next chunk.
    ///
    /// # Errors
    /// A chunk out of place, of another length than its header says, or past the blob's end.
    pub fn push(&mut self, header: ChunkHeader, chunk: &[u8]) -> Result<(), ProtocolError> {
        self.expect(header)?;
        if chunk.len() != header.length() {
            return Err(ProtocolError::WrongLength {
                what: "chunk",
                actual: chunk.len() as u64,
                expected: header.length.into(),
            });
        }
        self.append(chunk)
    }

    /// Whether the chunk of this header is the next one, and has its place in the blob.
    ///
    /// # Errors
    /// A chunk out of place, or past the blob's end.
    pub fn expect(&self, header: ChunkHeader) -> Result<(), ProtocolError> {
        if header.offset != self.offset() {
            return Err(ProtocolError::WrongOffset {
                actual: header.offset,
                expected: self.offset(),
            });
        }
        self.fits(header.length())
    }

    /// Takes in the next bytes, which may be a part of a chunk: they are there once they have come, whatever
    /// becomes of the rest of it.
    ///
    /// # Errors
    /// Bytes past the blob's end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.fits(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn fits(&self, more: usize) -> Result<(), ProtocolError> {
        let end = self.offset().saturating_add(more as u64);
        if end > self.length {
            return Err(ProtocolError::TooLong {
                what: "blob",
                actual: end,
                limit: self.length,
            });
        }
        Ok(())
    }

    /// The whole blob, if it is the one that was announced.
    ///
    /// # Errors
    /// Bytes missing, or another digest.
    pub fn finish(self) -> Result<Vec<u8>, ProtocolError> {
        if !self.is_complete() {
            return Err(ProtocolError::WrongLength {
                what: "blob",
                actual: self.offset(),
                expected: self.length,
            });
        }
        let actual = Digest::of(&self.bytes);
        match actual == self.digest {
            true => Ok(self.bytes),
            false => Err(ProtocolError::DigestMismatch {
                expected: self.digest,
                actual,
            }),
        }
    }
}
