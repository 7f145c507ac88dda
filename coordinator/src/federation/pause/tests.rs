use std::collections::BTreeMap;
use std::sync::Arc;

use fedistill_federation::{Late, Missed, Quorum, Training, method};
use fedistill_protocol::{
    Digest, Elements, Message, Optimiser, Precision, RejectReason, RoundId, Rounding, TransferSet,
    frame::{self, Header},
};
use tokio::time::sleep_until;

use super::*;
use crate::hub::tests::{hub, name};
use crate::{MemoryStore, Settings, Store};

const SECOND: Duration = Duration::from_secs(1);

/// One round of two clients, of which one is enough: what a test does not say, it does not care for.
pub(in crate::federation) fn settings() -> Settings {
    const MINUTE: Duration = Duration::from_secs(60);
    Settings {
        federation: name("clinic"),
        classes: vec!["well".to_owned(), "ill".to_owned()],
        method: method::by_name("logit-mean").unwrap().into(),
        training: Training {
            private_epochs: 1,
            distillation_epochs: 1,
            batch: 4,
            optimiser: Optimiser::Sgd {
                learning_rate: 0.1,
                momentum: 0.0,
            },
            distillation_temperature: Training::TEMPERATURE,
            label_smoothing: Training::SMOOTHING,
        },
        rounds: 1,
        asked: 2,
        open_with: 1,
        quorum: Quorum::new(1, 2, Duration::ZERO, MINUTE).unwrap(),
        missed: Missed::Reopen,
        late: Late::Refuse,
        silence: MINUTE,
        patience: Some(MINUTE),
        pause: Duration::ZERO,
        attempts: Some(1),
        rows: 2,
        precision: Precision::F32,
        rounding: Rounding::Nearest,
        seed: 1,
        weights: BTreeMap::new(),
    }
}

/// A coordinator that keeps nothing, without a teacher.
pub(in crate::federation) fn coordinator(settings: Settings) -> Coordinator {
    coordinator_with(settings, Box::<MemoryStore>::default())
}

pub(in crate::federation) fn coordinator_with(
    settings: Settings,
    store: Box<dyn Store>,
) -> Coordinator {
    let transfer = TransferSet::new(vec![1], Elements::U8(vec![0, 1, 2])).unwrap();
    Coordinator::new(settings, transfer, None, store).unwrap()
}

/// The first try at a round.
pub(in crate::federation) fn first(round: u32) -> RoundId {
    RoundId { round, attempt: 0 }
}

/// A contribution without answers.
pub(in crate::federation) fn contributed(client: &str, id: RoundId) -> Arrival {
    Arrival::Contributed {
        client: name(client),
        id,
        blob: Digest::of(b"contribution"),
        answers: None,
    }
}

/// Whether this is all that a client was told: that a round is over.
pub(in crate::federation) fn is_too_late(messages: &[Message], id: RoundId) -> bool {
    matches!(messages, [Message::Rejected(said)] if said.reason == RejectReason::TooLate && said.id == Some(id))
}

/// All that a client was sent since it was asked last.
pub(in crate::federation) fn heard(mailbox: &mut mpsc::Receiver<Arc<[u8]>>) -> Vec<Message> {
    let frames = std::iter::from_fn(|| mailbox.try_recv().ok());
    let messages = frames.map(|bytes| {
        let (header, body) = bytes
            .split_first_chunk::<{ frame::HEADER_BYTES }>()
            .unwrap();
        frame::decode(Header::parse(*header).unwrap(), body).unwrap()
    });
    messages.collect()
}

/// For how many seconds a client was sent away, if that is all that it was told.
fn away(messages: &[Message]) -> Option<u32> {
    match messages {
        [Message::Goodbye(goodbye)] if goodbye.back => Some(goodbye.after_ms / 1000),
        _ => None,
    }
}

/// A pause of 100 s with two clients, of whom `at` these seconds this is heard: what each was told at the beginning and after
/// that, and how long it took.
struct Course {
    at_first: Vec<Vec<Message>>,
    then: Vec<Vec<Message>>,
    took: Duration,
}

async fn pause(at: u64, arrival: Option<Arrival>) -> Course {
    let (hub, mut mailboxes, mut incoming) = hub(&["a", "b"]).await;
    let mut coordinator = coordinator(Settings {
        pause: 100 * SECOND,
        ..settings()
    });
    let begun = Instant::now();
    let meanwhile = async {
        sleep_until(begun + SECOND).await;
        let at_first = mailboxes.iter_mut().map(heard).collect();
        sleep_until(begun + at as u32 * SECOND).await;
        if let Some(arrival) = arrival {
            hub.arrivals.send(arrival).await.unwrap();
        }
        at_first
    };
    let pausing = coordinator.pause(&hub, &mut incoming);
    let (at_first, ()) = tokio::join!(meanwhile, pausing);
    Course {
        at_first,
        then: mailboxes.iter_mut().map(heard).collect(),
        took: begun.elapsed(),
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_there_or_comes_is_sent_away_for_what_is_left() {
    // Who comes late is sent away for less, so that it is back when the round opens too; and not at all, if that is soon.
    for (at, left) in [(10, Some(90)), (80, Some(20)), (96, None)] {
        let course = pause(at, Some(Arrival::Joined(name("a")))).await;
        let at_first: Vec<_> = course.at_first.iter().map(|told| away(told)).collect();
        assert_eq!(at_first, [Some(60), Some(60)]);
        let [a, b] = &course.then[..] else {
            panic!("{:?}", course.then);
        };
        assert_eq!(away(a), left.map(|left| left * 3 / 5), "{at}: {a:?}");
        let says = |left: u32| matches!(&a[..], [Message::Goodbye(said)] if said.why.contains(&format!("in {left} s")));
        assert!(left.is_none_or(says), "{at}: {a:?}");
        assert!(left.is_some() || a.is_empty(), "{at}: {a:?}");
        assert!(b.is_empty(), "{b:?}");
        assert_eq!(course.took, 100 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_an_answer_is_told_that_its_round_is_over() {
    let course = pause(50, Some(contributed("b", first(0)))).await;
    let [a, b] = &course.then[..] else {
        panic!("{:?}", course.then);
    };
    assert!(a.is_empty(), "{a:?}");
    assert!(is_too_late(b, first(0)), "{b:?}");
    assert_eq!(course.took, 100 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn where_no_pause_is_asked_for_none_is_made() {
    let (hub, mut mailboxes, mut incoming) = hub(&["a"]).await;
    let begun = Instant::now();
    // Nobody is heard either: it is left to the round that opens.
    hub.arrivals.send(Arrival::Joined(name("a"))).await.unwrap();
    coordinator(settings()).pause(&hub, &mut incoming).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(heard(&mut mailboxes[0]).is_empty());
    assert!(incoming.try_recv().is_ok());
}
