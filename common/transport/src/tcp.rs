//! TLS 1.3 by rustls over TCP, for networks that let no UDP through: the same certificates, versions and
//! limits as over QUIC, and streams of our own making on one connection.

mod counted;
mod driver;
mod frame;
mod mux;
mod newcomers;
mod rehearsal;
mod stream;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, Error};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::counted::Counted;
use self::driver::drive;
use self::mux::Side;
use self::newcomers::{Newcomers, Place};
pub use self::rehearsal::{Held, Rehearsal};
use self::stream::{Shared, TcpConnection};
use crate::address::Address;
use crate::identity::{Identity, peer_of};
use crate::limits::{FAREWELL, HANDSHAKE, KEEP_ALIVE, Limits, Manner};
use crate::strangers::Strangers;
use crate::tls::{self, agreed, meaning};
use crate::{BoxFuture, CloseCode, Connection, Dial, Listen, Peer, TransportError};

/// Newcomers whose handshakes may be under way: unlike over QUIC, each holds a descriptor of the process, of
/// which there may be 1,024.
const NEWCOMERS: usize = 256;
/// The pause after the system could not hand out a connection: mostly there are too many open files.
const PAUSE: Duration = Duration::from_secs(1);
/// More drivers than there ever are.
const MANY: u32 = 1 << 20;

/// A coordinator's door on a TCP port.
#[derive(Debug)]
pub struct TcpListener {
    address: SocketAddr,
    ready: Mutex<mpsc::Receiver<Arc<dyn Connection>>>,
    /// Connections that may still be let in.
    room: Arc<Semaphore>,
    connections: u32,
    shut: watch::Sender<bool>,
}

impl TcpListener {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// An address that is taken or not ours, or an identity that TLS cannot use.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        limits: Limits,
    ) -> Result<Self, TransportError> {
        let tls = TlsAcceptor::from(Arc::new(tls::server(identity, limits.latest)?));
        let open = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // Its connections of before, which the system remembers, keep nobody from starting again.
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(NEWCOMERS as u32)?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        };
        let (listener, address) = open().map_err(|error| TransportError::Bind {
            address,
            why: error.to_string(),
        })?;
        let (sender, ready) = mpsc::channel(64);
        let connections = limits.connections.min(MANY as usize);
        let room = Arc::new(Semaphore::new(connections));
        let (shut, _) = watch::channel(false);
        let door = Door {
            tls,
            ready: sender,
            room: Arc::clone(&room),
            shut: shut.subscribe(),
            strangers: Strangers::over("TCP"),
        };
        tokio::spawn(door.let_in(listener));
        Ok(Self {
            address,
            ready: Mutex::new(ready),
            room,
            connections: connections as u32,
            shut,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listen for TcpListener {
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(async { self.ready.lock().await.recv().await })
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.shut.send_replace(true);
            // Each connection holds its permit until its peer has been told.
            let _ = timeout(FAREWELL, self.room.acquire_many(self.connections)).await;
        })
    }
}

/// What it takes to let clients in.
#[derive(Clone)]
struct Door {
    tls: TlsAcceptor,
    ready: mpsc::Sender<Arc<dyn Connection>>,
    room: Arc<Semaphore>,
    shut: watch::Receiver<bool>,
    strangers: Strangers,
}

