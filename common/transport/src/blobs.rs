//! Bulk payloads. Who wants a blob opens a stream, says which and from where on, and reads chunks;
//! both ends can, so that a broken transfer goes on where it stopped, whichever way it went.

use std::time::Duration;

use fedistill_protocol::blob::{
    Assembler, CHUNK_BYTES, CHUNK_HEADER_BYTES, ChunkHeader, REQUEST_BYTES, Request, chunks,
};
use fedistill_protocol::{Digest, ProtocolError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::{Connection, Stream, TransportError};

/// Longest wait for the next chunk, or for the peer to take one.
pub const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches what `assembler` lacks of a blob. After an error the assembler holds what has come, and
/// another call goes on from there. `crossed` hears the length of each chunk as it comes.
///
/// # Errors
/// A peer that does not have the blob, sends something else, or takes longer than
/// [`CHUNK_TIMEOUT`] for a chunk.
pub async fn fetch(
    connection: &dyn Connection,
    blob: Digest,
    assembler: &mut Assembler,
    crossed: impl Fn(u64) + Send,
) -> Result<(), TransportError> {
    if assembler.is_complete() {
        return Ok(());
    }
    let (mut writer, mut reader) = connection.open().await?;
    let offset = assembler.offset();
    let request = Request { blob, offset };
    writer.write_all(&request.to_bytes()).await?;
    writer.shutdown().await?;
    while !assembler.is_complete() {
        let next = async {
            let mut header = [0; CHUNK_HEADER_BYTES];
            if reader.read(&mut header[..1]).await? == 0 {
                return Ok(None);
            }
            reader.read_exact(&mut header[1..]).await?;
            let header = ChunkHeader::parse(header)?;
            let mut chunk = vec![0; header.length()];
            reader.read_exact(&mut chunk).await?;
            Ok::<_, TransportError>(Some((header, chunk)))
        };
        let late = |_| TransportError::Timeout("sent a chunk");
        match timeout(CHUNK_TIMEOUT, next).await.map_err(late)?? {
            Some((header, chunk)) => {
                crossed(chunk.len() as u64);
                assembler.push(header, &chunk)?;
            }
            None => {
                return Err(TransportError::Protocol(ProtocolError::WrongLength {
                    what: "blob",
                    actual: assembler.offset(),
                    expected: assembler.length(),
                }));
            }
        }
    }
    Ok(())
}

/// Bytes that fetching a whole blob of `length` bytes takes: up, and down.
pub fn crossing(length: u64) -> (u64, u64) {
    let headers = length.div_ceil(CHUNK_BYTES as u64) * CHUNK_HEADER_BYTES as u64;
    (REQUEST_BYTES as u64, length + headers)
}

/// The blob that `stream` asks for first.
///
/// # Errors
/// A connection that is lost, or a peer that does not say within [`CHUNK_TIMEOUT`].
pub async fn requested(stream: &mut Stream) -> Result<Request, TransportError> {
    let mut request = [0; REQUEST_BYTES];
    let late = |_| TransportError::Timeout("said which blob it wants");
    timeout(CHUNK_TIMEOUT, stream.1.read_exact(&mut request))
        .await
        .map_err(late)??;
    Ok(Request::parse(request))
}

/// Sends `bytes` from `offset` on. An empty slice says that this side does not have the blob. `crossed`
/// hears the length of each chunk as it is taken.
///
/// # Errors
/// A connection that is lost, or a peer that takes no chunk for [`CHUNK_TIMEOUT`].
pub async fn send(
    stream: &mut Stream,
    bytes: &[u8],
    offset: u64,
    crossed: impl Fn(u64) + Send,
) -> Result<(), TransportError> {
    let late = |_| TransportError::Timeout("taken a chunk");
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    for (header, chunk) in chunks(bytes, offset) {
        let write = async {
            stream.0.write_all(&header).await?;
            stream.0.write_all(chunk).await
        };
        timeout(CHUNK_TIMEOUT, write).await.map_err(late)??;
        crossed(chunk.len() as u64);
    }
    Ok(stream.0.shutdown().await?)
}
