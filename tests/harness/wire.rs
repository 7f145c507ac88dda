//! A line of TCP between clients and their coordinator, which can be cut, or be narrow.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A line; it is dead once it is dropped.
pub struct Wire {
    address: String,
    cuts: Arc<watch::Sender<u32>>,
    _runtime: Runtime,
}

impl Wire {
    /// A line to the coordinator at `to`.
    pub fn new(to: &str) -> Self {
        Self::lay(to, None)
    }

    /// One that lets through so many bytes a second each way, and holds hardly more on its way.
    pub fn narrow(to: &str, rate: f64) -> Self {
        Self::lay(to, Some(rate))
    }

    fn lay(to: &str, rate: Option<f64>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let front = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = front.local_addr().unwrap().to_string();
        let cuts = Arc::new(watch::Sender::new(0));
        let (to, told) = (to.to_owned(), Arc::clone(&cuts));
        runtime.spawn(async move {
            loop {
                let Ok((client, _)) = front.accept().await else {
                    continue;
                };
                tokio::spawn(pass(client, to.clone(), rate, told.subscribe()));
            }
        });
        Self {
            address,
            cuts,
            _runtime: runtime,
        }
    }

    /// Where clients find it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Breaks all connections; new ones may be made.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// Passes on what comes either way, until the line is cut.
async fn pass(client: TcpStream, to: String, rate: Option<f64>, mut cuts: watch::Receiver<u32>) {
    let both = async {
        match rate {
            None => {
                let (mut client, mut coordinator) = (client, TcpStream::connect(to).await?);
                tokio::io::copy_bidirectional(&mut client, &mut coordinator).await?;
            }
            Some(rate) => {
                let socket = TcpSocket::new_v4()?;
                socket.set_recv_buffer_size(CHUNK as u32)?;
                let to = to.parse().map_err(io::Error::other)?;
                let (client_reads, client_writes) = client.into_split();
                let (reads, writes) = socket.connect(to).await?.into_split();
                tokio::select! {
                    ended = trickle(client_reads, writes, rate) => ended?,
                    ended = trickle(reads, client_writes, rate) => ended?,
                }
            }
        }
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        // Either end may go without a word.
        _ = both => {}
        _ = cuts.changed() => {}
    }
}

/// Bytes that a narrow line passes on at a time.
const CHUNK: usize = 4096;

async fn trickle(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rate: f64,
) -> io::Result<()> {
    let mut chunk = [0; CHUNK];
    let mut free = Instant::now();
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        free = free.max(Instant::now()) + Duration::from_secs_f64(read as f64 / rate);
        sleep_until(free).await;
        to.write_all(&chunk[..read]).await?;
    }
}
