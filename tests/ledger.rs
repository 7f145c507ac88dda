//! The ledger of bytes: what it says is held against what must have crossed, in memory, over QUIC, and
//! from both ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedistill_client::{Client, Event, Policy};
use fedistill_coordinator::status::{self, Bookkeeper};
use fedistill_coordinator::{
    Coordinator, Ended, Entry, FileStore, MemoryStore, Observer, Settings,
};
use fedistill_federation::{Quorum, method};
use fedistill_learning::{Architecture, Dataset, Learner, Samples};
use fedistill_protocol::blob::{Assembler, CHUNK_BYTES, CHUNK_HEADER_BYTES, REQUEST_BYTES};
use fedistill_protocol::{
    AnswerKind, Answers, Contribution, Digest, Elements, Hello, Kind, Message, Name, Precision,
    RoundId, RoundPlan, Update, frame,
};
use fedistill_simulator::config::Config;
use fedistill_simulator::{
    Outcome, Partition, Progress, RoundRow, Summary, TeacherSource, Transport, experiment, output,
};
use fedistill_tests::{clinic, small_data};
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::memory::{self, Door};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use fedistill_transport::{Connection, Dial, Flow, Frames, Peer, Traffic, blobs};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const CLIENTS: usize = 3;
const ROWS: u64 = 200;
const CLASSES: u64 = 10;

async fn run(folder: &Path, method: &str, transport: Transport) -> (Outcome, Summary) {
    let data = folder.join("data");
    small_data(&data, 1000, 200);
    let config = Config {
        data: data.to_string_lossy().into_owned(),
        method: method.to_owned(),
        clients: CLIENTS,
        rounds: 4,
        partition: Partition::Dirichlet(0.5),
        teacher: TeacherSource::Train(50),
        samples: ROWS as u32,
        baselines: false,
        transport,
        out: folder.join(method),
        ..Config::default()
    };
    let done = experiment::run(&config, None, |_, _| Progress::silent())
        .await
        .unwrap();
    output::prepare(&config.out).unwrap();
    output::write(&done, &config.out).unwrap();
    let page = std::fs::read_to_string(config.out.join("report.html")).unwrap();
    let quic = page.contains("<td>QUIC, with TLS and acknowledgements</td>");
    assert_eq!(quic, transport == Transport::Quic);
    assert!(page.contains("<td>answers, whole and uncoded (4 bytes a value)</td>"));
    (done.federated.clone(), Summary::from(&done))
}