impl Door {
    /// Lets clients in, each handshake in a task of its own, so that a slow one holds up nobody. Newcomers
    /// beyond [`NEWCOMERS`] have who says nothing give way, or wait in the system's queue.
    async fn let_in(self, listener: tokio::net::TcpListener) {
        let newcomers = Newcomers::new(NEWCOMERS);
        let mut shut = self.shut.clone();
        let is_shut = async {
            // Where the listener is dropped, nobody is let in any more either.
            let _ = shut.wait_for(|shut| *shut).await;
        };
        tokio::pin!(is_shut);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut is_shut => return,
            };
            let (socket, address) = match accepted {
                Ok(accepted) => accepted,
                // It has hung up while it waited.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                    ) =>
                {
                    continue;
                }
                Err(error) => {
                    tracing::warn!("no newcomer over TCP: {error}");
                    tokio::select! {
                        () = sleep(PAUSE) => continue,
                        () = &mut is_shut => return,
                    }
                }
            };
            if self.room.available_permits() == 0 {
                self.strangers
                    .refused(address, "no room for more connections");
                continue;
            }
            let counted = Counted::new(socket);
            let place = tokio::select! {
                place = newcomers.place(counted.counters()) => place,
                () = &mut is_shut => return,
            };
            tokio::spawn(self.clone().serve(counted, address, place));
        }
    }

    /// One newcomer, to the end of its connection. It takes a place among the connections once it has proved
    /// who it is: else strangers who say nothing could take them all.
    async fn serve(mut self, socket: Counted<TcpStream>, address: SocketAddr, newcomer: Place) {
        let late = |_| TransportError::Timeout("finished its handshake");
        let greeted = tokio::select! {
            greeted = timeout(HANDSHAKE, greet(&self.tls, socket)) => greeted,
            () = newcomer.is_needed() => {
                return self.strangers.refused(address, "silent, and others want its place");
            }
        };
        let (io, connection) = match greeted.map_err(late).and_then(|greeted| greeted) {
            Ok(greeted) => greeted,
            Err(error) => return self.strangers.refused(address, error),
        };
        let shared = Arc::clone(&connection.shared);
        let place = Arc::clone(&self.room).try_acquire_owned();
        let (Peer::Client { name, .. }, Ok(permit)) = (&connection.peer, place) else {
            self.turn_away(&connection, address);
            drive(shared, io, KEEP_ALIVE).await;
            return drop(newcomer);
        };
        drop(newcomer);
        tracing::info!(client = %name, %address, "let in over TCP");
        let ready = self.ready.clone();
        // Its end takes the connection with it, where nobody takes it over.
        tokio::spawn(async move { drop(ready.send(Arc::new(connection)).await) });
        let conversation = drive(Arc::clone(&shared), io, KEEP_ALIVE);
        tokio::pin!(conversation);
        let shut = async {
            // A listener that is gone is as one that is shut.
            let _ = self.shut.wait_for(|shut| *shut).await;
        };
        tokio::select! {
            () = &mut conversation => {}
            () = shut => {
                shared.mux().close(CloseCode::Stopping, "the coordinator stops");
                conversation.await;
            }
        }
        drop(permit);
    }

    /// Tells one who has proved who it is why it is not let in.
    fn turn_away(&self, connection: &TcpConnection, address: SocketAddr) {
        let (code, why) = match &connection.peer {
            Peer::Coordinator => (
                CloseCode::NotWelcome,
                "the certificate names no client of a federation",
            ),
            // Who waits for all places at once takes the last ones.
            Peer::Client { .. } if *self.shut.borrow() => {
                (CloseCode::Stopping, "the coordinator stops")
            }
            Peer::Client { .. } => (CloseCode::Busy, "no room for more connections over TCP"),
        };
        tracing::warn!(%address, "refused: {why}");
        connection.close(code, why);
    }
}

/// A handshake, and who it has come to.
async fn greet(
    tls: &TlsAcceptor,
    socket: Counted<TcpStream>,
) -> Result<(TlsStream<Counted<TcpStream>>, TcpConnection), TransportError> {
    // What is small is not to wait for more.
    socket.get_ref().set_nodelay(true)?;
    let crossed = socket.counters();
    let io = match tls.accept(socket).into_fallible().await {
        Ok(io) => io,
        Err((error, mut io)) => {
            // It has been told why, unless the socket is gone before it has read that.
            let _ = io.shutdown().await;
            let mut rest = [0; 1024];
            let unread = async { while io.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
            let _ = timeout(FAREWELL, unread).await;
            return Err(explain(&error));
        }
    };
    let session = io.get_ref().1;
    let version = agreed(session.alpn_protocol())?;
    let peer = session
        .peer_certificates()
        .and_then(|chain| peer_of(chain.first()?));
    let shared = Shared::new(Side::Coordinator);
    let connection = TcpConnection {
        shared,
        peer: peer.unwrap_or(Peer::Coordinator),
        version,
        crossed,
    };
    Ok((io, connection))
}

/// A client's way to its coordinator.
pub struct TcpDialer {
    address: Address,
    tls: TlsConnector,
    keep_alive: Duration,
    /// Each conversation holds one until its peer has been told of its end.
    drivers: Arc<Semaphore>,
}

impl std::fmt::Debug for TcpDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TcpDialer({})", self.address.text)
    }
}

