//! Coordinators and clients of which one side was updated and the other was not, and coordinators of
//! which a later one has run, over real QUIC and over TCP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fedistill_check::{Records, verify};
use fedistill_client::journal::Journal;
use fedistill_client::{Client, Ended, Event, Policy};
use fedistill_coordinator::{Closed, Coordinator, CoordinatorError, FileStore, Settings, Store};
use fedistill_federation::method;
use fedistill_learning::{Architecture, Learner};
use fedistill_protocol::Version;
use fedistill_tests::Deployment;
use fedistill_tests::clinic::{self, classes, labelled, name, samples};
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::quic::{Limits, Manner, QuicDialer, QuicListener};
use fedistill_transport::tcp::{TcpDialer, TcpListener};
use fedistill_transport::{Dial, Listen};
use flate2::read::GzDecoder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn coordinator(store: FileStore) -> Coordinator {
    let settings = Settings {
        method: method::by_name("cfd").unwrap().into(),
        rounds: 2,
        patience: Some(Duration::from_secs(30)),
        ..clinic::settings(name("clinic"), classes(), 6)
    };
    let transfer = samples(10).publish().unwrap();
    Coordinator::new(settings, transfer, None, Box::new(store)).unwrap()
}

/// What carries them.
#[derive(Clone, Copy, Debug)]
enum Over {
    Quic,
    Tcp,
}

/// A coordinator's door, and where it is.
type Door = (Arc<dyn Listen>, String);

/// Certificates for both sides.
struct Sides {
    coordinator: Identity,
    client: Identity,
}

impl Sides {
    fn new() -> Self {
        let authority = Authority::create(name("clinic")).unwrap();
        let identity =
            |bundle: &str| Identity::parse(Path::new("bundle"), bundle.as_bytes()).unwrap();
        let hosts = ["127.0.0.1".to_owned()];
        let day = || Validity::days(1);
        Self {
            coordinator: identity(&authority.coordinator(&hosts, day()).unwrap()),
            client: identity(&authority.client(&name("ward-7"), day()).unwrap()),
        }
    }

    fn listen(&self, over: Over, latest: Version) -> Door {
        let limits = Limits {
            latest,
            ..Limits::default()
        };
        let any = "127.0.0.1:0".parse().unwrap();
        match over {
            Over::Quic => {
                let door = QuicListener::bind(any, &self.coordinator, limits).unwrap();
                let address = door.address().unwrap().to_string();
                (Arc::new(door), address)
            }
            Over::Tcp => {
                let door = TcpListener::bind(any, &self.coordinator, limits).unwrap();
                let address = door.address().to_string();
                (Arc::new(door), address)
            }
        }
    }

    fn dialer(&self, over: Over, address: String, latest: Version) -> Box<dyn Dial> {
        let (own, manner) = (
            &self.client,
            Manner {
                latest,
                ..Manner::default()
            },
        );
        match over {
            Over::Quic => {
                let dialer = QuicDialer::new(address, None, own).unwrap();
                Box::new(dialer.with(manner, own).unwrap())
            }
            Over::Tcp => Box::new(TcpDialer::new(address, None, own, manner).unwrap()),
        }
    }

    fn client(&self, over: Over, address: String, latest: Version) -> Client {
        let dialer = self.dialer(over, address, latest);
        let student = Learner::new(Architecture::MlpS.build(&[4], 2, 3).unwrap());
        Client::new(
            name("clinic"),
            name("ward-7"),
            student,
            labelled(12),
            Policy::default(),
            dialer,
        )
        .unwrap()
    }
}

/// What a federation of these versions comes to.
async fn federate(over: Over, ours: Version, theirs: Version) -> Vec<Closed> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let sides = Sides::new();
    let (door, address) = sides.listen(over, ours);
    let client = sides.client(over, address, theirs);
    let store = FileStore::open_at(&path).unwrap();
    let run = coordinator(store).run(door, CancellationToken::new());
    let (ended, left) = tokio::join!(run, client.run());
    ended.unwrap();
    assert!(matches!(left.unwrap(), Ended::Finished(_)));
    let mut history = FileStore::open_at(&path).unwrap().history().unwrap();
    // When it was is all that may differ.
    for closed in &mut history {
        (closed.at, closed.epoch) = (0, 0);
    }
    history
}

#[tokio::test]
async fn sides_of_two_versions_come_to_the_same() {
    let latest = federate(Over::Quic, Version::LATEST, Version::LATEST).await;
    // Two rounds, and one in which clients learn what the last came to.
    assert_eq!(latest.len(), 3);
    assert!(latest.iter().all(|closed| closed.outcome.is_some()));
    for (over, ours, theirs) in [
        (Over::Quic, Version::LATEST, Version::OLDEST),
        (Over::Quic, Version::OLDEST, Version::LATEST),
        (Over::Quic, Version::OLDEST, Version::OLDEST),
        (Over::Tcp, Version::LATEST, Version::LATEST),
        (Over::Tcp, Version::LATEST, Version::OLDEST),
        (Over::Tcp, Version::OLDEST, Version::LATEST),
        (Over::Tcp, Version::OLDEST, Version::OLDEST),
    ] {
        let came = federate(over, ours, theirs).await;
        assert_eq!(came, latest, "{over:?}: {ours}, {theirs}");
    }
}

