//! QUIC by quinn, TLS 1.3 by rustls, both sides with certificates of the federation's own root.

mod settings;
mod writing;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fedistill_protocol::Version;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, Endpoint, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::timeout;

use self::writing::Writing;
use crate::address::Address;
use crate::identity::{Identity, peer_of};
use crate::limits::{FAREWELL, HANDSHAKE};
pub use crate::limits::{Limits, Manner};
use crate::strangers::Strangers;
use crate::tls::{self, meaning};
use crate::{
    BoxFuture, CloseCode, Connection, Dial, Listen, NetworkBytes, Peer, Stream, TransportError,
};

/// Handshakes under way above which a newcomer must first prove its address.
const HALF_OPEN: usize = 64;

/// A coordinator's door on a UDP port.
#[derive(Debug)]
pub struct QuicListener {
    endpoint: Endpoint,
    ready: Mutex<mpsc::Receiver<Arc<dyn Connection>>>,
}

impl QuicListener {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// An address that is taken or not ours, or an identity that TLS cannot use.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        limits: Limits,
    ) -> Result<Self, TransportError> {
        let config = settings::server(identity, limits.latest)?;
        let open = || {
            let socket = std::net::UdpSocket::bind(address)?;
            make_room(&socket);
            let runtime = Arc::new(quinn::TokioRuntime);
            Endpoint::new(settings::endpoint(identity), Some(config), socket, runtime)
        };
        let endpoint = open().map_err(|error| TransportError::Bind {
            address,
            why: error.to_string(),
        })?;
        let (sender, ready) = mpsc::channel(64);
        tokio::spawn(let_in(endpoint.clone(), limits, sender));
        Ok(Self {
            endpoint,
            ready: Mutex::new(ready),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system reports.
    pub fn address(&self) -> Result<SocketAddr, TransportError> {
        Ok(self.endpoint.local_addr()?)
    }
}

impl Listen for QuicListener {
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Connection>>> {
        Box::pin(async { self.ready.lock().await.recv().await })
    }

    fn shut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let code = CloseCode::Stopping.number().into();
            self.endpoint.close(code, b"the coordinator stops");
            let _ = timeout(FAREWELL, self.endpoint.wait_idle()).await;
        })
    }
}

/// Bytes that may wait on the coordinator's socket: some 2,000 first packets. The usual 208 KiB of Linux hold
/// 90, so that in a storm of a thousand clients most are lost, and come again after one, three, seven
/// seconds.
const WAITING: usize = 4 << 20;

fn make_room(socket: &std::net::UdpSocket) {
    // The system gives what it lets a program have (net.core.rmem_max on Linux), and what it has given will do.
    if let Err(error) = socket2::SockRef::from(socket).set_recv_buffer_size(WAITING) {
        tracing::debug!("the socket's buffer is as the system made it: {error}");
    }
}

/// Lets clients in, each handshake in a task of its own, so that a slow one holds up nobody.
async fn let_in(endpoint: Endpoint, limits: Limits, ready: mpsc::Sender<Arc<dyn Connection>>) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let strangers = Strangers::over("QUIC");
    while let Some(incoming) = endpoint.accept().await {
        let address = incoming.remote_address();
        let doubtful = !incoming.remote_address_validated() && incoming.may_retry();
        let half_open = limits.connections - room.available_permits();
        let crowded = half_open.saturating_sub(endpoint.open_connections()) > HALF_OPEN;
        if doubtful && (limits.always_retry || crowded) {
            // A newcomer that is gone already needs no answer.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            strangers.refused(
                address,
                format_args!("{} connections are open", limits.connections),
            );
            incoming.refuse();
            continue;
        };
        let (ready, strangers) = (ready.clone(), strangers.clone());
        tokio::spawn(async move {
            let connection = match handshake(incoming).await {
                Ok(connection) => connection,
                Err(error) => return strangers.refused(address, error),
            };
            let inner = connection.inner.clone();
            if ready.send(Arc::new(connection)).await.is_ok() {
                inner.closed().await;
            }
            drop(permit);
        });
    }
}

async fn handshake(incoming: quinn::Incoming) -> Result<QuicConnection, TransportError> {
    let connecting = incoming.accept().map_err(|error| explain(&error))?;
    let late = |_| TransportError::Timeout("finished its handshake");
    let connection = timeout(HANDSHAKE, connecting).await.map_err(late)?;
    let inner = connection.map_err(|error| explain(&error))?;
    let version = agreed(&inner)?;
    let chain = inner
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let peer = chain.and_then(|chain| peer_of(chain.first()?));
    match peer {
        Some(peer) => Ok(QuicConnection {
            inner,
            peer,
            version,
        }),
        None => {
            let why = "the certificate names no client of a federation";
            inner.close(CloseCode::NotWelcome.number().into(), why.as_bytes());
            Err(TransportError::Refused(why.to_owned()))
        }
    }
}

/// The version that the handshake has come to.
fn agreed(connection: &quinn::Connection) -> Result<Version, TransportError> {
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    tls::agreed(data.and_then(|data| data.protocol).as_deref())
}

/// A client's way to its coordinator.
#[derive(Debug)]
pub struct QuicDialer {
    config: quinn::ClientConfig,
    sockets: Arc<Sockets>,
    address: Address,
}

/// A socket of each family is opened when it is first needed.
#[derive(Debug, Default)]
struct Sockets {
    v4: std::sync::OnceLock<Endpoint>,
    v6: std::sync::OnceLock<Endpoint>,
}

