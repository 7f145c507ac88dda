//! What quinn and rustls are told. Each value that is not a default bounds what a stranger, or a
//! client gone bad, can make the other side hold in memory.

use std::sync::Arc;
use std::time::Duration;

use ::aws_lc_rs::hmac;
use fedistill_protocol::Version;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;

use super::Manner;
use crate::TransportError;
use crate::identity::Identity;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

pub(super) fn server(identity: &Identity, latest: Version) -> Result<ServerConfig, TransportError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(identity)?), provider())
            .build()
            .map_err(unusable)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(unusable)?;
    tls.alpn_protocols = protocols(latest);
    // A resumed session is not verified anew, so a revoked client could come back; and 0-RTT data
    // can be replayed.
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(unusable)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(8)))
        .migration(true)
        .max_incoming(1024)
        .incoming_buffer_size(64 * u64::from(KIB))
        .incoming_buffer_size_total(8 * u64::from(MIB));
    Ok(config)
}

pub(super) fn client(identity: &Identity, manner: Manner) -> Result<ClientConfig, TransportError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(unusable)?;
    tls.alpn_protocols = protocols(manner.latest);
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).map_err(unusable)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(2);
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
fn transport(streams: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(512 * KIB))
        .receive_window(VarInt::from_u32(2 * MIB))
        .send_window(4 * u64::from(MIB))
        .datagram_receive_buffer_size(None);
    config
}

/// What is offered, or let in, the latest version first.
fn protocols(latest: Version) -> Vec<Vec<u8>> {
    let spoken = Version::ALL.into_iter();
    let spoken = spoken.filter(|version| *version <= latest);
    spoken.map(|version| version.alpn().to_vec()).collect()
}

/// Always this one, never the process's default: another crate may have set that.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(identity: &Identity) -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.root.clone()).map_err(unusable)?;
    Ok(roots)
}

fn unusable(error: impl std::fmt::Display) -> TransportError {
    TransportError::Refused(format!("the bundle cannot be used for TLS: {error}"))
}