/// Later than that of a store that is made now, which is the time.
const SEEN: u64 = 10_000_000_000_007;

/// A client that has seen epoch [`SEEN`] meets a coordinator of `epoch`; what the two say.
async fn meet(
    over: Over,
    epoch: u64,
    ours: Version,
    theirs: Version,
) -> (Result<(), String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let sides = Sides::new();
    let (door, address) = sides.listen(over, ours);
    let journal = || {
        let path = folder.path().join("journal.redb");
        Journal::open(&path, &name("clinic"), &name("ward-7")).unwrap()
    };
    let seen = fedistill_client::journal::Entry::Epoch(SEEN);
    journal().0.keep(&seen).unwrap();
    let (events, mut told) = mpsc::unbounded_channel();
    let (journal, kept) = journal();
    let client = sides
        .client(over, address, theirs)
        .journaled(journal, kept, Duration::ZERO)
        .unwrap()
        .events(events);
    let mut store = FileStore::open_at(&folder.path().join("rounds.redb")).unwrap();
    store.roll_back(epoch).unwrap();
    let stop = CancellationToken::new();
    let run = coordinator(store).run(door, stop.clone());
    let client = async {
        tokio::select! {
            ended = client.run() => ended.map(|_| String::new()).unwrap(),
            why = async {
                loop {
                    match told.recv().await.unwrap() {
                        Event::Lost { why, again } => {
                            // It does not come back at once.
                            assert!(again > Duration::from_secs(60), "{again:?}");
                            break why;
                        }
                        _ => continue,
                    }
                }
            } => why,
        }
    };
    let client = async {
        let why = client.await;
        stop.cancel();
        why
    };
    let (ended, why) = tokio::join!(run, client);
    let ended = ended
        .map(|_| ())
        .map_err(|error: CoordinatorError| error.to_string());
    (ended, why)
}

#[tokio::test]
async fn a_coordinator_of_an_epoch_that_is_over_gets_nothing() {
    for over in [Over::Quic, Over::Tcp] {
        let (ended, why) = meet(over, SEEN - 1, Version::LATEST, Version::LATEST).await;
        ended.unwrap();
        for part in [
            format!("epoch {}", SEEN - 1),
            format!("epoch {SEEN}"),
            format!("--epoch {}", SEEN + 1),
        ] {
            assert!(why.contains(&part), "{why}");
        }
        // The same epoch is the same coordinator, and a later one its successor.
        for epoch in [SEEN, SEEN + 1] {
            let (ended, why) = meet(over, epoch, Version::LATEST, Version::LATEST).await;
            ended.unwrap();
            assert_eq!(why, "");
        }
        // One that was not updated says no epoch: it cannot be told from its successor.
        let (ended, why) = meet(over, SEEN - 1, Version::OLDEST, Version::LATEST).await;
        ended.unwrap();
        assert_eq!(why, "");
    }
}

/// `states/protocol-3.redb.gz` is what a coordinator of the last version with protocol 3 alone had kept when it was
/// killed in round 2, after the first of two contributions. Its federation was this one.
#[test]
fn a_state_of_the_version_before_goes_on_in_its_round() {
    let deployment = Deployment::new(2, 4, "[round]\nleast = 2\n");
    let config = deployment.coordinator_config();
    let text = fs::read_to_string(&config).unwrap();
    let classes = text.lines().find(|line| line.starts_with("classes"));
    let classes = classes.unwrap();
    let text = format!(
        r#"
federation = "clinic"
listen = "127.0.0.1:0"
{classes}
rounds = 4
method = "logit-mean"
[transfer]
idx = {{ images = "../data/transfer/images.gz" }}
[round]
least = 2
samples = 40
"#
    );
    fs::write(config, text).unwrap();
    let state = deployment.path("federation/state");
    fs::create_dir_all(&state).unwrap();
    let packed = &include_bytes!("states/protocol-3.redb.gz")[..];
    let mut file = File::create(state.join("rounds.redb")).unwrap();
    std::io::copy(&mut GzDecoder::new(packed), &mut file).unwrap();
    drop(file);
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    let clients = [0, 1].map(|index| deployment.join(index, &address));
    coordinator.wait_for("round 2.0 goes on from its log");
    coordinator.wait_for("round 2.0 is over, with 2 contributions");
    coordinator.wait_for("round 3.0 is over, with 2 contributions");
    for process in clients.into_iter().chain([coordinator]) {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
    let folders = [
        state,
        deployment.path("state-0"),
        deployment.path("state-1"),
    ];
    let records = Records::read(folders.iter().map(PathBuf::as_path)).unwrap();
    let report = verify(&records, None);
    assert_eq!(report.broken, [], "{report}");
    assert_eq!(report.committed, 5, "{report}");
}