/// What an announced contribution takes beside its answers: the frame, and the headers of its chunks.
fn announced(row: &RoundRow, packed: u64, update: bool) -> u64 {
    let blob = Digest::of(b"any");
    let contribution = Contribution {
        id: RoundId {
            round: row.round,
            attempt: 0,
        },
        blob,
        bytes: packed,
        update: update.then_some(Update {
            base: blob,
            blob,
            bytes: packed,
        }),
    };
    let frame = frame::encode(&Message::Contribution(contribution)).unwrap();
    frame.len() as u64 + packed.div_ceil(CHUNK_BYTES as u64) * CHUNK_HEADER_BYTES as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_add_up_to_what_crosses_and_the_network_carries_more() {
    let folder = tempfile::tempdir().unwrap();
    for method in ["logit-mean", "cfd", "fd", "fedproto"] {
        let (in_memory, summary) = run(folder.path(), method, Transport::Memory).await;
        let (over_quic, of_quic) = run(folder.path(), method, Transport::Quic).await;
        // The same bytes, but for what the network adds.
        assert_eq!(in_memory.rounds, over_quic.rounds, "{method}");
        for row in &over_quic.rounds {
            let (up, down) = (&row.ledger.up, &row.ledger.down);
            for client in 0..CLIENTS {
                let sum = up.packed[client] + up.transfer_set[client] + up.framing[client];
                assert_eq!(sum, row.up[client]);
                let sum = down.packed[client] + down.transfer_set[client] + down.framing[client];
                assert_eq!(sum, row.down[client]);
                assert_eq!(up.transfer_set[client], 0);
                // Who speaks of classes alone needs none of its samples.
                let needed = !["fd", "fedproto"].contains(&method) && row.round == 0;
                let once = if needed { over_quic.transfer_bytes } else { 0 };
                assert_eq!(down.transfer_set[client], once);
                assert_eq!(
                    row.ledger.fedavg[client],
                    8 * over_quic.parameters[client] as u64
                );
                assert!(up.framing[client] < 1_000, "{method}: {row:?}");
            }
        }
        for (all, closed) in [(&in_memory, false), (&over_quic, true)] {
            let ledgers = all.rounds.iter().map(|row| &row.ledger);
            for (way, of) in ledgers.flat_map(|l| [(&l.up, &l.fedavg), (&l.down, &l.fedavg)]) {
                assert_eq!(way.quic.as_ref().map(Vec::len), closed.then_some(CLIENTS));
                assert_eq!(of.len(), CLIENTS);
            }
        }
        for client in 0..CLIENTS {
            let sum = |of: fn(&RoundRow) -> &Vec<u64>| -> u64 {
                over_quic.rounds.iter().map(|row| of(row)[client]).sum()
            };
            let (up, down) = (
                sum(|row| row.ledger.up.quic.as_ref().unwrap()),
                sum(|row| row.ledger.down.quic.as_ref().unwrap()),
            );
            assert!(up > sum(|row| &row.up), "{method}: {up} bytes up");
            assert!(down > sum(|row| &row.down), "{method}: {down} bytes down");
        }
        // All rounds, and what connections cost after the last.
        let quic = over_quic.rounds.iter().flat_map(|row| {
            let ways = [&row.ledger.up, &row.ledger.down].map(|way| way.total().quic.unwrap());
            ways.into_iter()
        });
        assert!(quic.sum::<u64>() <= over_quic.network.unwrap());
        for (flow, streams) in [
            (&of_quic.ledger.up, of_quic.bytes.up_per_client_round),
            (&of_quic.ledger.down, of_quic.bytes.down_per_client_round),
        ] {
            let sum = flow.packed + flow.transfer_set + flow.framing;
            assert!((sum - streams).abs() < 1e-6, "{flow:?} {streams}");
            assert!(flow.quic.unwrap() > streams);
        }
        assert_eq!(summary.ledger.up.quic, None);
        let fedavg = 2.0 * summary.bytes.fedavg_per_client_round;
        assert_eq!(summary.ledger.fedavg, fedavg);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_is_the_whole_lesson_and_packed_is_what_crossed() {
    let folder = tempfile::tempdir().unwrap();
    let whole = 4 * ROWS * CLASSES;
    let (done, _) = run(folder.path(), "logit-mean", Transport::Memory).await;
    let request = REQUEST_BYTES as u64;
    for row in &done.rounds {
        let (up, down) = (&row.ledger.up, &row.ledger.down);
        for client in 0..CLIENTS {
            let closing = row.round == 4;
            // Each asks for what comes down; the transfer set, and Hello, are in the first round.
            if row.round > 0 && !closing {
                let packed = up.packed[client];
                assert_eq!(up.framing[client], announced(row, packed, false) + request);
            }
            if closing {
                assert_eq!((up.raw[client], up.packed[client]), (0, 0));
            } else {
                // Half of f32 and a header at the most; f16 is coded, and takes a third less at the best.
                assert_eq!(up.raw[client], whole);
                let packed = up.packed[client];
                assert!((whole / 3..whole / 2 + 100).contains(&packed), "{packed}");
            }
            assert_eq!(down.raw[client], whole, "a lesson comes with each plan");
            assert!(down.packed[client] < whole / 2 + 100);
        }
    }
    // One bit a value, and only what has changed.
    let (done, _) = run(folder.path(), "cfd", Transport::Memory).await;
    for row in &done.rounds[..4] {
        for client in 0..CLIENTS {
            let (up, down) = (&row.ledger.up, &row.ledger.down);
            assert_eq!(up.raw[client], whole);
            assert!(up.packed[client] < whole / 30, "{row:?}");
            assert!(row.round == 0 || down.raw[client] == whole, "{row:?}");
            assert!(row.round == 0 || down.packed[client] > 0);
        }
    }
    // Of the classes alone.
    let (done, _) = run(folder.path(), "fd", Transport::Memory).await;
    assert_eq!(
        done.rounds[1].ledger.up.raw,
        [4 * CLASSES * CLASSES; CLIENTS]
    );
}

/// Without a word: ours in 8 bits a value, with a range for each block of them, those of papers in 16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_takes_a_quarter_of_what_values_take_and_others_more() {
    let folder = tempfile::tempdir().unwrap();
    let whole = 4 * ROWS * CLASSES;
    for (method, share) in [("adaptive", 4), ("ds-fl", 2)] {
        let (done, _) = run(folder.path(), method, Transport::Memory).await;
        // The closing plan asks for no answers.
        for row in &done.rounds[..4] {
            for packed in &row.ledger.up.packed {
                let most = whole / share + whole / 50;
                assert!((whole / 8..most).contains(packed), "{method}: {packed}");
                assert!(share == 4 || *packed > whole / 4 + whole / 50, "{packed}");
            }
        }
    }
}

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<BTreeMap<Name, Traffic>>>);

impl Observer for Watch {
    fn crossed(&mut self, _: RoundId, traffic: &dyn Fn() -> BTreeMap<Name, Traffic>) {
        *self.0.lock().unwrap() = traffic();
    }
}

fn samples(count: usize) -> Samples {
    let values = (0..count * 4).map(|i| (i * 67 % 256) as u8).collect();
    Samples::new(vec![4], Elements::U8(values)).unwrap()
}

/// A coordinator and a client over QUIC; what each of them says has crossed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_keep_the_same_books() {
    let classes = ["well", "ill"].map(str::to_owned).to_vec();
    let authority = Authority::create("clinic".parse().unwrap()).unwrap();
    let valid = Validity::days(1);
    let identity =
        |bundle: String| Identity::parse(Path::new("bundle.pem"), bundle.as_bytes()).unwrap();
    let host = ["127.0.0.1".to_owned()];
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let own = identity(authority.coordinator(&host, valid).unwrap());
    let ward: Name = "ward-1".parse().unwrap();
    let theirs = identity(authority.client(&ward, valid).unwrap());
    for method in ["logit-mean", "cfd", "fd"] {
        let settings = Settings {
            method: method::by_name(method).unwrap().into(),
            rounds: 3,
            precision: Precision::F16,
            ..clinic::settings("clinic".parse().unwrap(), classes.clone(), 400)
        };
        let watch = Watch::default();
        let transfer = samples(1000).publish().unwrap();
        let set = transfer.pack().len() as u64;
        let store = Box::<MemoryStore>::default();
        let coordinator = Coordinator::new(settings, transfer, None, store)
            .unwrap()
            .observed_by(watch.clone());
        let listener = QuicListener::bind(any, &own, Limits::default()).unwrap();
        let address = listener.address().unwrap().to_string();
        let net = Architecture::MlpS.build(&[4], 2, 1).unwrap();
        let labels = (0..20).map(|index| index % 2).collect();
        let private = Dataset::new(Path::new("own"), samples(20), labels, classes.clone());
        let heard = Arc::new(Mutex::new(Traffic::default()));
        let client = Client::new(
            "clinic".parse().unwrap(),
            ward.clone(),
            Learner::new(net),
            private.unwrap(),
            Policy::default(),
            QuicDialer::new(address, None, &theirs).unwrap(),
        );
        let client = client.unwrap().telling({
            let heard = Arc::clone(&heard);
            move |event| {
                if let Event::Counted { traffic, .. } = event {
                    *heard.lock().unwrap() = traffic;
                }
            }
        });
        let run = coordinator.run(Arc::new(listener), CancellationToken::new());
        let (ended, left) = tokio::join!(run, client.run());
        ended.unwrap();
        left.unwrap();
        let (client, coordinator) = (*heard.lock().unwrap(), watch.0.lock().unwrap()[&ward]);
        let streams = |flow: Flow| (flow.raw, flow.packed, flow.transfer_set, flow.framing);
        assert_eq!(streams(client.up), streams(coordinator.up), "{method}");
        assert!(client.up.packed > 0 && client.up.raw > 0);
        // The last receipt may still have been under way.
        let late = client.down.framing - coordinator.down.framing;
        assert!(late <= Kind::Receipt.limit() as u64, "{late}");
        let down = |flow: Flow| (flow.raw, flow.packed, flow.transfer_set);
        assert_eq!(down(client.down), down(coordinator.down), "{method}");
        // Who speaks of classes alone needs none of its samples.
        let needed = if method == "fd" { 0 } else { set };
        assert_eq!(client.down.transfer_set, needed);
        for flow in [client.up, client.down, coordinator.up, coordinator.down] {
            assert!(
                flow.quic.unwrap() > flow.application(),
                "{method}: {flow:?}"
            );
        }
    }
}