impl QuicDialer {
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
    ) -> Result<Self, TransportError> {
        let address = Address::new(address, server_name)?;
        Ok(Self {
            config: settings::client(identity, Manner::default())?,
            sockets: Arc::default(),
            address,
        })
    }

    /// Dials in another manner than by default.
    ///
    /// # Errors
    /// An identity that TLS cannot use.
    pub fn with(mut self, manner: Manner, identity: &Identity) -> Result<Self, TransportError> {
        self.config = settings::client(identity, manner)?;
        Ok(self)
    }

    /// Goes out through the sockets of `other`: a process of many clients needs no more of them. Where
    /// one of them moves, so do all.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        self.sockets = Arc::clone(&other.sockets);
        self
    }

    /// The name that the coordinator's certificate must be for.
    pub fn server_name(&self) -> &str {
        &self.address.server_name
    }

    /// Moves all connections to a new local port, as a device does that changes networks.
    ///
    /// # Errors
    /// What the system reports.
    pub fn rebind(&self) -> Result<(), TransportError> {
        for (endpoint, any) in [
            (&self.sockets.v4, "0.0.0.0:0"),
            (&self.sockets.v6, "[::]:0"),
        ] {
            if let Some(endpoint) = endpoint.get() {
                endpoint.rebind(std::net::UdpSocket::bind(any)?)?;
            }
        }
        Ok(())
    }
}

impl Sockets {
    fn towards(&self, address: SocketAddr) -> Result<&Endpoint, TransportError> {
        let (cell, any): (_, IpAddr) = match address {
            SocketAddr::V4(_) => (&self.v4, std::net::Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (&self.v6, std::net::Ipv6Addr::UNSPECIFIED.into()),
        };
        if let Some(endpoint) = cell.get() {
            return Ok(endpoint);
        }
        let any = SocketAddr::new(any, 0);
        let endpoint = Endpoint::client(any).map_err(|error| TransportError::Bind {
            address: any,
            why: error.to_string(),
        })?;
        Ok(cell.get_or_init(|| endpoint))
    }
}

impl Dial for QuicDialer {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(async {
            let address = self.address.resolve().await?;
            let connecting = self
                .sockets
                .towards(address)?
                .connect_with(self.config.clone(), address, &self.address.server_name)
                .map_err(|error| TransportError::Refused(error.to_string()))?;
            let late = |_| TransportError::NoAnswer {
                address: self.address.text.clone(),
                resolved: address,
                over: "UDP",
                seconds: HANDSHAKE.as_secs(),
            };
            let connection = timeout(HANDSHAKE, connecting).await.map_err(late)?;
            let inner = connection.map_err(|error| explain(&error))?;
            let version = agreed(&inner)?;
            let connection: Arc<dyn Connection> = Arc::new(QuicConnection {
                version,
                inner,
                peer: Peer::Coordinator,
            });
            Ok(connection)
        })
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let Sockets { v4, v6 } = self.sockets.as_ref();
            for endpoint in [v4, v6].into_iter().filter_map(|family| family.get()) {
                let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
            }
        })
    }
}

#[derive(Debug)]
struct QuicConnection {
    inner: quinn::Connection,
    peer: Peer,
    version: Version,
}

impl Connection for QuicConnection {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn version(&self) -> Version {
        self.version
    }

    fn open(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            let (writer, reader) = self.inner.open_bi().await.map_err(|e| explain(&e))?;
            let stream: Stream = (Box::new(Writing::new(writer)), Box::new(reader));
            Ok(stream)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            let (writer, reader) = self.inner.accept_bi().await.map_err(|e| explain(&e))?;
            let stream: Stream = (Box::new(Writing::new(writer)), Box::new(reader));
            Ok(stream)
        })
    }

    fn close(&self, code: CloseCode, why: &str) {
        self.inner
            .close(VarInt::from_u32(code.number()), why.as_bytes());
    }

    fn closed(&self) -> BoxFuture<'_, TransportError> {
        Box::pin(async { explain(&self.inner.closed().await) })
    }

    fn close_reason(&self) -> Option<TransportError> {
        self.inner.close_reason().as_ref().map(explain)
    }

    fn network_bytes(&self) -> Option<NetworkBytes> {
        let stats = self.inner.stats();
        Some(NetworkBytes {
            sent: stats.udp_tx.bytes,
            received: stats.udp_rx.bytes,
        })
    }
}

/// Says in one line what a TLS alert or a closed connection means, and what to do about it.
fn explain(error: &ConnectionError) -> TransportError {
    /// QUIC carries TLS alert A as error 0x100 + A (RFC 9001, section 4.8).
    fn alert(code: u64) -> Option<u64> {
        (0x100..0x200).contains(&code).then(|| code - 0x100)
    }
    let refused = |text: String| TransportError::Refused(text);
    match error {
        ConnectionError::ApplicationClosed(close) => TransportError::Closed {
            code: CloseCode::from_number(
                close.error_code.into_inner().try_into().unwrap_or(u32::MAX),
            ),
            why: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
            Some(alert) => refused(format!("the other side refuses: {}", meaning(alert))),
            None => TransportError::Lost(error.to_string()),
        },
        ConnectionError::TransportError(fault) => match alert(fault.code.into()) {
            Some(alert) => refused(format!(
                "this side refuses: {} ({})",
                meaning(alert),
                fault.reason
            )),
            None => TransportError::Lost(error.to_string()),
        },
        ConnectionError::LocallyClosed => TransportError::Closed {
            code: CloseCode::Done,
            why: "closed by this side".to_owned(),
        },
        other => TransportError::Lost(other.to_string()),
    }
}
