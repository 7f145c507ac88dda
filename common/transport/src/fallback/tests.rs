use std::collections::VecDeque;

use super::*;
use crate::memory::{self, MemoryListener};
use crate::{CloseCode, Peer};

#[test]
fn a_fallback_is_written_as_it_is_read() {
    for (text, expected, address) in [
        ("none", Fallback::None, None),
        ("tcp", Fallback::Port(443), Some("host.example:443")),
        ("tcp:8443", Fallback::Port(8443), Some("host.example:8443")),
        (
            "tcp:[::1]:7",
            Fallback::Address("[::1]:7".to_owned()),
            Some("[::1]:7"),
        ),
    ] {
        let fallback: Fallback = text.parse().unwrap();
        assert_eq!(fallback, expected);
        let again: Fallback = fallback.to_string().parse().unwrap();
        assert_eq!(again, expected);
        assert_eq!(fallback.address("host.example:4433").as_deref(), address);
    }
    let six = Fallback::Port(443).address("[::1]:4433");
    assert_eq!(six.as_deref(), Some("[::1]:443"));
    for wrong in [
        "",
        "udp",
        "tcp:",
        "tcp:0",
        "tcp:65536",
        "tcp:host",
        "tcp::7",
        "TCP",
    ] {
        let why = wrong.parse::<Fallback>().unwrap_err();
        assert!(why.contains("write none, tcp, tcp:PORT"), "{why}");
    }
}

/// Answers as it is told to, and counts how often it was dialled.
#[derive(Clone, Debug)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug)]
struct Script {
    dialled: u32,
    /// What comes of the next ones: why it fails, or a connection.
    next: VecDeque<Option<TransportError>>,
    _listener: MemoryListener,
    way: memory::MemoryDialer,
}

impl Scripted {
    fn new() -> Self {
        let (listener, door) = memory::listen();
        let way = door.dialer(Peer::Coordinator);
        Self(Arc::new(Mutex::new(Script {
            dialled: 0,
            next: VecDeque::new(),
            _listener: listener,
            way,
        })))
    }

    fn then(&self, next: impl IntoIterator<Item = Option<TransportError>>) {
        self.0.lock().unwrap().next.extend(next);
    }

    fn dialled(&self) -> u32 {
        std::mem::take(&mut self.0.lock().unwrap().dialled)
    }
}

impl Dial for Scripted {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Connection>, TransportError>> {
        let mut script = self.0.lock().unwrap();
        script.dialled += 1;
        let next = script.next.pop_front().unwrap();
        // It has room for it, so this does not wait.
        let connection = match next {
            Some(error) => Err(error),
            None => {
                let mut dialled = script.way.dial();
                let waker = std::task::Waker::noop();
                let mut context = std::task::Context::from_waker(waker);
                match dialled.as_mut().poll(&mut context) {
                    std::task::Poll::Ready(connection) => connection,
                    std::task::Poll::Pending => unreachable!("the door has room"),
                }
            }
        };
        Box::pin(std::future::ready(connection))
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn silence() -> TransportError {
    TransportError::NoAnswer {
        address: "localhost:1".to_owned(),
        resolved: "127.0.0.1:1".parse().unwrap(),
        over: "UDP",
        seconds: 10,
    }
}

fn refusal() -> TransportError {
    TransportError::Refused("of another root".to_owned())
}

struct Ways {
    quic: Scripted,
    tcp: Scripted,
    dialer: FallbackDialer,
}

impl Ways {
    fn new() -> Self {
        let (quic, tcp) = (Scripted::new(), Scripted::new());
        let dialer = FallbackDialer::new(quic.clone(), tcp.clone());
        Self { quic, tcp, dialer }
    }

    /// Dials; how often each way was then dialled, and what came of it.
    async fn dial(&self) -> (u32, u32, Result<(), String>) {
        let done = self.dialer.dial().await;
        let done = done.map(|_| ()).map_err(|error| error.to_string());
        (self.quic.dialled(), self.tcp.dialled(), done)
    }
}

#[tokio::test(start_paused = true)]
async fn quic_is_first_and_silence_leads_to_tcp_for_a_while() {
    let ways = Ways::new();
    ways.quic.then([None, Some(silence())]);
    ways.tcp.then([None, None, None]);
    assert_eq!(ways.dial().await, (1, 0, Ok(())));
    assert_eq!(ways.dial().await, (1, 1, Ok(())));
    // It is not waited for again what is blocked.
    assert_eq!(ways.dial().await, (0, 1, Ok(())));
    tokio::time::advance(TCP_FIRST - Duration::from_secs(1)).await;
    assert_eq!(ways.dial().await, (0, 1, Ok(())));
    // But once in a while.
    tokio::time::advance(Duration::from_secs(1)).await;
    ways.quic.then([Some(silence())]);
    ways.tcp.then([None, None]);
    assert_eq!(ways.dial().await, (1, 1, Ok(())));
    assert_eq!(ways.dial().await, (0, 1, Ok(())));
    tokio::time::advance(TCP_FIRST).await;
    ways.quic.then([None, None]);
    assert_eq!(ways.dial().await, (1, 0, Ok(())));
    assert_eq!(ways.dial().await, (1, 0, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn where_tcp_breaks_too_quic_is_tried_at_once() {
    let ways = Ways::new();
    let lost = || TransportError::Lost("connection refused".to_owned());
    ways.quic
        .then([Some(silence()), Some(silence()), None, None]);
    ways.tcp.then([None, Some(lost()), Some(lost())]);
    assert_eq!(ways.dial().await, (1, 1, Ok(())));
    let (quic, tcp, done) = ways.dial().await;
    let why = done.unwrap_err();
    assert_eq!((quic, tcp), (1, 1));
    assert!(
        why.contains("UDP gets through") && why.contains("connection refused"),
        "{why}"
    );
    assert_eq!(ways.dial().await, (1, 1, Ok(())));
    // What works is first.
    assert_eq!(ways.dial().await, (1, 0, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_does_not_try_another_way() {
    let ways = Ways::new();
    let closed = TransportError::Closed {
        code: CloseCode::NotWelcome,
        why: "not you".to_owned(),
    };
    for error in [refusal(), closed, TransportError::Lost("reset".to_owned())] {
        let text = error.to_string();
        ways.quic.then([Some(error)]);
        assert_eq!(ways.dial().await, (1, 0, Err(text)));
    }
    ways.quic.then([Some(silence()), Some(silence())]);
    ways.tcp.then([Some(refusal()), None, Some(refusal())]);
    assert_eq!(ways.dial().await, (1, 1, Err(refusal().to_string())));
    assert_eq!(ways.dial().await, (1, 1, Ok(())));
    assert_eq!(ways.dial().await, (0, 1, Err(refusal().to_string())));
}

#[tokio::test]
async fn both_doors_let_in_and_are_shut() {
    let (first, one) = memory::listen();
    let (second, other) = memory::listen();
    let doors = Doors::new(first, second);
    for door in [&one, &other, &one] {
        let dialer = door.dialer(Peer::Coordinator);
        let (near, far) = tokio::join!(dialer.dial(), doors.accept());
        assert!(near.is_ok() && far.is_some());
    }
    doors.shut().await;
    assert!(doors.accept().await.is_none());
    for door in [one, other] {
        assert!(door.dialer(Peer::Coordinator).dial().await.is_err());
    }
}
