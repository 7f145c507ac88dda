//! A line of TCP between clients and their coordinator, which can be cut.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A line; it is dead once it is dropped.
pub struct Wire {
    address: String,
    cuts: Arc<watch::Sender<u32>>,
    _runtime: Runtime,
}

impl Wire {
    /// A line to the coordinator at `to`.
    pub fn new(to: &str) -> Self {
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
                tokio::spawn(pass(client, to.clone(), told.subscribe()));
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
async fn pass(mut client: TcpStream, to: String, mut cuts: watch::Receiver<u32>) {
    let Ok(mut coordinator) = TcpStream::connect(to).await else {
        return;
    };
    tokio::select! {
        // Either end may go without a word.
        _ = tokio::io::copy_bidirectional(&mut client, &mut coordinator) => {}
        _ = cuts.changed() => {}
    }
}
