//! One way of a stream. What has been read is freed: ten thousand quiet streams hold nothing.

use std::collections::VecDeque;
use std::io::{ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both ends of a pipe whose writer waits while `most` bytes are unread.
pub(super) fn pipe(most: usize) -> (PipeWriter, PipeReader) {
    let state = State {
        most,
        ..State::default()
    };
    let pipe = Arc::new(Mutex::new(state));
    (PipeWriter(Arc::clone(&pipe)), PipeReader(pipe))
}

pub(super) struct PipeWriter(Arc<Mutex<State>>);

pub(super) struct PipeReader(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    most: usize,
    /// What is unread, as it was written.
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are read.
    read: usize,
    /// Bytes that are unread.
    held: usize,
    /// No more is written, or nobody reads.
    ended: bool,
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn lock(pipe: &Mutex<State>) -> MutexGuard<'_, State> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let mut state = lock(&self.0);
        if state.ended || state.deaf {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let room = state.most.saturating_sub(state.held).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if room > 0 {
            state.chunks.push_back(bytes[..room].to_vec());
            state.held += room;
            wake(&mut state.reader);
        }
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = lock(&self.0);
        state.ended = true;
        wake(&mut state.reader);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let mut state = lock(&self.0);
        let state = &mut *state;
        if state.held == 0 && !state.ended && buffer.remaining() > 0 {
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        while buffer.remaining() > 0
            && let Some(chunk) = state.chunks.front()
        {
            let unread = &chunk[state.read..];
            let count = unread.len().min(buffer.remaining());
            buffer.put_slice(&unread[..count]);
            state.held -= count;
            state.read += count;
            if state.read == chunk.len() {
                state.chunks.pop_front();
                state.read = 0;
            }
        }
        if state.chunks.is_empty() {
            state.chunks = VecDeque::new();
        }
        wake(&mut state.writer);
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.ended = true;
        wake(&mut state.reader);
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.deaf = true;
        state.chunks = VecDeque::new();
        wake(&mut state.writer);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn all_that_is_written_is_read_and_then_the_end() {
        let (mut writer, mut reader) = pipe(10);
        let sent: Vec<u8> = (0..=255).collect();
        let bytes = sent.clone();
        let task = tokio::spawn(async move {
            writer.write_all(&bytes[..3]).await.unwrap();
            writer.write_all(&bytes[3..]).await.unwrap();
            writer.shutdown().await.unwrap();
            writer.write_all(&[1]).await.unwrap_err().kind()
        });
        let mut got = [0; 7];
        reader.read_exact(&mut got).await.unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert_eq!([got.to_vec(), rest].concat(), sent);
        assert_eq!(task.await.unwrap(), ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_writer_learns_that_nobody_reads() {
        let (mut writer, reader) = pipe(2);
        let task = tokio::spawn(async move { writer.write_all(&[0; 5]).await });
        tokio::task::yield_now().await;
        drop(reader);
        assert!(task.await.unwrap().is_err());
        let (writer, mut reader) = pipe(2);
        drop(writer);
        assert_eq!(reader.read(&mut [0; 4]).await.unwrap(), 0);
    }
}
