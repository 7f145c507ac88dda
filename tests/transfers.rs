//! Transfers that break off, and what a client need not fetch again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fedistill_client::{Backoff, BlobFolder, Client, Policy};
use fedistill_learning::{Architecture, Dataset, Learner, Samples};
use fedistill_protocol::{
    About, AnswerKind, Digest, Elements, Loss, LossTerm, Message, Name, Optimiser, Phase,
    PhaseData, Precision, Report, RoundId, RoundPlan, Rounding, Rows, Silence, Start, Toward,
    TransferManifest, TransferSet, Welcome,
};
use fedistill_transport::memory::{self, Door, MemoryListener};
use fedistill_transport::{Connection, Frames, Listen, Peer, blobs};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn classes() -> Vec<String> {
    ["well", "ill"].map(str::to_owned).to_vec()
}

fn values(count: usize) -> Elements {
    Elements::U8((0..count * 4).map(|i| (i * 67 % 251) as u8).collect())
}

/// Several chunks.
fn set() -> TransferSet {
    TransferSet::new(vec![4], values(50_000)).unwrap()
}

fn welcome() -> Welcome {
    let (set, packed) = (set(), set().pack());
    Welcome {
        federation: name("clinic"),
        transfer: TransferManifest {
            blob: Digest::of(&packed),
            bytes: packed.len() as u64,
            samples: set.samples(),
            shape: set.shape().to_vec(),
            classes: classes(),
        },
        heartbeat_ms: 1000,
        epoch: 1,
        rolled_back: 0,
    }
}

/// A plan that trains on private samples, and asks about two of the transfer set.
fn plan() -> RoundPlan {
    RoundPlan {
        federation: name("clinic"),
        id: RoundId {
            round: 0,
            attempt: 0,
        },
        transfer: welcome().transfer.blob,
        seed: 1,
        knowledge: Vec::new(),
        phases: vec![Phase {
            start: Start::Continue,
            data: PhaseData::Private,
            only: None,
            epochs: 1,
            batch: 4,
            objective: vec![LossTerm::new(
                Loss::CrossEntropy { smoothing: 0.0 },
                Toward::Labels,
            )],
            optimiser: Optimiser::Sgd {
                learning_rate: 0.1,
                momentum: 0.0,
            },
        }],
        report: Some(Report {
            kind: AnswerKind::Logits,
            about: About::Rows(Rows::List(vec![1, 3])),
            width: 2,
            precision: Precision::F32,
            rounding: Rounding::Nearest,
            adjust: 0.0,
            silence: Silence::Never,
            update: false,
        }),
        deadline_ms: 60_000,
        cohort: 1,
    }
}

fn client(door: &Door) -> Client {
    let labels = (0..10).map(|i| i % 2).collect();
    let samples = Samples::new(vec![4], values(10)).unwrap();
    let data = Dataset::new(Path::new("data"), samples, labels, classes()).unwrap();
    let student = Learner::new(Architecture::MlpS.build(&[4], 2, 1).unwrap());
    let dialer = door.dialer(Peer::Client {
        federation: name("clinic"),
        name: name("ward-1"),
    });
    let policy = Policy::default();
    let client = Client::new(
        name("clinic"),
        name("ward-1"),
        student,
        data,
        policy,
        dialer,
    );
    let brief = Duration::from_millis(1);
    client.unwrap().with_backoff(Backoff::new(brief, brief))
}

/// Lets a client in, and asks it for a round.
async fn greet(listener: &MemoryListener) -> (Arc<dyn Connection>, Frames) {
    let connection = listener.accept().await.unwrap();
    let mut frames = Frames::new(connection.accept().await.unwrap(), connection.version());
    let hello = frames.reader.next().await.unwrap();
    assert!(matches!(hello, Some(Message::Hello(_))));
    frames.writer.send(&welcome().into()).await.unwrap();
    frames.writer.send(&plan().into()).await.unwrap();
    (connection, frames)
}

/// Gives what a client asks for up to a place, and tells from where it asked.
async fn give(connection: &Arc<dyn Connection>, until: usize) -> u64 {
    let mut stream = connection.accept().await.unwrap();
    let request = blobs::requested(&mut stream).await.unwrap();
    let set = set().pack();
    let part = &set[..until.min(set.len())];
    blobs::send(&mut stream, part, request.offset, |_| ())
        .await
        .unwrap();
    request.offset
}

/// Waits until the round is done.
async fn round(frames: &mut Frames) {
    loop {
        match frames.reader.next().await.unwrap() {
            Some(Message::Contribution(contribution)) => {
                return assert_eq!(contribution.id, plan().id);
            }
            Some(Message::Heartbeat(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn in_time(what: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_transfer_that_broke_off_goes_on_where_it_stopped() {
    let (listener, door) = memory::listen();
    let coordinator = async {
        let mut offsets = Vec::new();
        // More each time; what is there already is not sent again.
        for until in [70_000, 140_000] {
            let (connection, _frames) = greet(&listener).await;
            offsets.push(give(&connection, until).await);
            connection.closed().await;
        }
        let (connection, mut frames) = greet(&listener).await;
        offsets.push(give(&connection, usize::MAX).await);
        round(&mut frames).await;
        assert_eq!(offsets, [0, 70_000, 140_000]);
    };
    in_time(async {
        tokio::select! {
            ended = client(&door).run() => panic!("{ended:?}"),
            () = coordinator => {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_starts_again_has_the_transfer_set() {
    let folder = tempfile::tempdir().unwrap();
    let cache = || BlobFolder::new(folder.path().join("blobs"));
    let (listener, door) = memory::listen();
    let first = async {
        let (connection, mut frames) = greet(&listener).await;
        assert_eq!(give(&connection, usize::MAX).await, 0);
        round(&mut frames).await;
    };
    in_time(async {
        tokio::select! {
            ended = client(&door).caching(cache()).run() => panic!("{ended:?}"),
            () = first => {}
        }
    })
    .await;
    let again = async {
        let (_connection, mut frames) = greet(&listener).await;
        // Nobody gives it anything.
        round(&mut frames).await;
    };
    in_time(async {
        tokio::select! {
            ended = client(&door).caching(cache()).run() => panic!("{ended:?}"),
            () = again => {}
        }
    })
    .await;
}