impl TcpDialer {
    /// A dialer to `address` (`host:port`), which must prove to be `server_name`: by default the
    /// host itself.
    ///
    /// # Errors
    /// Text that is no address, a server name that is none, or an identity that TLS cannot use.
    /// Whether a name can be resolved shows only when dialling.
    pub fn new(
        address: String,
        server_name: Option<String>,
        identity: &Identity,
        manner: Manner,
    ) -> Result<Self, TransportError> {
        Ok(Self {
            address: Address::new(address, server_name)?,
            tls: TlsConnector::from(Arc::new(tls::client(identity, manner.latest)?)),
            keep_alive: manner.keep_alive,
            drivers: Arc::new(Semaphore::new(MANY as usize)),
        })
    }

    async fn connect(&self, resolved: SocketAddr) -> Result<TcpConnection, TransportError> {
        let Address { text, server_name } = &self.address;
        let name = ServerName::try_from(server_name.clone())
            .map_err(|error| TransportError::Refused(error.to_string()))?;
        let socket = TcpStream::connect(resolved).await.map_err(|error| {
            TransportError::Lost(format!("cannot connect to {text} ({resolved}): {error}"))
        })?;
        socket.set_nodelay(true)?;
        let counted = Counted::new(socket);
        let crossed = counted.counters();
        let io = self.tls.connect(name, counted).await;
        let io = io.map_err(|error| explain(&error))?;
        let version = agreed(io.get_ref().1.alpn_protocol())?;
        let shared = Shared::new(Side::Client);
        let driver = drive(Arc::clone(&shared), io, self.keep_alive);
        let held = Arc::clone(&self.drivers).try_acquire_owned();
        tokio::spawn(async move {
            driver.await;
            drop(held);
        });
        Ok(TcpConnection {
            shared,
            peer: Peer::Coordinator,
            version,
            crossed,
        })
    }
}

impl Dial for TcpDialer {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(async {
            let resolved = self.address.resolve().await?;
            let late = |_| TransportError::NoAnswer {
                address: self.address.text.clone(),
                resolved,
                over: "TCP",
                seconds: HANDSHAKE.as_secs(),
            };
            let connected = timeout(HANDSHAKE, self.connect(resolved)).await;
            let connection: Arc<dyn Connection> = Arc::new(connected.map_err(late)??);
            Ok(connection)
        })
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _ = timeout(FAREWELL, self.drivers.acquire_many(MANY)).await;
        })
    }
}

/// Says in one line what a TLS alert or a broken connection means, and what to do about it.
fn explain(error: &std::io::Error) -> TransportError {
    let inner = error.get_ref();
    let number = |alert: AlertDescription| u64::from(u8::from(alert));
    let ours = |alert: u64, why: &dyn std::fmt::Display| {
        TransportError::Refused(format!("this side refuses: {} ({why})", meaning(alert)))
    };
    match inner.and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => {
            let why = meaning(number(*alert));
            TransportError::Refused(format!("the other side refuses: {why}"))
        }
        Some(why @ Error::InvalidCertificate(certificate)) => {
            ours(number(certificate.clone().into()), why)
        }
        Some(why @ Error::NoCertificatesPresented) => ours(116, why),
        Some(why @ Error::NoApplicationProtocol) => ours(120, why),
        Some(why @ (Error::PeerIncompatible(_) | Error::PeerMisbehaved(_))) => {
            TransportError::Refused(format!("this side refuses: {why}"))
        }
        _ => TransportError::Lost(error.to_string()),
    }
}