/// A client whose every word is in the test's hand.
struct Puppet {
    connection: Arc<dyn Connection>,
    frames: Frames,
}

impl Puppet {
    async fn connect(door: &Door, own: &Name) -> Self {
        let federation: Name = "clinic".parse().unwrap();
        let peer = Peer::Client {
            federation: federation.clone(),
            name: own.clone(),
        };
        let connection = door.dialer(peer).dial().await.unwrap();
        let mut frames = Frames::new(connection.open().await.unwrap(), connection.version());
        let hello = Hello {
            federation,
            software: "puppet".to_owned(),
            classes: clinic::classes(),
            transfer: None,
            epoch: 0,
            parameters: 0,
        };
        frames.writer.send(&hello.into()).await.unwrap();
        Self { connection, frames }
    }

    /// The next plan that comes.
    async fn plan(&mut self) -> RoundPlan {
        loop {
            if let Message::Plan(plan) = self.frames.reader.next().await.unwrap().unwrap() {
                return plan;
            }
        }
    }

    async fn fetch(&self, blob: Digest, bytes: u64) {
        let mut assembler = Assembler::new(blob, bytes, bytes).unwrap();
        blobs::fetch(self.connection.as_ref(), blob, &mut assembler, |_| ())
            .await
            .unwrap();
        assembler.finish().unwrap();
    }

