//! The same over TCP: who is let in and who is not, what a peer that breaks the rules comes to, and what a
//! line that is cut.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ends::{authority, client, forged, identity, name, refusal, talk, tls_by_hand};
use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{Digest, Version};
use fedistill_transport::identity::{Authority, Validity};
use fedistill_transport::quic::{Limits, Manner, QuicDialer, QuicListener};
use fedistill_transport::tcp::{TcpDialer, TcpListener};
use fedistill_transport::{
    CloseCode, Connection, Dial, FallbackDialer, Listen, TransportError, blobs,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn listener(authority: &Authority, limits: Limits) -> TcpListener {
    let bundle =
        authority.coordinator(&["localhost".into(), "127.0.0.1".into()], Validity::days(1));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    TcpListener::bind(any, &identity(&bundle.unwrap()), limits).unwrap()
}

fn dialer_to(address: SocketAddr, bundle: &str) -> TcpDialer {
    let address = address.to_string();
    TcpDialer::new(address, None, &identity(bundle), Manner::default()).unwrap()
}

fn dialer(listener: &TcpListener, bundle: &str) -> TcpDialer {
    dialer_to(listener.address(), bundle)
}

async fn pair(
    listener: &TcpListener,
    dialer: &TcpDialer,
) -> (Arc<dyn Connection>, Arc<dyn Connection>) {
    let (near, far) = tokio::join!(dialer.dial(), listener.accept());
    (near.unwrap(), far.unwrap())
}

#[tokio::test]
async fn ends_talk_over_tcp() {
    let authority = authority();
    for (latest, expected) in [
        (Version::LATEST, Version::LATEST),
        (Version::OLDEST, Version::OLDEST),
    ] {
        let limits = Limits {
            latest,
            ..Limits::default()
        };
        let listener = listener(&authority, limits);
        let (near, far) = pair(&listener, &dialer(&listener, &client(&authority))).await;
        assert_eq!((near.version(), far.version()), (expected, expected));
        talk(Arc::clone(&near), Arc::clone(&far)).await;
        // What one side has given to TCP has come out at the other, but for the very last.
        let (near, far) = (near.network_bytes().unwrap(), far.network_bytes().unwrap());
        assert!(near.sent > 300_000 && near.received > 1000, "{near:?}");
        assert!(far.received.abs_diff(near.sent) < 100, "{far:?} {near:?}");
    }
}

#[tokio::test]
async fn a_shut_door_says_that_it_will_open_again() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let dialer = dialer(&listener, &client(&authority));
    let (near, far) = pair(&listener, &dialer).await;
    let begun = Instant::now();
    listener.shut().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let closed = near.closed().await;
    let code = CloseCode::Stopping;
    assert!(
        matches!(closed, TransportError::Closed { code: told, .. } if told == code),
        "{closed:?}"
    );
    drop(far);
    assert!(listener.accept().await.is_none());
    assert!(dialer.dial().await.is_err());
    dialer.told().await;
}

#[tokio::test]
async fn who_is_not_of_the_federation_is_told_why() {
    let ours = authority();
    let listener = listener(&ours, Limits::default());
    let stranger = authority();
    let text = refusal(&dialer(&listener, &forged(&ours, &stranger))).await;
    assert!(
        text.contains("the other side refuses") && text.contains("another root"),
        "{text}"
    );

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

    let address = listener.address().to_string();
    let elsewhere = Some("example.org".into());
    let bundle = identity(&client(&ours));
    let elsewhere = TcpDialer::new(address, elsewhere, &bundle, Manner::default());
    let text = refusal(&elsewhere.unwrap()).await;
    assert!(text.contains("this side refuses"), "{text}");
}

type ByHand = tokio_rustls::client::TlsStream<TcpStream>;

async fn by_hand(
    listener: &TcpListener,
    bundle: &str,
    shown: bool,
    alpn: &[u8],
) -> std::io::Result<ByHand> {
    let tls = TlsConnector::from(Arc::new(tls_by_hand(bundle, shown, alpn)));
    let socket = TcpStream::connect(listener.address()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = tls.connect(name, socket).await?;
    // Whether it is let in shows with what comes first.
    stream.flush().await?;
    Ok(stream)
}

/// All that comes until the end, or how it breaks off.
async fn rest(stream: std::io::Result<ByHand>) -> Result<Vec<u8>, String> {
    let mut stream = stream.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes));
    let read = read.await.unwrap();
    read.map(|_| bytes).map_err(|error| error.to_string())
}

#[tokio::test]
async fn another_version_or_no_certificate_is_refused() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let bundle = client(&authority);
    let error = rest(by_hand(&listener, &bundle, true, b"fedistill/0").await).await;
    let error = error.unwrap_err();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    let error = rest(by_hand(&listener, &bundle, false, b"fedistill/1").await).await;
    let error = error.unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
    // What is refused is how the client differs: the same client with both right gets in.
    let far = async {
        let far = listener.accept().await.unwrap();
        far.close(CloseCode::Done, "fine");
        far.version()
    };
    let (stream, version) = tokio::join!(by_hand(&listener, &bundle, true, b"fedistill/1"), far);
    let told = rest(stream).await.unwrap();
    assert_eq!(version, Version::OLDEST);
    assert_eq!(
        told,
        [&[8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0], &b"fine"[..]].concat()
    );
}

