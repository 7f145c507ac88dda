//! A coordinator and a client against peers that break the rules, over the in-memory transport.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedistill_client::Event;
use fedistill_coordinator::{
    Coordinator, CoordinatorError, FileStore, MemoryStore, Observer, Settings, Store,
};
use fedistill_federation::{Folded, Late, Quorum, method};
use fedistill_protocol::{
    AnswerKind, Answers, Contribution, Digest, Hello, Message, Name, Precision, RejectReason,
    RoundId,
};
use fedistill_tests::clinic::{self, classes, name, transfer, ward};
use fedistill_transport::memory::{self, Door};
use fedistill_transport::{CloseCode, Connection, Dial, Frames, Peer, TransportError, blobs};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ROWS: u32 = 6;

fn settings() -> Settings {
    Settings {
        asked: 2,
        ..clinic::settings(name("clinic"), classes(), ROWS)
    }
}

fn coordinator(settings: Settings) -> Result<Coordinator, CoordinatorError> {
    Coordinator::new(settings, transfer(), None, Box::<MemoryStore>::default())
}

/// A client whose every word is in the test's hand.
struct Puppet {
    connection: Arc<dyn Connection>,
    frames: Frames,
}

impl Puppet {
    async fn connect(door: &Door, own: &str, classes: Vec<String>) -> Self {
        let peer = Peer::Client {
            federation: name("clinic"),
            name: name(own),
        };
        let connection = door.dialer(peer).dial().await.unwrap();
        let mut frames = Frames::new(connection.open().await.unwrap(), connection.version());
        let hello = Hello {
            federation: name("clinic"),
            software: "puppet".to_owned(),
            classes,
            transfer: None,
            epoch: 0,
            parameters: 0,
        };
        frames.writer.send(&hello.into()).await.unwrap();
        Self { connection, frames }
    }

    async fn next(&mut self) -> Message {
        self.frames.reader.next().await.unwrap().unwrap()
    }

    /// Announces a contribution, and lets the coordinator fetch these bytes for it.
    async fn contribute(&mut self, id: RoundId, announced: u64, bytes: Vec<u8>) -> Message {
        let contribution = Contribution {
            id,
            blob: Digest::of(&bytes),
            bytes: announced,
            update: None,
        };
        self.frames.writer.send(&contribution.into()).await.unwrap();
        let served = async {
            let mut stream = self.connection.accept().await.unwrap();
            let request = blobs::requested(&mut stream).await.unwrap();
            // The other side may refuse in the middle.
            let _ = blobs::send(&mut stream, &bytes, request.offset, |_| ()).await;
            std::future::pending().await
        };
        tokio::select! {
            message = self.frames.reader.next() => message.unwrap().unwrap(),
            () = served => unreachable!(),
        }
    }
}

fn rejection(message: Message) -> (RejectReason, String) {
    match message {
        Message::Rejected(rejected) => (rejected.reason, rejected.detail),
        other => panic!("no rejection: {other:?}"),
    }
}

/// Whose contributions the machine has refused, and why.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<Vec<(Name, RejectReason)>>>);

impl Observer for Refused {
    fn refused(&mut self, client: &Name, reason: RejectReason) {
        self.0.lock().unwrap().push((client.clone(), reason));
    }
}

