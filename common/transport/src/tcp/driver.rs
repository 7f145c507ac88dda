//! Moves bytes between a connection's streams and its socket, until the conversation is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, sleep_until, timeout};

use super::explain;
use super::frame::{Decoder, Kind, put, put_close};
use super::stream::Shared;
use crate::TransportError;
use crate::limits::{FAREWELL, SILENCE};

/// Bytes that are read at a time. Each connection holds as many as long as it lasts.
const READ: usize = 8 * 1024;
/// Before a peer is taken for lost, what it has said is waited for so long: where this process was frozen, that lies in the
/// socket, and time has run on all the same.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Runs a connection to its end; the peer has then been told, or does not answer. Who has said nothing
/// for `keep_alive` gives a sign of life: both sides do, so that neither waits for what is queued
/// behind a slow transfer the other way.
pub(super) async fn drive<T: AsyncRead + AsyncWrite>(
    shared: Arc<Shared>,
    io: T,
    keep_alive: Duration,
) {
    let (reader, writer) = split(io);
    let mut driver = Driver {
        shared,
        reader,
        writer,
        out: Vec::new(),
        written: 0,
        unflushed: false,
    };
    driver.run(keep_alive).await;
    // A peer that takes nothing finds out by itself.
    let _ = timeout(FAREWELL, driver.part()).await;
}

struct Driver<T> {
    shared: Arc<Shared>,
    reader: ReadHalf<T>,
    writer: WriteHalf<T>,
    /// Frames under way, and how much of them is written.
    out: Vec<u8>,
    written: usize,
    /// Something may wait in TLS.
    unflushed: bool,
}

impl<T: AsyncRead + AsyncWrite> Driver<T> {
    async fn run(&mut self, keep_alive: Duration) {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; READ];
        let (mut heard, mut said) = (Instant::now(), Instant::now());
        loop {
            if self.written == self.out.len() {
                self.written = 0;
                self.out.clear();
                self.shared.mux().fill(&mut self.out);
                if self.out.is_empty() {
                    // A quiet connection holds no memory for what it could say.
                    self.out = Vec::new();
                }
            }
            if self.shared.mux().over().is_some() {
                return;
            }
            let silent = heard + SILENCE;
            let quiet = self.out.is_empty() && !self.unflushed;
            let wake = match quiet {
                true => silent.min(said + keep_alive),
                false => silent,
            };
            let (out, writer) = (&self.out[self.written..], &mut self.writer);
            let (is_empty, unflushed) = (out.is_empty(), self.unflushed);
            let write = async {
                match (is_empty, unflushed) {
                    (false, _) => writer.write(out).await,
                    (true, true) => writer.flush().await.map(|()| 0),
                    (true, false) => std::future::pending().await,
                }
            };
            let happened = tokio::select! {
                read = self.reader.read(&mut buffer) => Happened::Read(read),
                wrote = write => match wrote {
                    Ok(0) if !is_empty => {
                        Happened::Over(lost("the connection takes nothing more"))
                    }
                    Ok(count) => {
                        said = Instant::now();
                        self.written += count;
                        self.unflushed = count > 0;
                        Happened::Nothing
                    }
                    Err(error) => Happened::Over(explain(&error)),
                },
                () = self.shared.signals.due.notified() => Happened::Nothing,
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if quiet && now >= said + keep_alive {
                        put(&mut self.out, Kind::Alive, 0, &[]);
                    }
                    match now >= silent {
                        true => Happened::Silence,
                        false => Happened::Nothing,
                    }
                }
            };
            let happened = match happened {
                Happened::Silence => {
                    match timeout(LAST_LOOK, self.reader.read(&mut buffer)).await {
                        Ok(read) => Happened::Read(read),
                        Err(_) => Happened::Over(lost("timed out")),
                    }
                }
                happened => happened,
            };
            match happened {
                Happened::Nothing | Happened::Silence => {}
                Happened::Read(Ok(0)) => self.shared.mux().end(lost("the connection broke off")),
                Happened::Read(Ok(count)) => {
                    heard = Instant::now();
                    let mut mux = self.shared.mux();
                    if let Err(broken) = decoder.take(&buffer[..count], &mut mux) {
                        mux.violated(broken);
                    }
                }
                Happened::Read(Err(error)) => self.shared.mux().end(explain(&error)),
                Happened::Over(why) => self.shared.mux().end(why),
            }
        }
    }

    /// Tells the peer what this side closes with, if it does, and that this was all.
    async fn part(&mut self) -> std::io::Result<()> {
        let closing = self.shared.mux().closing();
        let Some((code, why)) = closing else {
            return self.writer.shutdown().await;
        };
        // The frame under way has to be whole for the next one to be understood.
        put_close(&mut self.out, code, &why);
        self.writer.write_all(&self.out[self.written..]).await?;
        self.writer.shutdown().await?;
        // Were the socket gone while something is unread, the peer's system might throw away what the
        // peer has not read either.
        let mut rest = [0; 1024];
        while self.reader.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

/// What a driver waits for.
enum Happened {
    Nothing,
    Read(std::io::Result<usize>),
    /// Nothing was heard for as long as is allowed.
    Silence,
    Over(TransportError),
}

fn lost(why: &str) -> TransportError {
    TransportError::Lost(why.to_owned())
}

#[cfg(test)]
mod tests;
