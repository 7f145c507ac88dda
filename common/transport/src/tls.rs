//! TLS 1.3 with certificates of the federation's own root on both sides, the same over QUIC and over TCP.

use std::sync::Arc;

use fedistill_protocol::Version;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::TransportError;
use crate::identity::Identity;

pub(crate) fn server(identity: &Identity, latest: Version) -> Result<ServerConfig, TransportError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(identity)?), provider())
            .build()
            .map_err(unusable)?;
    let mut tls = ServerConfig::builder_with_provider(provider())
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
    Ok(tls)
}

pub(crate) fn client(identity: &Identity, latest: Version) -> Result<ClientConfig, TransportError> {
    let mut tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(unusable)?;
    tls.alpn_protocols = protocols(latest);
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

/// The version that a handshake has come to.
pub(crate) fn agreed(protocol: Option<&[u8]>) -> Result<Version, TransportError> {
    protocol
        .and_then(Version::from_alpn)
        .ok_or_else(|| TransportError::Refused("no version was agreed on".to_owned()))
}

/// TLS alerts (RFC 8446, section 6) in words.
pub(crate) fn meaning(alert: u64) -> String {
    match alert {
        42 | 43 | 46 => "the certificate cannot be used: make a new bundle".to_owned(),
        44 => "the certificate is revoked: ask the coordinator for a new bundle".to_owned(),
        45 => "the certificate has expired: ask the coordinator for a new bundle".to_owned(),
        48 => "the certificate is of another root: use a bundle of this federation".to_owned(),
        51 => {
            "the certificate is signed by another root, or damaged: use a bundle of this federation"
                .to_owned()
        }
        116 => "no certificate was shown: dial with a bundle of this federation".to_owned(),
        120 => "no common protocol version: update the older side".to_owned(),
        other => format!("TLS alert {other}"),
    }
}

pub(crate) fn unusable(error: impl std::fmt::Display) -> TransportError {
    TransportError::Refused(format!("the bundle cannot be used for TLS: {error}"))
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
