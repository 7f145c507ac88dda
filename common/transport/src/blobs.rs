//! Bulk payloads. Who wants a blob opens a stream, says which and from where on, and reads chunks;
//! both ends can, so that a broken transfer goes on where it stopped, whichever way it went.
//!
//! Who fetches is the one that keeps time, byte by byte: it gives up on a peer from which nothing comes. Who gives
//! cannot tell a slow line from a deaf peer as soon, since a peer makes room in steps as large as half of a stream's
//! window; it waits longer, and learns from the stream itself that its peer wants no more.

use std::time::Duration;

use fedistill_protocol::blob::{
    Assembler, CHUNK_BYTES, CHUNK_HEADER_BYTES, ChunkHeader, REQUEST_BYTES, Request, chunks,
};
use fedistill_protocol::{Digest, ProtocolError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::{Connection, Stream, TransportError, Writer};

/// Longest wait for a next byte, for a peer's request, or for room to open a stream.
pub const BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a peer to take anything of what it has asked for.
pub const TAKE_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes of a chunk that are read at a time, at the most.
const PIECE: usize = 16 * 1024;

/// Fetches what `assembler` lacks of a blob. After an error the assembler holds what has come, to the byte, and
/// another call goes on from there; so it does where this is dropped. `came` hears bytes as they come.
///
/// # Errors
/// [`TransportError::NotOffered`] where the peer does not have the blob; a peer that sends something else, or from
/// which no byte comes for [`BYTE_TIMEOUT`].
pub async fn fetch(
    connection: &dyn Connection,
    blob: Digest,
    assembler: &mut Assembler,
    mut came: impl FnMut(&[u8]) + Send,
) -> Result<(), TransportError> {
    if assembler.is_complete() {
        return Ok(());
    }
    let late = |_| TransportError::Timeout("made room for a stream");
    let (mut writer, mut reader) = timeout(BYTE_TIMEOUT, connection.open())
        .await
        .map_err(late)??;
    let offset = assembler.offset();
    let request = Request { blob, offset };
    writer.write_all(&request.to_bytes()).await?;
    // Its end, which nobody waits for.
    drop(writer);
    let mut piece = Vec::new();
    while !assembler.is_complete() {
        let mut header = [0; CHUNK_HEADER_BYTES];
        let mut had = 0;
        while had < header.len() {
            let count = in_time(reader.read(&mut header[had..])).await?;
            match (count, had) {
                (0, 0) if assembler.offset() == offset => {
                    return Err(TransportError::NotOffered(blob));
                }
                (0, 0) => {
                    return Err(TransportError::Protocol(ProtocolError::WrongLength {
                        what: "blob",
                        actual: assembler.offset(),
                        expected: assembler.length(),
                    }));
                }
                (0, _) => return Err(broken()),
                (count, _) => had += count,
            }
        }
        let header = ChunkHeader::parse(header)?;
        assembler.expect(header)?;
        let mut left = header.length();
        while left > 0 {
            piece.resize(left.min(PIECE), 0);
            let count = in_time(reader.read(&mut piece)).await?;
            if count == 0 {
                return Err(broken());
            }
            assembler.append(&piece[..count])?;
            came(&piece[..count]);
            left -= count;
        }
    }
    Ok(())
}

async fn in_time(
    read: impl Future<Output = std::io::Result<usize>>,
) -> Result<usize, TransportError> {
    let late = |_| TransportError::Timeout("sent a byte of a blob");
    Ok(timeout(BYTE_TIMEOUT, read).await.map_err(late)??)
}

fn broken() -> TransportError {
    TransportError::Lost("a blob broke off in the middle of a chunk".to_owned())
}

/// Bytes that fetching a whole blob of `length` bytes takes: up, and down.
pub fn crossing(length: u64) -> (u64, u64) {
    let headers = length.div_ceil(CHUNK_BYTES as u64) * CHUNK_HEADER_BYTES as u64;
    (REQUEST_BYTES as u64, length + headers)
}

/// The blob that `stream` asks for first.
///
/// # Errors
/// A connection that is lost, or a peer that does not say within [`BYTE_TIMEOUT`].
pub async fn requested(stream: &mut Stream) -> Result<Request, TransportError> {
    let mut request = [0; REQUEST_BYTES];
    let late = |_| TransportError::Timeout("said which blob it wants");
    timeout(BYTE_TIMEOUT, stream.1.read_exact(&mut request))
        .await
        .map_err(late)??;
    Ok(Request::parse(request))
}

/// Sends `bytes` from `offset` on, and ends the stream: see [`crate::Writer`] for what that waits for. An empty slice
/// says that this side does not have the blob. `crossed` hears of bytes as they are taken.
///
/// # Errors
/// A connection that is lost, or a peer that wants no more, or takes nothing for [`TAKE_TIMEOUT`].
pub async fn send(
    stream: &mut Stream,
    bytes: &[u8],
    offset: u64,
    mut crossed: impl FnMut(u64) + Send,
) -> Result<(), TransportError> {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    for (header, chunk) in chunks(bytes, offset) {
        put(&mut stream.0, &header, |_| ()).await?;
        put(&mut stream.0, chunk, &mut crossed).await?;
    }
    let late = |_| TransportError::Timeout("taken the end of a blob");
    Ok(timeout(TAKE_TIMEOUT, stream.0.shutdown())
        .await
        .map_err(late)??)
}

async fn put(
    writer: &mut Writer,
    mut bytes: &[u8],
    mut crossed: impl FnMut(u64) + Send,
) -> Result<(), TransportError> {
    let late = |_| TransportError::Timeout("taken any of a blob");
    while !bytes.is_empty() {
        let count = timeout(TAKE_TIMEOUT, writer.write(bytes))
            .await
            .map_err(late)??;
        if count == 0 {
            return Err(TransportError::Lost(
                "the stream takes nothing more".to_owned(),
            ));
        }
        crossed(count as u64);
        bytes = &bytes[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
