//! Both transports behind the seam; over QUIC also who is let in and who is not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ends::{authority, client, forged, identity, name, refusal, talk, tls_by_hand, ward};
use fedistill_protocol::{Heartbeat, RoundId};
use fedistill_transport::identity::{Authority, Validity};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use fedistill_transport::{CloseCode, Dial, Frames, Listen, TransportError, memory};

fn listener(authority: &Authority, limits: Limits) -> QuicListener {
    let bundle =
        authority.coordinator(&["localhost".into(), "127.0.0.1".into()], Validity::days(1));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    QuicListener::bind(any, &identity(&bundle.unwrap()), limits).unwrap()
}

fn dialer(listener: &QuicListener, bundle: &str) -> QuicDialer {
    let address = listener.address().unwrap().to_string();
    QuicDialer::new(address, None, &identity(bundle)).unwrap()
}

#[tokio::test]
async fn ends_talk_over_quic() {
    let authority = authority();
    for always_retry in [false, true] {
        let limits = Limits {
            always_retry,
            ..Limits::default()
        };
        let listener = listener(&authority, limits);
        let dialer = dialer(&listener, &client(&authority));
        let (near, far) = tokio::join!(dialer.dial(), listener.accept());
        let near = near.unwrap();
        assert!(near.network_bytes().unwrap().total() > 1000);
        talk(near, far.unwrap()).await;
    }
}

#[tokio::test]
async fn ends_talk_in_memory() {
    let (listener, door) = memory::listen();
    let dialer = door.dialer(ward());
    let (near, far) = tokio::join!(dialer.dial(), listener.accept());
    let near = near.unwrap();
    assert_eq!(near.network_bytes(), None);
    talk(near, far.unwrap()).await;
}

#[tokio::test]
async fn a_shut_door_says_that_it_will_open_again() {
    let authority = authority();
    let quic = listener(&authority, Limits::default());
    let (in_memory, door) = memory::listen();
    let bundle = client(&authority);
    let cases: [(Box<dyn Dial>, Box<dyn Listen>); 2] = [
        (Box::new(dialer(&quic, &bundle)), Box::new(quic)),
        (Box::new(door.dialer(ward())), Box::new(in_memory)),
    ];
    for (dialer, listener) in cases {
        let (near, far) = tokio::join!(dialer.dial(), listener.accept());
        let (near, far) = (near.unwrap(), far.unwrap());
        listener.shut().await;
        let closed = near.closed().await;
        assert!(
            matches!(
                closed,
                TransportError::Closed {
                    code: CloseCode::Stopping,
                    ..
                }
            ),
            "{closed:?}"
        );
        drop(far);
    }
}

#[tokio::test]
async fn a_connection_outlives_a_change_of_address() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let dialer = dialer(&listener, &client(&authority));
    let (near, far) = tokio::join!(dialer.dial(), listener.accept());
    dialer.rebind().unwrap();
    talk(near.unwrap(), far.unwrap()).await;
}

#[tokio::test]
async fn who_is_not_of_the_federation_is_told_why() {
    let ours = authority();
    let listener = listener(&ours, Limits::default());
    let stranger = authority();
    let text = refusal(&dialer(&listener, &forged(&ours, &stranger))).await;
    assert!(text.contains("another root"), "{text}");

    let text = refusal(&dialer(&listener, &client(&stranger))).await;
    assert!(
        text.contains("this side refuses") && text.contains("another root"),
        "{text}"
    );

    let expired = ours.client(&name("ward-7"), Validity::over()).unwrap();
    let text = refusal(&dialer(&listener, &expired)).await;
    assert!(text.contains("has expired"), "{text}");

    let coordinator = ours
        .coordinator(&["localhost".into()], Validity::days(1))
        .unwrap();
    let text = refusal(&dialer(&listener, &coordinator)).await;
    assert!(
        text.contains("certificate cannot be used") || text.contains("names no client"),
        "{text}"
    );

    let address = listener.address().unwrap().to_string();
    let elsewhere = QuicDialer::new(
        address,
        Some("example.org".into()),
        &identity(&client(&ours)),
    );
    let text = refusal(&elsewhere.unwrap()).await;
    assert!(text.contains("this side refuses"), "{text}");
}

/// A client made by hand: with or without its certificate, and of any protocol.
async fn by_hand(listener: &QuicListener, bundle: &str, shown: bool, alpn: &[u8]) -> String {
    let tls = tls_by_hand(bundle, shown, alpn);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let address = listener.address().unwrap();
    let error = match endpoint
        .connect_with(config, address, "localhost")
        .unwrap()
        .await
    {
        Err(error) => error,
        Ok(connection) => connection.closed().await,
    };
    format!("{error:?}")
}

#[tokio::test]
async fn another_version_or_no_certificate_is_refused() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let bundle = client(&authority);
    let error = by_hand(&listener, &bundle, true, b"fedistill/0").await;
    // TLS alerts 120 and 116, in hexadecimal: no_application_protocol, certificate_required.
    assert!(error.contains("crypto(78)"), "{error}");
    let error = by_hand(&listener, &bundle, false, b"fedistill/1").await;
    assert!(error.contains("crypto(74)"), "{error}");
    // What is refused is how the client differs: the same client with both right gets in.
    let far = async {
        listener
            .accept()
            .await
            .unwrap()
            .close(CloseCode::Done, "fine")
    };
    let (error, ()) = tokio::join!(by_hand(&listener, &bundle, true, b"fedistill/1"), far);
    assert!(
        error.contains("ApplicationClosed") && error.contains("fine"),
        "{error}"
    );
}

#[tokio::test]
async fn an_occupied_port_is_said() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let bundle = authority
        .coordinator(&["localhost".into()], Validity::days(1))
        .unwrap();
    let address = listener.address().unwrap();
    let error = QuicListener::bind(address, &identity(&bundle), Limits::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("another address"),
        "{text}"
    );
}

#[test]
fn a_coordinator_that_crashed_tells_its_clients_once_it_is_back() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (crashing, clients, restarted) = (runtime(), runtime(), runtime());
    let authority = authority();
    let bundle = authority
        .coordinator(&["127.0.0.1".to_owned()], Validity::days(1))
        .unwrap();
    let bind = |address: SocketAddr| {
        QuicListener::bind(address, &identity(&bundle), Limits::default()).unwrap()
    };
    let listener = crashing.block_on(async { bind("127.0.0.1:0".parse().unwrap()) });
    let address = listener.address().unwrap();
    let dialer = dialer(&listener, &client(&authority));
    let connection = clients.block_on(dialer.dial()).unwrap();
    // Its tasks end where they are: nobody is told.
    crashing.shutdown_timeout(Duration::from_secs(5));
    drop(listener);
    let _again = restarted.block_on(async { bind(address) });
    clients.block_on(async {
        // The reset may have come before, for a packet that was on its way.
        if let Ok(stream) = connection.open().await {
            let id = RoundId {
                round: 0,
                attempt: 0,
            };
            let _ = Frames::new(stream, connection.version())
                .writer
                .send(&Heartbeat { id }.into())
                .await;
        }
        // Far less than the time after which a silent connection is given up.
        let told = tokio::time::timeout(Duration::from_secs(10), connection.closed());
        let error = told.await.unwrap().to_string();
        assert!(error.contains("reset"), "{error}");
    });
}