    /// Answers about ten samples, until it has a receipt.
    async fn contribute(&mut self, id: RoundId) {
        let answers = Answers::new(AnswerKind::Logits, 2, [0.5, 0.0].repeat(10)).unwrap();
        let bytes = answers.pack(Precision::F32);
        let contribution = Contribution {
            id,
            blob: Digest::of(&bytes),
            bytes: bytes.len() as u64,
            update: None,
        };
        self.frames.writer.send(&contribution.into()).await.unwrap();
        let mut stream = self.connection.accept().await.unwrap();
        let request = blobs::requested(&mut stream).await.unwrap();
        blobs::send(&mut stream, &bytes, request.offset, |_| ())
            .await
            .unwrap();
        while !matches!(
            self.frames.reader.next().await.unwrap().unwrap(),
            Message::Receipt(_)
        ) {}
    }
}

/// A coordinator of federation `clinic` with a folder of its own.
struct Kept {
    door: Door,
    stop: CancellationToken,
    run: JoinHandle<Ended>,
}

impl Kept {
    fn start(folder: &Path, settings: Settings) -> Self {
        let store = FileStore::open_at(&folder.join("rounds.redb")).unwrap();
        let book = Bookkeeper::new(folder, &settings.federation, settings.rounds, None);
        let transfer = clinic::transfer();
        let coordinator = Coordinator::new(settings, transfer, None, Box::new(store));
        let coordinator = coordinator.unwrap().observed_by(book);
        let (listener, door) = memory::listen();
        let stop = CancellationToken::new();
        let until = stop.clone();
        let run = async move { coordinator.run(Arc::new(listener), until).await.unwrap() };
        let run = tokio::spawn(run);
        Self { door, stop, run }
    }

