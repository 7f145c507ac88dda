//! The half of a stream that is written.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use quinn::{SendStream, StoppedError, VarInt};
use tokio::io::AsyncWrite;

type Taken = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// A stream whose end waits until the peer has all of it, or wants no more. What quinn holds of it, up to a stream's
/// window, is sent even where the peer has stopped the stream meanwhile: on a slow line that can be minutes of it, for
/// nobody. So such a stream is reset.
pub(super) struct Writing {
    stream: SendStream,
    taken: Option<Taken>,
}

impl Writing {
    pub(super) fn new(stream: SendStream) -> Self {
        Self {
            stream,
            taken: None,
        }
    }
}

impl AsyncWrite for Writing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, taken } = &mut *self;
        let taken = taken.get_or_insert_with(|| {
            // One that has ended already has ended.
            let _ = stream.finish();
            Box::pin(stream.stopped())
        });
        match ready!(taken.as_mut().poll(context)) {
            Ok(None) => Poll::Ready(Ok(())),
            Ok(Some(code)) => {
                // Also who has all that it wanted stops a stream whose end it has not seen: no fault of anyone's.
                let _ = stream.reset(code);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::NotConnected, error))),
        }
    }
}