#[tokio::test]
async fn contributions_that_cannot_be_used_are_rejected_and_the_round_goes_on() {
    let (listener, door) = memory::listen();
    let quorum = Quorum::new(1, 3, Duration::from_secs(60), Duration::from_secs(90)).unwrap();
    let coordinator = coordinator(Settings {
        asked: 3,
        open_with: 3,
        quorum,
        ..settings()
    })
    .unwrap();
    let refused = Refused::default();
    let coordinator = coordinator.observed_by(refused.clone());
    let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
    let mut good = Puppet::connect(&door, "good", classes()).await;
    let mut bad = Puppet::connect(&door, "bad", classes()).await;
    // As long as it is at work, the round stays open.
    let mut slow = Puppet::connect(&door, "slow", classes()).await;
    let mut id = None;
    for puppet in [&mut good, &mut bad, &mut slow] {
        assert!(matches!(puppet.next().await, Message::Welcome(_)));
        let Message::Plan(plan) = puppet.next().await else {
            panic!("no plan");
        };
        id = Some(plan.id);
    }
    let id = id.unwrap();
    let fair = Answers::new(AnswerKind::Logits, 2, vec![0.5; 2 * ROWS as usize]).unwrap();
    let fair = fair.pack(Precision::F32);
    let length = fair.len() as u64;

    // The wrong round: it is not even fetched.
    let other = RoundId {
        round: 4,
        attempt: 0,
    };
    let (reason, detail) = rejection(bad.contribute(other, length, fair.clone()).await);
    assert_eq!(reason, RejectReason::WrongRound);
    assert!(detail.contains("4.0") && detail.contains("0.0"), "{detail}");

    // The wrong shape: a row too few.
    let short = fair[..fair.len() - 8].to_vec();
    let (reason, detail) = rejection(bad.contribute(id, length - 8, short).await);
    assert_eq!(reason, RejectReason::Malformed);
    let sizes = [length - 8, length].map(|bytes| bytes.to_string());
    assert!(sizes.iter().all(|size| detail.contains(size)), "{detail}");

    // No number.
    let mut nan = fair.clone();
    let last = nan.len() - 4;
    nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let (reason, detail) = rejection(bad.contribute(id, length, nan).await);
    assert_eq!(reason, RejectReason::Malformed);
    assert!(detail.contains("finite"), "{detail}");

    // Sent twice: the same answer twice; another one for the same round is rejected.
    let first = good.contribute(id, length, fair.clone()).await;
    assert!(matches!(first, Message::Receipt(_)), "{first:?}");
    let Message::Receipt(receipt) = good.contribute(id, length, fair.clone()).await else {
        panic!("no receipt");
    };
    assert_eq!((receipt.id, receipt.blob), (id, Digest::of(&fair)));
    let changed = Answers::new(AnswerKind::Logits, 2, vec![0.25; 2 * ROWS as usize]).unwrap();
    let (_, detail) = rejection(
        good.contribute(id, length, changed.pack(Precision::F32))
            .await,
    );
    assert!(
        detail.contains("already") || detail.contains("another"),
        "{detail}"
    );

    // What the round itself has refused is counted.
    let counted = refused.0.lock().unwrap().clone();
    let expected = [
        (name("bad"), RejectReason::WrongRound),
        (name("good"), RejectReason::Conflict),
    ];
    assert_eq!(counted, expected);

    // One that was refused may mend its ways while the round is open.
    let mended = bad.contribute(id, length, fair).await;
    assert!(matches!(mended, Message::Receipt(_)), "{mended:?}");
    run.abort();
}

#[tokio::test]
async fn who_is_late_counts_in_the_next_round_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let (listener, door) = memory::listen();
    let settings = Settings {
        rounds: 2,
        open_with: 2,
        rows: 10,
        late: Late::Fold { exponent: 0.5 },
        ..settings()
    };
    let store = Box::new(FileStore::open_at(&path).unwrap());
    let coordinator = Coordinator::new(settings, transfer(), None, store).unwrap();
    let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
    let mut quick = Puppet::connect(&door, "quick", classes()).await;
    let mut slow = Puppet::connect(&door, "slow", classes()).await;
    for puppet in [&mut quick, &mut slow] {
        assert!(matches!(puppet.next().await, Message::Welcome(_)));
        assert!(matches!(puppet.next().await, Message::Plan(plan) if plan.id.round == 0));
    }
    let round = |round| RoundId { round, attempt: 0 };
    let said = |value: f32| {
        let answers = Answers::new(AnswerKind::Logits, 2, [value, -value].repeat(10)).unwrap();
        answers.pack(Precision::F32)
    };
    let (early, late) = (said(0.5), said(1.5));
    let bytes = early.len() as u64;
    let counts = |message: Message, id: RoundId| matches!(message, Message::Receipt(receipt) if receipt.id == id);
    assert!(counts(
        quick.contribute(round(0), bytes, early.clone()).await,
        round(0)
    ));
    assert!(matches!(quick.next().await, Message::Plan(plan) if plan.id == round(1)));
    // It is at work for the round before, and was not asked for this one.
    assert!(counts(
        slow.contribute(round(0), bytes, late.clone()).await,
        round(0)
    ));
    assert!(counts(
        slow.contribute(round(0), bytes, late.clone()).await,
        round(0)
    ));
    let other = said(2.5);
    let (reason, _) = rejection(slow.contribute(round(0), bytes, other).await);
    assert_eq!(reason, RejectReason::Conflict);
    assert!(counts(
        quick.contribute(round(1), bytes, early).await,
        round(1)
    ));
    // It is free by then, and both are told what came of it.
    assert!(matches!(slow.next().await, Message::Plan(plan) if plan.id == round(2)));
    run.abort();
    let _ = run.await;
    let history = FileStore::look_at(&path).unwrap().history().unwrap();
    let of = round(0);
    let blob = Digest::of(&late);
    let folded = BTreeMap::from([(name("slow"), Folded { of, blob })]);
    let outcomes = history.iter().map(|closed| {
        let outcome = closed.outcome.as_ref().unwrap();
        (outcome.contributors.clone(), closed.late.clone())
    });
    let quick = || vec![name("quick")];
    let expected = [(quick(), BTreeMap::new()), (quick(), folded)];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
}

