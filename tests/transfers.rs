//! Transfers that break off, and what a client need not fetch again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use fedistill_client::{Backoff, BlobFolder, Client};
use fedistill_protocol::{
    About, AnswerKind, Answers, Digest, Elements, Knowledge, Loss, LossTerm, Message, Precision,
    RoundId, RoundPlan, Rows, Toward, TransferSet,
};
use fedistill_tests::clinic::{self, classes, ward};
use fedistill_transport::memory::{self, Door, MemoryListener};
use fedistill_transport::{CloseCode, Connection, Frames, Listen, TransportError, blobs};

/// Several chunks.
fn set() -> TransferSet {
    let values = (0..200_000).map(|i| (i * 67 % 251) as u8).collect();
    TransferSet::new(vec![4], Elements::U8(values)).unwrap()
}

/// A plan that trains on private samples, and asks about two of the transfer set.
fn plan() -> RoundPlan {
    let transfer = Digest::of(&set().pack());
    let loss = Loss::CrossEntropy { smoothing: 0.0 };
    RoundPlan {
        report: Some(clinic::report(Rows::List(vec![1, 3]))),
        ..clinic::plan(transfer, LossTerm::new(loss, Toward::Labels))
    }
}

fn client(door: &Door) -> Client {
    let brief = Duration::from_millis(1);
    ward(door, classes()).with_backoff(Backoff::new(brief, brief))
}

/// Lets a client in, and asks it for a round.
async fn greet(listener: &MemoryListener) -> (Arc<dyn Connection>, Frames) {
    let connection = listener.accept().await.unwrap();
    let mut frames = Frames::new(connection.accept().await.unwrap(), connection.version());
    let hello = frames.reader.next().await.unwrap();
    assert!(matches!(hello, Some(Message::Hello(_))));
    let welcome = clinic::welcome(&set());
    frames.writer.send(&welcome.into()).await.unwrap();
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

/// A plan of another round, with lessons of two logits for each of two samples.
fn lessons(round: u32, blob: Digest, bytes: u64) -> RoundPlan {
    let knowledge = Knowledge {
        blob,
        bytes,
        kind: AnswerKind::Logits,
        width: 2,
        about: About::Rows(Rows::List(vec![1, 3])),
        precision: Precision::F32,
        update: None,
    };
    RoundPlan {
        id: RoundId { round, attempt: 0 },
        knowledge: vec![knowledge],
        ..plan()
    }
}

#[tokio::test]
async fn lessons_of_a_round_that_is_over_are_no_breach() {
    let (listener, door) = memory::listen();
    let answers = Answers::new(AnswerKind::Logits, 2, vec![0.5; 4]).unwrap();
    let packed = answers.pack(Precision::F32);
    let (blob, bytes) = (Digest::of(&packed), packed.len() as u64);
    let coordinator = async {
        let (connection, mut frames) = greet(&listener).await;
        assert_eq!(give(&connection, usize::MAX).await, 0);
        round(&mut frames).await;
        let plan = lessons(1, blob, bytes);
        frames.writer.send(&plan.into()).await.unwrap();
        let mut stream = connection.accept().await.unwrap();
        assert_eq!(blobs::requested(&mut stream).await.unwrap().blob, blob);
        // The next round asks for the same before the word comes that the one before is over: it is not lost.
        let plan = lessons(2, blob, bytes);
        frames.writer.send(&plan.into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        blobs::send(&mut stream, &[], 0, |_| ()).await.unwrap();
        let mut stream = connection.accept().await.unwrap();
        assert_eq!(blobs::requested(&mut stream).await.unwrap().blob, blob);
        // Nor is this one's, and nobody asks for them again.
        blobs::send(&mut stream, &[], 0, |_| ()).await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(300), connection.accept()).await;
        assert!(silence.is_err(), "{:?}", connection.close_reason());
        // The round after finds the client on the same connection.
        let plan = lessons(3, blob, bytes);
        frames.writer.send(&plan.into()).await.unwrap();
        let mut stream = connection.accept().await.unwrap();
        let request = blobs::requested(&mut stream).await.unwrap();
        blobs::send(&mut stream, &packed, request.offset, |_| ())
            .await
            .unwrap();
        loop {
            match frames.reader.next().await.unwrap() {
                Some(Message::Contribution(contribution)) => {
                    return assert_eq!(contribution.id.round, 3);
                }
                Some(Message::Heartbeat(_)) => {}
                other => panic!("{other:?}"),
            }
        }
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
async fn a_client_that_starts_again_in_mid_transfer_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs");
    let part = blobs.join(format!("{}.part", Digest::of(&set().pack())));
    for (from, until) in [(0, 70_000), (70_000, 140_000)] {
        let (listener, door) = memory::listen();
        let coordinator = async {
            let (connection, _frames) = greet(&listener).await;
            assert_eq!(give(&connection, until as usize).await, from);
            while std::fs::metadata(&part).map_or(0, |part| part.len()) < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        in_time(async {
            tokio::select! {
                ended = client(&door).caching(BlobFolder::new(blobs.clone())).run() => panic!("{ended:?}"),
                () = coordinator => {}
            }
        })
        .await;
    }
    // What is damaged costs what had come, and nothing else.
    for damaged in [false, true] {
        let (listener, door) = memory::listen();
        if damaged {
            std::fs::remove_dir_all(&blobs).unwrap();
            std::fs::create_dir(&blobs).unwrap();
            std::fs::write(&part, [1; 140_000]).unwrap();
        }
        let coordinator = async {
            let (connection, mut frames) = greet(&listener).await;
            assert_eq!(give(&connection, usize::MAX).await, 140_000);
            if damaged {
                let why = connection.closed().await;
                let TransportError::Closed { code, .. } = why else {
                    panic!("{why:?}");
                };
                assert_eq!(code, CloseCode::Done);
                let (connection, mut frames) = greet(&listener).await;
                assert_eq!(give(&connection, usize::MAX).await, 0);
                return round(&mut frames).await;
            }
            round(&mut frames).await;
        };
        in_time(async {
            tokio::select! {
                ended = client(&door).caching(BlobFolder::new(blobs.clone())).run() => panic!("{ended:?}"),
                () = coordinator => {}
            }
        })
        .await;
        assert!(!part.exists());
    }
}
