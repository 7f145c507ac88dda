//! What lies on a connection: frames of a header and a body, one after the other.
//!
//! | bytes of the header | meaning |
//! |---|---|
//! | 0 | kind |
//! | 1 | 0 |
//! | 2..4 | length of the body, u16 little-endian |
//! | 4..8 | number of the stream, u32 little-endian; 0 is the connection |

use super::mux::{Broken, Mux};
use crate::CloseCode;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 8;
/// The longest body of data: with its header it fills a TLS record.
pub(super) const MOST_DATA: usize = 16 * 1024 - HEADER_BYTES;
/// The longest reason of a close, in bytes of UTF-8.
pub(super) const MOST_REASON: usize = 1024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The sender opens a stream.
    Open,
    /// Bytes of a stream.
    Data,
    /// The sender has said all on a stream.
    End,
    /// The sender says no more on a stream, and what it said may be incomplete.
    Reset,
    /// The sender reads no more of a stream; answered with a reset, unless the stream has ended.
    Stop,
    /// So many bytes more may be sent on a stream, or on all together (u32 little-endian).
    Window,
    /// A sign of life.
    Alive,
    /// The conversation is over: a number (u32 little-endian) and one line.
    Close,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Open,
        Self::Data,
        Self::End,
        Self::Reset,
        Self::Stop,
        Self::Window,
        Self::Alive,
        Self::Close,
    ];

    /// Its number on the wire, from 1.
    fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The shortest and the longest body.
    fn lengths(self) -> (usize, usize) {
        match self {
            Self::Open | Self::End | Self::Reset | Self::Stop | Self::Alive => (0, 0),
            Self::Data => (1, MOST_DATA),
            Self::Window => (4, 4),
            Self::Close => (4, 4 + MOST_REASON),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) stream: u32,
    pub(super) length: usize,
}

impl Header {
    /// Holds a header against the limits of its kind.
    fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, Broken> {
        let [number, zero, l0, l1, s0, s1, s2, s3] = bytes;
        let kind = Kind::ALL.into_iter().find(|kind| kind.number() == number);
        let kind = kind
            .filter(|_| zero == 0)
            .ok_or(Broken("a frame of an unknown kind"))?;
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let stream = u32::from_le_bytes([s0, s1, s2, s3]);
        let (least, most) = kind.lengths();
        if !(least..=most).contains(&length) {
            return Err(Broken("a frame that is too long or too short"));
        }
        let fits = match kind {
            Kind::Alive | Kind::Close => stream == 0,
            Kind::Window => true,
            _ => stream != 0,
        };
        match fits {
            true => Ok(Self {
                kind,
                stream,
                length,
            }),
            false => Err(Broken("a frame of a stream that it cannot be about")),
        }
    }
}

/// Appends a frame. The body is within the limits of its kind.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, stream: u32, body: &[u8]) {
    put_header(out, kind, stream, body.len());
    out.extend_from_slice(body);
}

/// Appends the header of a frame whose body, of so many bytes, follows.
pub(super) fn put_header(out: &mut Vec<u8>, kind: Kind, stream: u32, length: usize) {
    debug_assert!(length <= kind.lengths().1);
    out.extend_from_slice(&[kind.number(), 0]);
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.extend_from_slice(&stream.to_le_bytes());
}

/// Appends a close; of the reason what fits.
pub(super) fn put_close(out: &mut Vec<u8>, code: CloseCode, why: &str) {
    let why = &why[..why.floor_char_boundary(MOST_REASON)];
    let mut body = code.number().to_le_bytes().to_vec();
    body.extend_from_slice(why.as_bytes());
    put(out, Kind::Close, 0, &body);
}

/// Takes frames apart as their bytes come. It holds at most a header and a short body: data goes on at
/// once, to the stream that has room for it.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have come.
    have: usize,
    /// The frame whose body is coming, and how much of that is missing.
    current: Option<(Header, usize)>,
    /// What has come of a body that is no data.
    body: Vec<u8>,
}

