//! What both ends of any transport must do, and who they are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{Digest, Heartbeat, Message, Name, RoundId};
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::{
    CloseCode, Connection, Dial, Frames, Meter, Metered, Peer, TransportError, blobs,
};

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn authority() -> Authority {
    Authority::create(name("clinic")).unwrap()
}

pub(crate) fn identity(bundle: &str) -> Identity {
    Identity::parse(Path::new("bundle.pem"), bundle.as_bytes()).unwrap()
}

pub(crate) fn client(authority: &Authority) -> String {
    authority
        .client(&name("ward-7"), Validity::days(1))
        .unwrap()
}

pub(crate) fn ward() -> Peer {
    Peer::Client {
        federation: name("clinic"),
        name: name("ward-7"),
    }
}

/// What both ends of any transport must do.
pub(crate) async fn talk(near: Arc<dyn Connection>, far: Arc<dyn Connection>) {
    assert_eq!((near.peer(), far.peer()), (&Peer::Coordinator, &ward()));
    let meter = Arc::new(Meter::default());
    let near: Arc<dyn Connection> = Arc::new(Metered::new(near, Arc::clone(&meter)));
    let message: Message = Heartbeat {
        id: RoundId {
            round: 3,
            attempt: 1,
        },
    }
    .into();
    let mut frames = Frames::new(near.open().await.unwrap(), near.version());
    frames.writer.send(&message).await.unwrap();
    let mut other = Frames::new(far.accept().await.unwrap(), far.version());
    assert_eq!(other.reader.next().await.unwrap(), Some(message.clone()));
    other.writer.send(&message).await.unwrap();
    assert_eq!(frames.reader.next().await.unwrap(), Some(message));
    assert_eq!((meter.sent(), meter.received()), (8, 8));

    // A blob, the other way round, that breaks off in the middle and goes on.
    let blob: Vec<u8> = (0..300_000u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    let digest = Digest::of(&blob);
    let mut assembler = Assembler::new(digest, blob.len() as u64, 1 << 20).unwrap();
    let whole = blob.clone();
    let server = tokio::spawn(async move {
        for length in [100_000, whole.len()] {
            let mut stream = near.accept().await.unwrap();
            let request = blobs::requested(&mut stream).await.unwrap();
            blobs::send(&mut stream, &whole[..length], request.offset, |_| ())
                .await
                .unwrap();
        }
        near
    });
    assert!(
        blobs::fetch(far.as_ref(), digest, &mut assembler, |_| ())
            .await
            .is_err()
    );
    assert_eq!(assembler.offset(), 100_000);
    blobs::fetch(far.as_ref(), digest, &mut assembler, |_| ())
        .await
        .unwrap();
    assert_eq!(assembler.finish().unwrap(), blob);
    let near = server.await.unwrap();

    far.close(CloseCode::Superseded, "a newer one is here");
    let closed = near.closed().await;
    assert!(
        matches!(&closed, TransportError::Closed { code: CloseCode::Superseded, why } if why.contains("newer")),
        "{closed:?}"
    );
    assert!(near.open().await.is_err() && near.close_reason().is_some());
}

/// How a client learns that it is not let in: while dialling, or right after.
pub(crate) async fn refusal(dialer: &dyn Dial) -> String {
    match dialer.dial().await {
        Err(error) => error.to_string(),
        Ok(connection) => connection.closed().await.to_string(),
    }
}

/// A client's bundle of another federation that trusts this one all the same.
pub(crate) fn forged(ours: &Authority, stranger: &Authority) -> String {
    let root = client(ours)
        .rsplit_once("-----BEGIN CERTIFICATE")
        .map(|(_, r)| r.to_owned())
        .unwrap();
    let bundle = client(stranger);
    let (own, _) = bundle.rsplit_once("-----BEGIN CERTIFICATE").unwrap();
    format!("{own}-----BEGIN CERTIFICATE{root}")
}

/// TLS as a client would make it by hand: with or without its certificate, and of any protocol.
pub(crate) fn tls_by_hand(bundle: &str, shown: bool, alpn: &[u8]) -> rustls::ClientConfig {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes())
        .map(Result::unwrap)
        .collect();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates[1].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let key = PrivatePkcs8KeyDer::from_pem_slice(bundle.as_bytes()).unwrap();
    let mut tls = match shown {
        false => builder.with_no_client_auth(),
        true => builder
            .with_client_auth_cert(certificates[..1].to_vec(), key.into())
            .unwrap(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}
