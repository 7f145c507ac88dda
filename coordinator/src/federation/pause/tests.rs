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
use crate::{CoordinatorError, MemoryStore, Outcome, Saved, Settings, Store};

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
        farewell: Duration::ZERO,
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
    let mut coordinator = coordinator(settings());
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
    let pause = Pause::begin(100 * SECOND).unwrap();
    let pausing = coordinator.pause(&hub, &mut incoming, &pause);
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

#[test]
fn where_no_pause_is_asked_for_none_is_made() {
    assert!(Pause::begin(Duration::ZERO).is_none());
}

/// Written, it takes as long as the disk does; the round opens when it was said to.
#[tokio::test(start_paused = true)]
async fn a_pause_begins_when_its_round_ends() {
    let (hub, mut mailboxes, mut incoming) = hub(&["a"]).await;
    let mut coordinator = coordinator(settings());
    for (written, left) in [(40, 60), (100, 0), (200, 0)] {
        let pause = Pause::begin(100 * SECOND).unwrap();
        tokio::time::advance(written * SECOND).await;
        let begun = Instant::now();
        coordinator.pause(&hub, &mut incoming, &pause).await;
        assert_eq!(begun.elapsed(), left * SECOND);
        let told = heard(&mut mailboxes[0]);
        assert_eq!(away(&told), (left > 0).then_some(left * 3 / 5), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_pause_is_what_the_wall_clock_says_and_never_more_than_a_whole_one() {
    let length = 100 * SECOND;
    let now = SystemTime::now();
    let left = |length, opens| Pause::goes_on(length, opens, now).map(|pause| pause.left());
    assert_eq!(left(length, now + 30 * SECOND), Some(30 * SECOND));
    assert_eq!(left(length, now), None);
    // Set to an hour later or earlier; and a pause that was made shorter meanwhile, or taken out.
    assert_eq!(left(length, now - 3600 * SECOND), None);
    assert_eq!(left(length, now + 3600 * SECOND), Some(length));
    assert_eq!(left(10 * SECOND, now + 30 * SECOND), Some(10 * SECOND));
    assert_eq!(left(Duration::ZERO, now + 30 * SECOND), None);
    // The next process is told the same end.
    let pause = Pause::goes_on(length, now + 30 * SECOND, now).unwrap();
    let again = Pause::goes_on(length, pause.opens(), now).unwrap();
    assert!(again.left() >= 30 * SECOND && again.left() < 40 * SECOND);
}

/// How long a coordinator takes to lose its patience where nobody comes, after a process before it has left this.
async fn alone(pause: Duration, saved: Saved) -> Duration {
    let mut store = MemoryStore::default();
    let outcome = Outcome {
        contributors: Vec::new(),
        aggregate: Digest::of(b"sum"),
        teacher: None,
    };
    store.close(&saved, &outcome).unwrap();
    let settings = Settings {
        rounds: 3,
        pause,
        patience: Some(SECOND / 10),
        ..settings()
    };
    let mut coordinator = coordinator_with(settings, Box::new(store));
    let (hub, _mailboxes, mut incoming) = hub(&[]).await;
    let begun = Instant::now();
    let saved = coordinator.load().await.unwrap();
    let rounds = coordinator.rounds(&hub, &mut incoming, saved);
    let error = rounds.await.unwrap_err();
    assert!(
        matches!(error, CoordinatorError::TooFewClients { .. }),
        "{error}"
    );
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_process_that_begins_in_a_pause_lets_it_pass_before_it_loses_patience() {
    let minute = 60 * SECOND;
    let within = |opens: Option<SystemTime>| Saved {
        round: 1,
        opens,
        ..Saved::default()
    };
    let took = alone(2 * minute, within(Some(SystemTime::now() + minute))).await;
    assert!(took > 50 * SECOND && took < 70 * SECOND, "{took:?}");
    // What an older version has written says nothing, and where the pause was taken out there is none.
    for (pause, opens) in [
        (2 * minute, None),
        (Duration::ZERO, Some(SystemTime::now() + minute)),
    ] {
        let took = alone(pause, within(opens)).await;
        assert!(took < 10 * SECOND, "{took:?}");
    }
}