#[tokio::test]
async fn who_breaks_the_rules_of_streams_is_told_and_cut_off() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let bundle = client(&authority);
    let open = |stream: u8| [1, 0, 0, 0, stream, 0, 0, 0];
    let many: Vec<u8> = (0..9).flat_map(|i| open(1 + 2 * i)).collect();
    for (bytes, part) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "unknown kind"),
        (vec![2, 0, 255, 255, 1, 0, 0, 0], "too long"),
        (many, "more open streams"),
    ] {
        let (stream, far) = tokio::join!(
            by_hand(&listener, &bundle, true, b"fedistill/4"),
            listener.accept()
        );
        let mut stream = stream.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let told = rest(Ok(stream)).await.unwrap();
        assert_eq!(
            (told[0], told[8]),
            (8, 1),
            "a close, with the code of a violation"
        );
        let why = String::from_utf8_lossy(&told[12..]);
        assert!(why.contains(part), "{why}");
        let lost = far.unwrap().closed().await.to_string();
        assert!(lost.contains("broken the rules of streams"), "{lost}");
    }
}

#[tokio::test]
async fn who_proves_nothing_holds_up_nobody() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let address = listener.address();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    for junk in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[22, 3, 1, 255, 255],
        &[0; 100],
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(junk).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut told = Vec::new();
        // A TLS alert, or that it is over.
        let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut told));
        let _ = read.await.unwrap();
        assert!(told.len() < 16, "{told:?}");
    }
    let (near, far) = pair(&listener, &dialer(&listener, &client(&authority))).await;
    talk(near, far).await;
}

#[tokio::test]
async fn a_crowd_of_silent_strangers_keeps_nobody_out() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(listener.address()).await.unwrap());
    }
    let begun = Instant::now();
    let (near, far) = pair(&listener, &dialer(&listener, &client(&authority))).await;
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    talk(near, far).await;
    // Those who came first have given way.
    let mut end = [0; 1];
    let read = tokio::time::timeout(Duration::from_secs(1), silent[0].read(&mut end));
    assert!(matches!(read.await, Ok(Ok(0) | Err(_))));
    let last = silent.last_mut().unwrap();
    let read = tokio::time::timeout(Duration::from_millis(100), last.read(&mut end));
    assert!(read.await.is_err());
}

#[tokio::test]
async fn there_is_room_for_as_many_as_are_let_in() {
    let authority = authority();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let listener = listener(&authority, limits);
    let dialer = dialer(&listener, &client(&authority));
    let (near, far) = pair(&listener, &dialer).await;
    let error = dialer.dial().await.unwrap_err();
    assert!(matches!(error, TransportError::Lost(_)), "{error}");
    near.close(CloseCode::Done, "done");
    far.closed().await;
    drop((near, far));
    dialer.told().await;
    // The coordinator may hear of it later than the client.
    let mut tries = 0;
    while let Err(error) = dialer.dial().await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_has_not_proved_who_it_is_takes_no_place() {
    let authority = authority();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let listener = listener(&authority, limits);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(listener.address()).await.unwrap());
    }
    // As many as there are places for come at once: one is let in, and the other told to come back.
    let first = dialer(&listener, &client(&authority));
    let second = dialer(&listener, &client(&authority));
    let let_in = tokio::time::timeout(Duration::from_secs(5), listener.accept());
    let (one, other, let_in) = tokio::join!(first.dial(), second.dial(), let_in);
    let _held = let_in.unwrap().unwrap();
    let ends = [one, other].map(|dialled| async move {
        match dialled {
            Err(error) => Some(error),
            Ok(near) => {
                let closed = tokio::time::timeout(Duration::from_secs(1), near.closed());
                closed.await.ok()
            }
        }
    });
    let [one, other] = ends;
    let (one, other) = tokio::join!(one, other);
    let told = match (one, other) {
        (Some(told), None) | (None, Some(told)) => told,
        both => panic!("{both:?}"),
    };
    // Before its handshake there is nobody to tell; after it there is.
    let busy = CloseCode::Busy;
    assert!(
        matches!(&told, TransportError::Lost(_))
            || matches!(&told, TransportError::Closed { code, .. } if *code == busy),
        "{told:?}"
    );
    // Nor does anybody wait for who is silent.
    let begun = Instant::now();
    listener.shut().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    drop(silent);
}

/// Passes on what comes for one connection, until it is cut.
async fn line(to: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let passing = tokio::spawn(async move {
        let (mut one, _) = front.accept().await.unwrap();
        let mut other = TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
    });
    (address, passing)
}

