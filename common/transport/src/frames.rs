use fedistill_protocol::{Message, ProtocolError, Version, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Reader, Stream, TransportError, Writer};

/// A stream of control messages.
pub struct Frames {
    /// What is sent.
    pub writer: FrameWriter,
    /// What comes.
    pub reader: FrameReader,
}

/// Sends messages.
pub struct FrameWriter {
    version: Version,
    stream: Writer,
}

/// Receives messages.
pub struct FrameReader {
    version: Version,
    stream: Reader,
}

impl Frames {
    /// Speaks frames on a stream, in the version that both sides have agreed on.
    pub fn new((writer, reader): Stream, version: Version) -> Self {
        Self {
            writer: FrameWriter {
                version,
                stream: writer,
            },
            reader: FrameReader {
                version,
                stream: reader,
            },
        }
    }
}

impl FrameWriter {
    /// Sends one message.
    ///
    /// # Errors
    /// A message over its limit, or a connection that is lost.
    pub async fn send(&mut self, message: &Message) -> Result<(), TransportError> {
        let frame = frame::encode_in(self.version, message)?;
        self.send_encoded(&frame).await
    }

    /// Sends what [`frame::encode`] has made of a message, in the version of this stream.
    ///
    /// # Errors
    /// Bytes that are no frame, or a connection that is lost.
    pub async fn send_encoded(&mut self, frame: &[u8]) -> Result<(), TransportError> {
        // Most speak the latest: one encoding serves them all.
        let other = frame.first() != Some(&self.version.number());
        let translated = other.then(|| frame::translate(self.version, frame));
        let translated = translated.transpose()?;
        self.stream
            .write_all(translated.as_deref().unwrap_or(frame))
            .await?;
        Ok(self.stream.flush().await?)
    }
}

impl FrameReader {
    /// The next message; `None` where the peer has ended the stream between two messages.
    ///
    /// Not safe to cancel: what was read of a message is lost with the future.
    ///
    /// # Errors
    /// Bytes that are no message, one over its limit, or a connection that is lost.
    pub async fn next(&mut self) -> Result<Option<Message>, TransportError> {
        let mut header = [0; frame::HEADER_BYTES];
        match self.stream.read(&mut header[..1]).await? {
            0 => return Ok(None),
            _ => self.stream.read_exact(&mut header[1..]).await?,
        };
        let header = frame::Header::parse(header)?;
        if header.version() != self.version {
            return Err(ProtocolError::Version {
                actual: header.version().number(),
                expected: self.version,
            }
            .into());
        }
        let mut body = vec![0; header.length()];
        self.stream.read_exact(&mut body).await?;
        Ok(Some(frame::decode(header, &body)?))
    }
}