#[test]
fn methods_that_look_at_each_contribution_fold_none() {
    let settings = Settings {
        method: method::by_name("fd").unwrap().into(),
        late: Late::Fold { exponent: 0.5 },
        ..settings()
    };
    let error = Coordinator::new(
        settings.clone(),
        transfer(),
        None,
        Box::<MemoryStore>::default(),
    );
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("method fd") && error.contains("round.late"),
        "{error}"
    );
    let settings = Settings {
        method: method::by_name("logit-mean").unwrap().into(),
        weights: BTreeMap::from([(name("heavy"), 1 << 23)]),
        ..settings
    };
    let error = Coordinator::new(settings, transfer(), None, Box::<MemoryStore>::default());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("make them smaller"), "{error}");
}

/// In a storm of clients a first message may come late: who keeps its connection up has to hear that nobody
/// waits for it any more, or it would wait for ever.
#[tokio::test]
async fn who_does_not_greet_in_time_is_told_to_come_again() {
    let (listener, door) = memory::listen();
    let coordinator = coordinator(settings()).unwrap();
    let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
    let peer = Peer::Client {
        federation: name("clinic"),
        name: name("late"),
    };
    let connection = door.dialer(peer).dial().await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), connection.closed());
    let end = end.await.unwrap();
    let is_busy = |end: &TransportError| {
        matches!(
            end,
            TransportError::Closed {
                code: CloseCode::Busy,
                ..
            }
        )
    };
    assert!(is_busy(&end), "{end}");
    run.abort();
}

/// It says nothing for longer than clients at work may be silent, but its answers come, piece by piece.
#[tokio::test]
async fn who_gives_back_slowly_is_waited_for_as_long_as_something_comes() {
    let (listener, door) = memory::listen();
    let quorum = Quorum::new(1, 2, Duration::from_secs(60), Duration::from_secs(90)).unwrap();
    let coordinator = coordinator(Settings {
        open_with: 2,
        quorum,
        silence: Duration::from_millis(1500),
        ..settings()
    })
    .unwrap();
    let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
    let mut quick = Puppet::connect(&door, "quick", classes()).await;
    let mut slow = Puppet::connect(&door, "slow", classes()).await;
    let mut id = None;
    for puppet in [&mut quick, &mut slow] {
        assert!(matches!(puppet.next().await, Message::Welcome(_)));
        let Message::Plan(plan) = puppet.next().await else {
            panic!("no plan");
        };
        id = Some(plan.id);
    }
    let id = id.unwrap();
    let fair = Answers::new(AnswerKind::Logits, 2, vec![0.5; 2 * ROWS as usize]).unwrap();
    let fair = fair.pack(Precision::F32);
    let (blob, bytes) = (Digest::of(&fair), fair.len() as u64);
    let receipt = quick.contribute(id, bytes, fair.clone()).await;
    assert!(matches!(receipt, Message::Receipt(_)), "{receipt:?}");
    let update = None;
    let contribution = Contribution {
        id,
        blob,
        bytes,
        update,
    };
    let announcement = contribution.into();
    slow.frames.writer.send(&announcement).await.unwrap();
    let mut stream = slow.connection.accept().await.unwrap();
    assert_eq!(blobs::requested(&mut stream).await.unwrap().offset, 0);
    let pieces = fair.chunks(fair.len().div_ceil(16));
    let mut offset = 0u64;
    for piece in pieces {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let header = [
            offset.to_le_bytes().as_slice(),
            &(piece.len() as u32).to_le_bytes(),
        ]
        .concat();
        stream.0.write_all(&header).await.unwrap();
        stream.0.write_all(piece).await.unwrap();
        offset += piece.len() as u64;
    }
    assert!(matches!(slow.next().await, Message::Receipt(_)));
    run.abort();
}

