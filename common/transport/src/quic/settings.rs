//! What quinn and rustls are told. Each value that is not a default bounds what a stranger, or a
//! client gone bad, can make the other side hold in memory.

use std::sync::Arc;
use std::time::Duration;

use ::aws_lc_rs::hmac;
use fedistill_protocol::Version;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use crate::TransportError;
use crate::identity::Identity;
use crate::limits::{
    CLIENT_STREAMS, CONNECTION_WINDOW, COORDINATOR_STREAMS, Manner, NEWCOMERS, SILENCE,
    STREAM_WINDOW,
};
use crate::tls::{self, unusable};

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

pub(super) fn server(identity: &Identity, latest: Version) -> Result<ServerConfig, TransportError> {
    let tls = tls::server(identity, latest)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(unusable)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(CLIENT_STREAMS)?))
        .migration(true)
        .max_incoming(NEWCOMERS)
        .incoming_buffer_size(64 * u64::from(KIB))
        .incoming_buffer_size_total(8 * u64::from(MIB));
    Ok(config)
}

pub(super) fn client(identity: &Identity, manner: Manner) -> Result<ClientConfig, TransportError> {
    let tls = tls::client(identity, manner.latest)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(unusable)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(COORDINATOR_STREAMS)?;
    transport.keep_alive_interval(Some(manner.keep_alive));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Least time between two stateless resets. Each is smaller than the packet that it answers, so there is
/// nothing to amplify; with quinn's 20 ms a thousand clients hear for up to half a minute nothing of
/// a coordinator that is back.
const BETWEEN_RESETS: Duration = Duration::from_micros(50);

/// Lets a coordinator that has crashed tell clients so once it is back (stateless resets, RFC 9000
/// section 10.3): what it signs and checks with has to outlive the process, so it comes from the
/// bundle's key.
pub(super) fn endpoint(identity: &Identity) -> EndpointConfig {
    let secret = identity.key.secret_der();
    let derive = |purpose: &str| blake3::derive_key(purpose, secret);
    let reset = hmac::Key::new(
        hmac::HMAC_SHA256,
        &derive("fedistill 2026-11 quic stateless reset"),
    );
    let ids = derive("fedistill 2026-11 quic connection ids");
    let ids = ids
        .first_chunk::<8>()
        .map_or(0, |key| u64::from_le_bytes(*key));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config.min_reset_interval(BETWEEN_RESETS);
    config
}

/// `streams`: how many the peer may have open at a time.
fn transport(streams: u32) -> Result<TransportConfig, TransportError> {
    let mut config = TransportConfig::default();
    let silence = IdleTimeout::try_from(SILENCE).map_err(unusable)?;
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(4 * u64::from(MIB))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(silence));
    Ok(config)
}
