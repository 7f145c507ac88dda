//! Private samples hold a marker. Neither what crosses the streams, before encryption, nor what the
//! coordinator keeps may contain it, in any encoding that anything here uses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedistill_client::{Client, Policy};
use fedistill_coordinator::status::Bookkeeper;
use fedistill_coordinator::{Coordinator, FileStore, NetTeacher, Settings};
use fedistill_federation::Quorum;
use fedistill_learning::checkpoint::About;
use fedistill_learning::{Architecture, Dataset, Learner, Samples};
use fedistill_protocol::{Elements, Name};
use fedistill_tests::clinic;
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use fedistill_transport::{Direction, Meter, Tap};
use half::f16;
use tokio_util::sync::CancellationToken;

const SIDE: u32 = 8;
const PRIVATE: &[u8; 16] = b"\x91\x3c\xe7\x5a\x08\xd2\x6f\xb4\x27\xfa\x43\x9e\x15\xc8\x70\x0d";
const PUBLIC: &[u8; 16] = b"\x5e\xa1\x17\xd9\x62\x0b\xf3\x88\x3d\xc4\x79\x26\xeb\x90\x4f\xb2";

/// Images with `marker` in a row of each.
fn images(count: usize, marker: &[u8; 16], salt: usize) -> Samples {
    let size = (SIDE * SIDE) as usize;
    let image = |index: usize| {
        let mut image: Vec<u8> = (0..size)
            .map(|i| ((i * 37 + index * 11 + salt) % 251) as u8)
            .collect();
        image[24..40].copy_from_slice(marker);
        image
    };
    let values = (0..count).flat_map(image).collect();
    Samples::new(vec![1, SIDE, SIDE], Elements::U8(values)).unwrap()
}

/// The marker as bytes, as 32 bit and as 16 bit floats, scaled as students see it and not; of scaled ones also those bytes
/// that answers hold as they are, side by side.
fn disguises(marker: &[u8; 16]) -> Vec<Vec<u8>> {
    let floats = |scale: f32| marker.iter().map(move |&byte| f32::from(byte) / scale);
    let mut all = vec![marker.to_vec()];
    for scale in [1.0, 255.0] {
        all.push(floats(scale).flat_map(f32::to_le_bytes).collect());
        all.push(
            floats(scale)
                .flat_map(|value| f16::from_f32(value).to_le_bytes())
                .collect(),
        );
    }
    for place in 0..2 {
        all.push(
            floats(255.0)
                .map(|value| value.to_le_bytes()[place])
                .collect(),
        );
    }
    all.push(
        floats(255.0)
            .map(|value| f16::from_f32(value).to_le_bytes()[0])
            .collect(),
    );
    all
}

/// How many disguises of `marker` are somewhere in `bytes`; a quarter of one is enough.
fn found(bytes: &[u8], marker: &[u8; 16]) -> usize {
    let part = |disguise: &Vec<u8>| {
        let quarter = disguise.len() / 4;
        let mut parts = disguise.chunks(quarter);
        parts.any(|part| bytes.windows(quarter).any(|window| window == part))
    };
    disguises(marker)
        .iter()
        .filter(|disguise| part(disguise))
        .count()
}

#[derive(Default)]
struct Wire(Mutex<(Vec<u8>, Vec<u8>)>);

impl Tap for Wire {
    fn hear(&self, direction: Direction, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap();
        match direction {
            Direction::Sent => heard.0.extend_from_slice(bytes),
            Direction::Received => heard.1.extend_from_slice(bytes),
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn settings(classes: &[String]) -> Settings {
    let mut settings = Settings {
        rounds: 3,
        asked: 2,
        open_with: 2,
        quorum: Quorum::new(2, 2, Duration::ZERO, Duration::from_secs(60)).unwrap(),
        ..clinic::settings(name("clinic"), classes.to_vec(), 40)
    };
    settings.training.private_epochs = 2;
    settings.training.distillation_epochs = 2;
    settings.training.batch = 10;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_private_byte_leaves_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let classes = vec!["well".to_owned(), "ill".to_owned()];
    let authority = Authority::create(name("clinic")).unwrap();
    let identity = |bundle: &str| Identity::parse(Path::new("bundle"), bundle.as_bytes()).unwrap();
    let bundle = authority
        .coordinator(&["127.0.0.1".to_owned()], Validity::days(1))
        .unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = QuicListener::bind(any, &identity(&bundle), Limits::default()).unwrap();
    let address = listener.address().unwrap().to_string();

    let about = About {
        architecture: Some(Architecture::MlpS),
        input: vec![1, SIDE, SIDE],
        classes: classes.clone(),
    };
    let net = Architecture::MlpS.build(&about.input, 2, 1).unwrap();
    let store = FileStore::open_at(&folder.path().join("rounds.redb")).unwrap();
    let keeper = Bookkeeper::new(folder.path(), &name("clinic"), 3, None);
    let coordinator = Coordinator::new(
        settings(&classes),
        images(60, PUBLIC, 5).publish().unwrap(),
        Some(Box::new(NetTeacher::new(Learner::new(net), about))),
        Box::new(store),
    )
    .unwrap()
    .observed_by(keeper);

    let wire = Arc::new(Wire::default());
    let mut clients = Vec::new();
    for index in 0..2 {
        let samples = images(50, PRIVATE, 100 + index);
        let labels = (0..50).map(|i| i % 2).collect();
        let data = Dataset::new(Path::new("data"), samples, labels, classes.clone()).unwrap();
        let own = name(&format!("ward-{index}"));
        let bundle = authority.client(&own, Validity::days(1)).unwrap();
        let dialer = QuicDialer::new(address.clone(), None, &identity(&bundle)).unwrap();
        let net = Architecture::MlpS
            .build(&[1, SIDE, SIDE], 2, index as u64)
            .unwrap();
        let student = Learner::new(net);
        let policy = Policy::default();
        let client = Client::new(name("clinic"), own, student, data, policy, dialer)
            .unwrap()
            .metered(Arc::new(Meter::with_tap(Arc::clone(&wire) as Arc<dyn Tap>)));
        clients.push(tokio::spawn(client.run()));
    }
    coordinator
        .run(Arc::new(listener), CancellationToken::new())
        .await
        .unwrap();
    for client in clients {
        client.await.unwrap().unwrap();
    }

    let (sent, received) = std::mem::take(&mut *wire.0.lock().unwrap());
    // Of f32 two bytes at least cross as they are.
    assert!(
        sent.len() > 2 * 3 * 40 * 2 * 2,
        "contributions have crossed"
    );
    assert_eq!(found(&received, PUBLIC), 1, "the tap hears what comes down");
    assert_eq!(found(&sent, PRIVATE), 0, "sent");
    assert_eq!(found(&received, PRIVATE), 0, "received");
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(found(&bytes, PRIVATE), 0, "{}", path.display());
        files += 1;
    }
    assert!(files >= 3, "store, teacher and status");
}