#[tokio::test]
async fn of_thousands_of_announcements_one_is_fetched_at_a_time() {
    let (listener, door) = memory::listen();
    let quorum = Quorum::new(1, 2, Duration::from_secs(60), Duration::from_secs(90)).unwrap();
    let coordinator = coordinator(Settings {
        open_with: 2,
        quorum,
        ..settings()
    })
    .unwrap();
    let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
    let mut good = Puppet::connect(&door, "good", classes()).await;
    let mut flood = Puppet::connect(&door, "flood", classes()).await;
    let mut id = None;
    for puppet in [&mut good, &mut flood] {
        assert!(matches!(puppet.next().await, Message::Welcome(_)));
        let Message::Plan(plan) = puppet.next().await else {
            panic!("no plan");
        };
        id = Some(plan.id);
    }
    let id = id.unwrap();
    let fair = Answers::new(AnswerKind::Logits, 2, vec![0.5; 2 * ROWS as usize]).unwrap();
    let fair = fair.pack(Precision::F32);
    let bytes = fair.len() as u64;
    let Puppet { connection, frames } = flood;
    let Frames { mut writer, reader } = frames;
    let announcing = tokio::spawn(async move {
        for number in 0..5_000u32 {
            let blob = Digest::of(&number.to_le_bytes());
            let contribution = Contribution {
                id,
                blob,
                bytes,
                update: None,
            };
            // The same one twice, then another: the coordinator lets them wait where they are.
            for _ in 0..2 {
                writer.send(&contribution.into()).await.unwrap();
            }
        }
    });
    // Streams that are held and not served: one is asked for, and no more.
    let _first = connection.accept().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(300), connection.accept()).await;
    assert!(second.is_err(), "two contributions are fetched at a time");
    // Nobody else is held up.
    let receipt = good.contribute(id, bytes, fair).await;
    assert!(matches!(receipt, Message::Receipt(_)), "{receipt:?}");
    announcing.abort();
    drop(reader);
    run.abort();
}

#[tokio::test]
async fn a_client_that_another_replaces_keeps_away_for_long() {
    let (listener, door) = memory::listen();
    let coordinator = coordinator(Settings {
        open_with: 2,
        ..settings()
    })
    .unwrap();
    let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
    let (events, mut heard) = mpsc::unbounded_channel();
    let client = ward(&door, classes()).events(events);
    let replaced = async {
        let connected = heard.recv().await;
        assert!(
            matches!(connected, Some(Event::Connected { .. })),
            "{connected:?}"
        );
        let _other = Puppet::connect(&door, "ward-1", classes()).await;
        loop {
            match heard.recv().await.unwrap() {
                Event::Lost { why, again } => break (why, again),
                _ => continue,
            }
        }
    };
    tokio::select! {
        ended = client.run() => panic!("{ended:?}"),
        (why, again) = replaced => {
            assert!(why.contains("ward-1") && why.contains("bundle"), "{why}");
            assert!(again >= Duration::from_secs(300), "{again:?}");
        }
    }
    run.abort();
}

#[tokio::test]
async fn what_is_no_client_of_this_federation_is_turned_away() {
    let (listener, door) = memory::listen();
    let coordinator = coordinator(settings()).unwrap();
    let run = tokio::spawn(coordinator.run(Arc::new(listener), CancellationToken::new()));
    let swapped = classes().into_iter().rev().collect();
    let mut puppet = Puppet::connect(&door, "swapped", swapped).await;
    let (reason, detail) = rejection(puppet.next().await);
    assert_eq!(reason, RejectReason::WrongClasses);
    assert!(
        detail.contains("well, ill") && detail.contains("ill, well"),
        "{detail}"
    );
    let stranger = Peer::Client {
        federation: name("bank"),
        name: name("ward-1"),
    };
    let connection = door.dialer(stranger).dial().await.unwrap();
    let mut frames = Frames::new(connection.open().await.unwrap(), connection.version());
    let hello = Hello {
        federation: name("bank"),
        software: String::new(),
        classes: classes(),
        transfer: None,
        epoch: 0,
        parameters: 0,
    };
    frames.writer.send(&hello.into()).await.unwrap();
    let (reason, detail) = rejection(frames.reader.next().await.unwrap().unwrap());
    assert_eq!(reason, RejectReason::WrongFederation);
    assert!(
        detail.contains("clinic") && detail.contains("bank"),
        "{detail}"
    );
    run.abort();
}

#[tokio::test]
async fn too_few_clients_for_too_long_end_the_run() {
    let (listener, door) = memory::listen();
    let coordinator = coordinator(Settings {
        open_with: 2,
        patience: Some(Duration::from_millis(50)),
        ..settings()
    })
    .unwrap();
    let _one = Puppet::connect(&door, "alone", classes()).await;
    let error = coordinator
        .run(Arc::new(listener), CancellationToken::new())
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("of the 2 clients") && error.contains("start more"),
        "{error}"
    );
    let quorum = Quorum::new(3, 3, Duration::ZERO, Duration::from_secs(1)).unwrap();
    let settings = Settings {
        quorum,
        ..settings()
    };
    let error = Coordinator::new(settings, transfer(), None, Box::<MemoryStore>::default());
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("round.least") && error.contains("only 2"),
        "{error}"
    );
}