    /// Stops it; who is there hangs up.
    async fn stop(self, puppets: impl IntoIterator<Item = Puppet>) {
        self.stop.cancel();
        drop(puppets.into_iter().collect::<Vec<_>>());
        assert_eq!(self.run.await.unwrap(), Ended::Stopped);
    }
}

fn entry(folder: &Path, of: &Name) -> Entry {
    *status::read(folder)
        .unwrap()
        .ledger
        .of(of.as_str())
        .unwrap()
}

#[tokio::test]
async fn what_crossed_of_an_open_round_outlives_a_stop_and_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || clinic::settings(clinic::name("clinic"), clinic::classes(), 10);
    let ward = clinic::name("ward-1");
    let set = clinic::transfer().pack();
    let bytes = set.len() as u64;

    // It has the transfer set, and the coordinator is told to stop before it has answered.
    let first = Kept::start(folder.path(), settings());
    let mut puppet = Puppet::connect(&first.door, &ward).await;
    let plan = puppet.plan().await;
    puppet.fetch(Digest::of(&set), bytes).await;
    first.stop([puppet]).await;
    let stopped = entry(folder.path(), &ward);
    assert_eq!(stopped.total.down.transfer_set, bytes);
    assert!(stopped.total.up.framing > 0);
    assert_eq!(stopped.last_round, Traffic::default(), "none is over");

    // Nor does one that has nothing to tell take anything from it.
    Kept::start(folder.path(), settings()).stop([]).await;
    assert_eq!(entry(folder.path(), &ward), stopped);

    let second = Kept::start(folder.path(), settings());
    let mut puppet = Puppet::connect(&second.door, &ward).await;
    assert_eq!(puppet.plan().await.id, plan.id);
    puppet.contribute(plan.id).await;
    let closing = puppet.plan().await;
    assert_eq!(closing.id.round, 1);
    let over = entry(folder.path(), &ward);
    assert_eq!(over.last_round.down.transfer_set, bytes);
    assert_eq!(over.total, over.last_round);
    assert!(over.total.up.packed > 0 && over.total.up.framing > stopped.total.up.framing);
    second.stop([puppet]).await;
    let stopped = entry(folder.path(), &ward);
    assert_eq!(stopped.last_round, over.last_round);
    assert_eq!(stopped.total.down.transfer_set, bytes);
}

#[tokio::test]
async fn a_lesson_counts_uncoded_though_its_answer_is_not_needed() {
    const MINUTE: Duration = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        rounds: 2,
        asked: 2,
        open_with: 2,
        quorum: Quorum::new(1, 2, Duration::ZERO, MINUTE).unwrap(),
        ..clinic::settings(clinic::name("clinic"), clinic::classes(), 10)
    };
    let names = ["ward-1", "ward-2"].map(clinic::name);
    let kept = Kept::start(folder.path(), settings);
    let mut fast = Puppet::connect(&kept.door, &names[0]).await;
    let mut slow = Puppet::connect(&kept.door, &names[1]).await;
    // The first round teaches nothing yet.
    slow.plan().await;
    let first = fast.plan().await;
    fast.contribute(first.id).await;
    slow.plan().await;
    let second = fast.plan().await;
    let [lesson] = &second.knowledge[..] else {
        panic!("{second:?}");
    };
    for puppet in [&fast, &slow] {
        puppet.fetch(lesson.blob, lesson.bytes).await;
    }
    fast.contribute(second.id).await;
    fast.plan().await;
    let [fast_entry, slow_entry] = names.map(|name| entry(folder.path(), &name).last_round);
    let whole = lesson.raw_bytes(2);
    assert_eq!(whole, 4 * 10 * 2);
    for round in [fast_entry, slow_entry] {
        assert_eq!((round.down.packed, round.down.raw), (lesson.bytes, whole));
    }
    assert_eq!((slow_entry.up.packed, slow_entry.up.raw), (0, 0));
    kept.stop([fast, slow]).await;
}