#[tokio::test]
async fn a_transfer_goes_on_where_the_line_was_cut() {
    let authority = authority();
    let listener = listener(&authority, Limits::default());
    let bundle = client(&authority);
    let blob: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    let digest = Digest::of(&blob);
    let mut assembler = Assembler::new(digest, blob.len() as u64, 1 << 22).unwrap();
    let give = async |far: Arc<dyn Connection>| {
        let mut stream = far.accept().await.unwrap();
        let request = blobs::requested(&mut stream).await.unwrap();
        blobs::send(&mut stream, &blob, request.offset, |_| ())
            .await
            .map(|()| request.offset)
    };
    let (address, passing) = line(listener.address()).await;
    let (near, far) = pair(&listener, &dialer_to(address, &bundle)).await;
    let cut = |_: &[u8]| {
        if !passing.is_finished() {
            passing.abort();
        }
    };
    let fetched = blobs::fetch(near.as_ref(), digest, &mut assembler, cut);
    let (fetched, given) = tokio::join!(fetched, give(Arc::clone(&far)));
    // No end, but a connection that is lost: nobody has said anything wrong.
    assert!(
        matches!(fetched, Err(TransportError::Lost(_))),
        "{fetched:?}"
    );
    assert!(given.is_err() && far.close_reason().is_some());
    let held = assembler.offset();
    assert!(held > 0 && held < blob.len() as u64, "{held}");

    let (address, _passing) = line(listener.address()).await;
    let (near, far) = pair(&listener, &dialer_to(address, &bundle)).await;
    let fetched = blobs::fetch(near.as_ref(), digest, &mut assembler, |_| ());
    let (fetched, given) = tokio::join!(fetched, give(Arc::clone(&far)));
    fetched.unwrap();
    assert_eq!(given.unwrap(), held);
    assert_eq!(assembler.finish().unwrap(), blob);
}

/// A real way over QUIC to where datagrams go nowhere, and one over TCP.
fn fallback(udp: &std::net::UdpSocket, tcp: SocketAddr, bundle: &str) -> FallbackDialer {
    let address = udp.local_addr().unwrap().to_string();
    let quic = QuicDialer::new(address, None, &identity(bundle)).unwrap();
    FallbackDialer::new(quic, dialer_to(tcp, bundle))
}

#[tokio::test]
async fn udp_that_is_swallowed_leads_to_tcp_and_there_who_is_refused_is_told_so() {
    let ours = authority();
    let listener = listener(&ours, Limits::default());
    let swallowing = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = fallback(&swallowing, listener.address(), &client(&ours));
    let stranger = authority();
    let forged = forged(&ours, &stranger);
    let bad = fallback(&swallowing, listener.address(), &forged);
    let served = async {
        let far = listener.accept().await.unwrap();
        far.close(CloseCode::Outdated, "of an epoch that is over");
    };
    let (near, refused, ()) = tokio::join!(good.dial(), refusal(&bad), served);
    let closed = near.unwrap().closed().await;
    assert!(
        matches!(&closed, TransportError::Closed { code: CloseCode::Outdated, why } if why.contains("epoch")),
        "{closed:?}"
    );
    assert!(
        refused.contains("the other side refuses") && refused.contains("another root"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_is_refused_over_quic_does_not_dial_over_tcp() {
    let ours = authority();
    let bundle = ours.coordinator(&["127.0.0.1".into()], Validity::days(1));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let quic = QuicListener::bind(any, &identity(&bundle.unwrap()), Limits::default()).unwrap();
    let door = tokio::net::TcpListener::bind(any).await.unwrap();
    let dial = async |bundle: &str| {
        let address = quic.address().unwrap().to_string();
        let quic = QuicDialer::new(address, None, &identity(bundle)).unwrap();
        let tcp = dialer_to(door.local_addr().unwrap(), bundle);
        refusal(&FallbackDialer::new(quic, tcp)).await
    };
    let stranger = authority();
    for (bundle, part) in [
        (client(&stranger), "this side refuses"),
        (forged(&ours, &stranger), "the other side refuses"),
        (
            ours.client(&name("ward-7"), Validity::over()).unwrap(),
            "has expired",
        ),
    ] {
        let why = dial(&bundle).await;
        assert!(why.contains(part), "{why}");
    }
    let knocked = tokio::time::timeout(Duration::from_millis(200), door.accept()).await;
    assert!(knocked.is_err());
}

#[tokio::test]
async fn an_occupied_port_is_said_and_one_where_nobody_listens() {
    let authority = authority();
    let occupied = listener(&authority, Limits::default());
    let bundle = authority
        .coordinator(&["localhost".into()], Validity::days(1))
        .unwrap();
    let address = occupied.address();
    let error = TcpListener::bind(address, &identity(&bundle), Limits::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("another address"),
        "{text}"
    );
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let error = dialer_to(address, &client(&authority))
        .dial()
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("cannot connect") && text.contains(&address.to_string()),
        "{text}"
    );
}
