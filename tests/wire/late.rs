//! Contributions whose round is over.

use std::collections::BTreeMap;

use fedistill_coordinator::{Coordinator, FileStore, Settings, Store};
use fedistill_federation::{Folded, Late, method};
use fedistill_protocol::{Digest, Message, Refusal, RejectReason, RoundId};
use fedistill_tests::clinic::{classes, name, transfer};

use crate::puppet::{Puppet, rejection};
use crate::{ROWS, Run, coordinator, enter, said, settings};

#[tokio::test]
async fn who_is_late_counts_in_the_next_round_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let settings = Settings {
        rounds: 2,
        open_with: 2,
        rows: 10,
        late: Late::Fold { exponent: 0.5 },
        ..settings()
    };
    let store = Box::new(FileStore::open_at(&path).unwrap());
    let coordinator = Coordinator::new(settings, transfer(), None, store).unwrap();
    let (run, door) = Run::of(coordinator);
    let ([mut quick, mut slow], _) = enter(&door, ["quick", "slow"]).await;
    let round = |round| RoundId { round, attempt: 0 };
    let said = |value: f32| said([value, -value], 10);
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
    run.end().await;
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

/// The coordinator was started again meanwhile, and an answer is given again only where its plan is heard again.
#[tokio::test]
async fn who_is_late_is_asked_again_by_a_coordinator_that_was_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let begin = || {
        let settings = Settings {
            rounds: 2,
            open_with: 2,
            rows: 10,
            late: Late::Fold { exponent: 0.5 },
            ..settings()
        };
        let store = Box::new(FileStore::open_at(&path).unwrap());
        Run::of(Coordinator::new(settings, transfer(), None, store).unwrap())
    };
    let round = |round| RoundId { round, attempt: 0 };
    let said = said([0.5, -0.5], 10);
    let bytes = said.len() as u64;
    let (run, door) = begin();
    let ([mut quick, _slow], _) = enter(&door, ["quick", "slow"]).await;
    quick.contribute(round(0), bytes, said.clone()).await;
    assert!(matches!(quick.next().await, Message::Plan(plan) if plan.id == round(1)));
    run.end().await;

    let (run, door) = begin();
    let ([mut slow], asked) = enter(&door, ["slow"]).await;
    assert_eq!(asked, round(0));
    let receipt = slow.contribute(asked, bytes, said.clone()).await;
    assert!(
        matches!(receipt, Message::Receipt(receipt) if receipt.id == asked),
        "{receipt:?}"
    );
    drop(slow);
    // What counts is not asked for again: who has its receipt would take that for a state that was lost.
    let mut slow = Puppet::connect(&door, "slow", classes()).await;
    assert!(matches!(slow.next().await, Message::Welcome(_)));
    let ([mut quick], asked) = enter(&door, ["quick"]).await;
    assert_eq!(asked, round(1));
    quick.contribute(asked, bytes, said).await;
    assert!(matches!(slow.next().await, Message::Plan(plan) if plan.id == round(2)));
    run.end().await;
    let history = FileStore::look_at(&path).unwrap().history().unwrap();
    assert_eq!(history[1].late[&name("slow")].of, round(0));
}

/// Its receipt was lost, with its connection or with the coordinator.
#[tokio::test]
async fn who_sends_again_what_counts_in_the_last_round_gets_the_same_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.redb");
    let begin = || {
        let settings = Settings {
            rounds: 3,
            ..settings()
        };
        let store = Box::new(FileStore::open_at(&path).unwrap());
        Run::of(Coordinator::new(settings, transfer(), None, store).unwrap())
    };
    let (run, door) = begin();
    let ([mut client], first) = enter(&door, ["ward"]).await;
    let (answer, other) = (said([0.5, -0.5], ROWS), said([1.5, -1.5], ROWS));
    let bytes = answer.len() as u64;
    let receipt = client.contribute(first, bytes, answer.clone()).await;
    assert!(matches!(receipt, Message::Receipt(_)), "{receipt:?}");
    let next = RoundId {
        round: 1,
        attempt: 0,
    };
    assert!(matches!(client.next().await, Message::Plan(plan) if plan.id == next));
    assert_eq!(
        client.contribute(first, bytes, answer.clone()).await,
        receipt
    );
    let (reason, _) = rejection(client.contribute(first, bytes, other.clone()).await);
    assert_eq!(reason, RejectReason::WrongRound);
    run.end().await;

    let (run, door) = begin();
    let ([mut client], open) = enter(&door, ["ward"]).await;
    assert_eq!(open, next);
    let mut stranger = Puppet::connect(&door, "nurse", classes()).await;
    assert!(matches!(stranger.next().await, Message::Welcome(_)));
    assert_eq!(
        client.contribute(first, bytes, answer.clone()).await,
        receipt
    );
    // It counts for whose it is.
    rejection(stranger.contribute(first, bytes, answer).await);
    rejection(client.contribute(first, bytes, other).await);
    run.end().await;
}

#[test]
fn methods_that_look_at_each_contribution_fold_none() {
    let settings = Settings {
        method: method::by_name("fd").unwrap().into(),
        late: Late::Fold { exponent: 0.5 },
        ..settings()
    };
    let error = coordinator(settings.clone());
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
    let error = coordinator(settings);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("make them smaller"), "{error}");
}

/// What it folded is given up with its try, but the receipt is out.
#[tokio::test]
async fn who_is_late_gives_no_other_answer_where_the_try_that_took_it_in_is_given_up() {
    let (_run, door) = Run::of(
        coordinator(Settings {
            rounds: 2,
            open_with: 2,
            late: Late::Fold { exponent: 0.5 },
            attempts: Some(2),
            ..settings()
        })
        .unwrap(),
    );
    let ([mut quick, mut slow], before) = enter(&door, ["quick", "slow"]).await;
    let said = |value: f32| said([value, -value], ROWS);
    let bytes = said(0.5).len() as u64;
    let receipt = quick.contribute(before, bytes, said(0.5)).await;
    assert!(matches!(receipt, Message::Receipt(_)), "{receipt:?}");
    let next = RoundId {
        round: 1,
        attempt: 0,
    };
    assert!(matches!(quick.next().await, Message::Plan(plan) if plan.id == next));
    let receipt = slow.contribute(before, bytes, said(1.5)).await;
    assert!(
        matches!(&receipt, Message::Receipt(receipt) if receipt.id == before),
        "{receipt:?}"
    );
    // Nobody is left who could contribute to this one.
    let why = "busy".to_owned();
    let refusal = Refusal { id: next, why };
    quick.frames.writer.send(&refusal.into()).await.unwrap();
    let again = RoundId { attempt: 1, ..next };
    assert!(matches!(quick.next().await, Message::Plan(plan) if plan.id == again));
    // It is done, and so is asked like any other.
    assert!(matches!(slow.next().await, Message::Plan(plan) if plan.id == again));
    rejection(slow.contribute(before, bytes, said(2.5)).await);
}
