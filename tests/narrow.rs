//! Narrow lines: what is under way goes on while rounds come and go, and nothing is sent to nobody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{
    Digest, Elements, Loss, LossTerm, Message, RoundId, RoundPlan, Rows, Toward, TransferSet,
};
use fedistill_tests::{Device, Handmade, Relay, Weather, Wire, clinic};
use fedistill_transport::quic::{Limits, Manner, QuicDialer, QuicListener};
use fedistill_transport::tcp::{TcpDialer, TcpListener};
use fedistill_transport::{Connection, Dial, Frames, Listen, blobs};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

/// Bytes a second that a line lets through.
const RATE: f64 = 200_000.0;

/// A coordinator's door, and a line to it.
struct Line {
    listener: QuicListener,
    relay: Relay,
    device: Device,
    handmade: Handmade,
}

/// What a client and its coordinator talk over.
#[derive(Clone, Copy)]
enum Over {
    Quic,
    Tcp,
}

impl Line {
    /// Its relay has a runtime of its own, which must not be made within another one.
    fn narrow(runtime: &Runtime) -> Self {
        let handmade = Handmade::new(2, 1);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let host = handmade.host();
        let within = runtime.enter();
        let listener = QuicListener::bind(any, &host, Limits::default()).unwrap();
        drop(within);
        let weather = Weather {
            delay: Duration::from_millis(5),
            rate: Some(RATE),
            ..Weather::default()
        };
        let relay = Relay::new(&listener.address().unwrap().to_string(), weather, 1);
        Self {
            listener,
            relay,
            device: handmade.enrol(1),
            handmade,
        }
    }

    /// A second door, and a line to it that is as narrow.
    fn over_tcp(&self, runtime: &Runtime) -> (TcpListener, Wire) {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let within = runtime.enter();
        let host = self.handmade.host();
        let door = TcpListener::bind(any, &host, Limits::default()).unwrap();
        drop(within);
        let wire = Wire::narrow(&door.address().to_string(), RATE);
        (door, wire)
    }

    fn dialer(&self) -> QuicDialer {
        let address = self.relay.address().to_owned();
        QuicDialer::new(address, None, &self.device.identity).unwrap()
    }
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Three seconds of the line, and more than a stream's window.
fn set() -> TransferSet {
    let values = (0..600_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8);
    TransferSet::new(vec![4], Elements::U8(values.collect())).unwrap()
}

fn plan(round: u32, set: &[u8], classes: u32) -> RoundPlan {
    let loss = Loss::CrossEntropy { smoothing: 0.0 };
    let mut report = clinic::report(Rows::List(vec![0]));
    report.width = classes;
    RoundPlan {
        id: RoundId { round, attempt: 0 },
        report: Some(report),
        ..clinic::plan(Digest::of(set), LossTerm::new(loss, Toward::Labels))
    }
}

/// Gives the transfer set to whoever asks, one request after the other, as a coordinator does.
async fn offer(connection: Arc<dyn Connection>, set: Arc<[u8]>) {
    while let Ok(mut stream) = connection.accept().await {
        let give = async {
            let request = blobs::requested(&mut stream).await?;
            blobs::send(&mut stream, &set, request.offset, |_| ()).await
        };
        // Who asked may want it no more.
        let _ = give.await;
    }
}

#[test]
fn a_transfer_outlives_the_rounds_that_come_and_go_meanwhile() {
    outlives(Over::Quic);
}

#[test]
fn so_it_does_over_tcp() {
    outlives(Over::Tcp);
}

fn outlives(over: Over) {
    /// Too short a time for a chunk.
    const ROUND: Duration = Duration::from_millis(250);
    /// A third of this apart are the signs of life of who is at work.
    const SILENCE: Duration = Duration::from_millis(300);
    let runtime = runtime();
    let line = Line::narrow(&runtime);
    let tcp = matches!(over, Over::Tcp).then(|| line.over_tcp(&runtime));
    let (listener, dialer): (&dyn Listen, Box<dyn Dial>) = match &tcp {
        None => (&line.listener, Box::new(line.dialer())),
        Some((door, wire)) => {
            let (address, own) = (wire.address().to_owned(), &line.device.identity);
            let dialer = TcpDialer::new(address, None, own, Manner::default());
            (door, Box::new(dialer.unwrap()))
        }
    };
    let set = set();
    let packed: Arc<[u8]> = set.pack().into();
    let coordinator = async {
        let connection = listener.accept().await.unwrap();
        let stream = connection.accept().await.unwrap();
        let Frames {
            mut writer,
            mut reader,
        } = Frames::new(stream, connection.version());
        assert!(matches!(
            reader.next().await.unwrap(),
            Some(Message::Hello(_))
        ));
        let mut welcome = clinic::welcome(&set);
        welcome.federation = line.handmade.name();
        welcome.transfer.classes = line.handmade.classes();
        welcome.heartbeat_ms = SILENCE.as_millis() as u32;
        writer.send(&welcome.into()).await.unwrap();
        tokio::spawn(offer(Arc::clone(&connection), Arc::clone(&packed)));
        let rounds = async {
            for round in 0.. {
                let plan = plan(round, &packed, 2);
                writer.send(&plan.into()).await.unwrap();
                sleep(ROUND).await;
            }
        };
        let answered = async {
            let mut beats = 0;
            loop {
                match reader.next().await.unwrap() {
                    // Its training takes no time: while it fetched, it was not silent either.
                    Some(Message::Contribution(_)) => return assert!(beats > 5, "{beats}"),
                    Some(Message::Heartbeat(_)) => beats += 1,
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            () = answered => {}
        }
    };
    let student = line.handmade.student(1);
    let client = line.handmade.client(&line.device, student, dialer).run();
    let life = async {
        tokio::select! {
            ended = client => panic!("{ended:?}"),
            () = coordinator => {}
        }
    };
    runtime
        .block_on(async { timeout(Duration::from_secs(15), life).await })
        .unwrap();
}

#[test]
fn what_nobody_wants_any_more_does_not_hold_up_the_line() {
    let runtime = runtime();
    let line = Line::narrow(&runtime);
    runtime.block_on(wanted_no_more(&line));
}

async fn wanted_no_more(line: &Line) {
    let dialer = line.dialer();
    let (near, far) = tokio::join!(dialer.dial(), line.listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap());
    // All of it fits the window: it is written, and the stream ended, long before it has come.
    let blob: Arc<[u8]> = set().pack()[..500_000].into();
    let (digest, bytes) = (Digest::of(&blob), blob.len() as u64);
    tokio::spawn(offer(Arc::clone(&far), Arc::clone(&blob)));
    let mut assembler = Assembler::new(digest, bytes, bytes).unwrap();
    let fetch = blobs::fetch(near.as_ref(), digest, &mut assembler, |_| ());
    let cut = timeout(Duration::from_millis(700), fetch).await;
    assert!(cut.is_err(), "{cut:?}");
    let sent = || far.network_bytes().unwrap().sent;
    // What is on its way, and the word that it is not wanted.
    sleep(Duration::from_millis(400)).await;
    let before = sent();
    sleep(Duration::from_millis(500)).await;
    let more = sent() - before;
    assert!(more < 20_000, "{more} bytes for nobody");
    // What has come need not come again.
    let offset = assembler.offset();
    assert!(offset > 0, "nothing came");
    let fetch = blobs::fetch(near.as_ref(), digest, &mut assembler, |_| ());
    timeout(Duration::from_secs(10), fetch)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(assembler.finish().unwrap(), &*blob);
}
