use fedistill_protocol::{Message, frame};
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
pub struct FrameWriter(Writer);

/// Receives messages.
pub struct FrameReader(Reader);

impl Frames {
    /// Speaks frames on a stream.
    pub fn new((writer, reader): Stream) -> Self {
        Self {
            writer: FrameWriter(writer),
            reader: FrameReader(reader),
        }
    }
}

impl FrameWriter {
    /// Sends one message.
    ///
    /// # Errors
    /// A message over its limit, or a connection that is lost.
    pub async fn send(&mut self, message: &Message) -> Result<(), TransportError> {
        self.send_encoded(&frame::encode(message)?).await
    }

    /// Sends what [`frame::encode`] has made of a message.
    ///
    /// # Errors
    /// A connection that is lost.
    pub async fn send_encoded(&mut self, frame: &[u8]) -> Result<(), TransportError> {
        self.0.write_all(frame).await?;
        Ok(self.0.flush().await?)
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
        match self.0.read(&mut header[..1]).await? {
            0 => return Ok(None),
            _ => self.0.read_exact(&mut header[1..]).await?,
        };
        let header = frame::Header::parse(header)?;
        let mut body = vec![0; header.length()];
        self.0.read_exact(&mut body).await?;
        Ok(Some(frame::decode(header, &body)?))
    }
}