impl Decoder {
    /// Takes in what has come.
    ///
    /// # Errors
    /// A peer that breaks the rules; nothing after that means anything.
    pub(super) fn take(&mut self, mut bytes: &[u8], mux: &mut Mux) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let Some((header, missing)) = self.current else {
                let count = bytes.len().min(HEADER_BYTES - self.have);
                self.header[self.have..self.have + count].copy_from_slice(&bytes[..count]);
                self.have += count;
                bytes = &bytes[count..];
                if self.have == HEADER_BYTES {
                    self.have = 0;
                    let header = Header::parse(self.header)?;
                    if header.kind == Kind::Data {
                        mux.expect(header.stream, header.length)?;
                    }
                    match header.length {
                        0 => act(header, &[], mux)?,
                        length => self.current = Some((header, length)),
                    }
                }
                continue;
            };
            let (now, later) = bytes.split_at(bytes.len().min(missing));
            bytes = later;
            self.current = Some((header, missing - now.len())).filter(|(_, left)| *left > 0);
            if header.kind == Kind::Data {
                mux.receive(header.stream, now);
                continue;
            }
            self.body.extend_from_slice(now);
            if self.current.is_none() {
                act(header, &std::mem::take(&mut self.body), mux)?;
            }
        }
        Ok(())
    }
}

/// Does what a frame says that is no data.
fn act(header: Header, body: &[u8], mux: &mut Mux) -> Result<(), Broken> {
    // Its length was held against its kind's: where there is a number, there are its 4 bytes.
    let number = || {
        body.first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let stream = header.stream;
    match header.kind {
        Kind::Open => mux.opened(stream),
        Kind::End => mux.ended(stream, false),
        Kind::Reset => mux.ended(stream, true),
        Kind::Stop => mux.stopped(stream),
        Kind::Window => mux.widen(stream, number()),
        Kind::Close => {
            let why = String::from_utf8_lossy(&body[4..]).into_owned();
            mux.closed(CloseCode::from_number(number()), why);
            Ok(())
        }
        Kind::Alive | Kind::Data => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u8, zero: u8, length: u16, stream: u32) -> [u8; HEADER_BYTES] {
        let [l0, l1] = length.to_le_bytes();
        let [s0, s1, s2, s3] = stream.to_le_bytes();
        [kind, zero, l0, l1, s0, s1, s2, s3]
    }

    #[test]
    fn numbers_of_kinds_are_part_of_the_protocol() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.number()), index + 1);
            let (least, most) = kind.lengths();
            let mut out = Vec::new();
            put(&mut out, kind, 7, &vec![1; most]);
            assert_eq!(out[..8], bytes(kind.number(), 0, most as u16, 7));
            assert!(least <= most && out.len() <= 16 * 1024);
        }
    }

    #[test]
    fn a_header_is_held_against_its_kind() {
        let fits = [
            (1, 0, 1),
            (2, 1, 1),
            (2, MOST_DATA as u16, 1),
            (6, 4, 0),
            (6, 4, 9),
            (7, 0, 0),
            (8, 4, 0),
            (8, 1028, 0),
        ];
        for (kind, length, stream) in fits {
            assert!(Header::parse(bytes(kind, 0, length, stream)).is_ok());
            assert!(Header::parse(bytes(kind, 1, length, stream)).is_err());
        }
        let broken = [
            (0, 0, 1),
            (9, 0, 0),
            (1, 1, 1),
            (1, 0, 0),
            (2, 0, 1),
            (2, MOST_DATA as u16 + 1, 1),
            (2, u16::MAX, 1),
            (2, 1, 0),
            (3, 0, 0),
            (6, 3, 0),
            (6, 5, 0),
            (7, 0, 1),
            (8, 3, 0),
            (8, 1029, 0),
            (8, 4, 1),
        ];
        for (kind, length, stream) in broken {
            let header = Header::parse(bytes(kind, 0, length, stream));
            assert!(header.is_err(), "{header:?}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_two_letters() {
        let mut out = Vec::new();
        put_close(&mut out, CloseCode::Outdated, &"é".repeat(600));
        assert_eq!(out[..12], [8, 0, 4, 4, 0, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(out.len(), HEADER_BYTES + 4 + 1024);
        out.clear();
        put_close(&mut out, CloseCode::Done, &format!("x{}", "é".repeat(600)));
        assert_eq!(out.len(), HEADER_BYTES + 4 + 1023);
    }
}
