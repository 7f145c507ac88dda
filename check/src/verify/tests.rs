mod states;

use fedistill_client::journal::{Journal, Line, What};
use fedistill_coordinator::Outcome;
use fedistill_federation::Folded;
use fedistill_protocol::{Digest, Name};

use super::*;
use crate::ClientRecord;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn blob(of: &str, round: u32) -> Digest {
    Digest::of(format!("{of}/{round}").as_bytes())
}

fn id(round: u32, attempt: u32) -> RoundId {
    RoundId { round, attempt }
}

/// A try in which `ward-1` and `ward-2` took part.
fn closed(round: u32, attempt: u32, epoch: u64, committed: bool) -> Closed {
    let clients = || ["ward-1", "ward-2"].into_iter();
    Closed {
        id: id(round, attempt),
        epoch,
        at: 1000 * u64::from(round + 1),
        acknowledged: clients()
            .map(|client| (name(client), blob(client, round)))
            .collect(),
        late: BTreeMap::new(),
        outcome: committed.then(|| Outcome {
            contributors: clients().map(name).collect(),
            aggregate: Digest::of(b"sum"),
            teacher: None,
        }),
    }
}

fn line(what: What, round: u32, attempt: u32, epoch: u64) -> Line {
    let answer = matches!(what, What::Finished | What::Counted);
    Line {
        at: 0,
        epoch,
        asked_in: None,
        round,
        attempt,
        what,
        plan: (what != What::Counted).then(|| format!("plan {round}.{attempt}")),
        blob: answer.then(|| blob("ward-1", round).to_string()),
    }
}

/// Two rounds, the second at its second try and after a crash of both; a third is open.
fn sound() -> Records {
    let history = vec![
        closed(0, 0, 1, true),
        closed(1, 0, 1, false),
        closed(1, 1, 2, true),
    ];
    let taken = [(name("ward-1"), blob("ward-1", 2))].into();
    let lines = vec![
        line(What::Begun, 0, 0, 1),
        line(What::Finished, 0, 0, 1),
        line(What::Counted, 0, 0, 1),
        line(What::Begun, 1, 0, 1),
        line(What::Finished, 1, 0, 1),
        line(What::Counted, 1, 0, 1),
        line(What::Begun, 1, 1, 2),
        line(What::Resumed, 1, 1, 2),
        line(What::Finished, 1, 1, 2),
        line(What::Counted, 1, 1, 2),
        line(What::Begun, 2, 0, 2),
        line(What::Finished, 2, 0, 2),
        line(What::Counted, 2, 0, 2),
    ];
    Records {
        coordinator: Some(CoordinatorRecord {
            history,
            begins: 0,
            open: Some((id(2, 0), taken)),
            again: BTreeSet::new(),
            late: BTreeMap::new(),
            round: 2,
            over: false,
            epoch: 2,
            first: 1,
            rolled_back: 0,
        }),
        clients: vec![ClientRecord {
            name: "ward-1".to_owned(),
            lines,
        }],
    }
}

#[test]
fn a_sound_federation_with_crashes_is_found_sound() {
    let liveness = Liveness {
        quiet_since: 1500,
        within: 500,
    };
    let report = verify(&sound(), Some(liveness));
    assert_eq!(report.broken, []);
    assert_eq!(
        report.to_string(),
        "not verified: 3 contributions of 1 clients whose folders are not here: ward-2\n2 rounds came about, 1 tries were given up; 7 contributions acknowledged, 4 receipts in the journals of 1 clients; nothing lost, nothing counted twice, as far as these folders tell"
    );
}

/// As a coordinator leaves it whose `history` was full.
#[test]
fn what_a_coordinator_has_forgotten_is_not_verified_and_what_it_remembers_is() {
    let mut records = sound();
    let coordinator = records.coordinator.as_mut().unwrap();
    coordinator.history.remove(0);
    coordinator.begins = 1;
    let report = verify(&records, None);
    assert_eq!(report.broken, []);
    let told = report.to_string();
    for unknown in [
        "whether all rounds before round 1 came about: the coordinator's history begins with that one",
        "1 receipts of ward-1 from before round 1, with which the coordinator's history begins",
    ] {
        assert!(told.contains(unknown), "{told}");
    }
    // A gap, and a receipt that is lost, are told from what was forgotten.
    for (forgets, round, what) in [
        (1, 2, "round 1.1, of which the coordinator knows nothing"),
        (
            0,
            3,
            "1 rounds came about from round 1 on, and round 3 is next",
        ),
    ] {
        let mut records = records.clone();
        let coordinator = records.coordinator.as_mut().unwrap();
        coordinator.round = round;
        for closed in coordinator.history.iter_mut().filter(|_| forgets > 0) {
            closed.acknowledged.remove(&name("ward-1"));
        }
        let told = verify(&records, None).to_string();
        assert!(told.contains(what), "{told}");
    }
}

#[test]
fn with_all_folders_nothing_is_left_out() {
    let mut records = sound();
    let coordinator = records.coordinator.as_mut().unwrap();
    coordinator.late.insert(
        name("ward-2"),
        Folded {
            of: id(1, 1),
            blob: blob("ward-2", 7),
        },
    );
    for closed in &mut coordinator.history {
        closed.acknowledged.remove(&name("ward-2"));
        if let Some(outcome) = &mut closed.outcome {
            outcome.contributors.pop();
        }
    }
    let mut other = line(What::Finished, 1, 1, 2);
    other.blob = Some(blob("ward-2", 7).to_string());
    records.clients.push(ClientRecord {
        name: "ward-2".to_owned(),
        lines: vec![line(What::Begun, 1, 1, 2), other],
    });
    let report = verify(&records, None);
    assert_eq!((&report.broken, &report.unverified), (&vec![], &vec![]));
    // Three of rounds that are over, two of the open one.
    assert_eq!(report.acknowledged, 5);
    assert!(report.to_string().ends_with("nothing counted twice"));
}

#[test]
fn without_a_coordinator_nothing_is_said_of_what_counts() {
    let mut records = sound();
    records.coordinator = None;
    let liveness = Liveness {
        quiet_since: 0,
        within: 1,
    };
    let report = verify(&records, Some(liveness));
    assert_eq!(report.broken, []);
    assert_eq!(
        report.to_string(),
        "not verified: 4 receipts, and whether rounds came about: the coordinator's folder is not here\n4 receipts in the journals of 1 clients; nothing is wrong with them by themselves; whether anything is lost or counts twice was not looked at"
    );
}

/// What a coordinator says of a client is held against its journal as far back as that goes.
#[test]
fn a_journal_that_begins_late_is_not_asked_about_what_was_before() {
    let mut records = sound();
    let lines = &mut records.clients[0].lines;
    lines.drain(..3);
    let report = verify(&records, None);
    assert_eq!(report.broken, []);
    let before = "1 contributions of ward-1 from before its journal, which begins with round 1.0";
    assert!(
        report.unverified.contains(&before.to_owned()),
        "{:?}",
        report.unverified
    );
    records.clients[0].lines.clear();
    let report = verify(&records, None);
    assert_eq!(report.broken, []);
    let all = "4 contributions of ward-1, whose journal is empty";
    assert!(
        report.unverified.contains(&all.to_owned()),
        "{:?}",
        report.unverified
    );
}

/// The oldest lines of a journal are forgotten, be it in the middle of a round.
#[test]
fn a_journal_that_has_forgotten_its_first_lines_is_not_held_to_them() {
    let lines = (0..2 * Journal::LINES as u32).flat_map(|round| {
        [What::Begun, What::Finished, What::Counted].map(|what| line(what, round, 0, 1))
    });
    let lines = lines.skip(5).take(Journal::LINES as usize);
    let mut records = Records {
        coordinator: None,
        clients: vec![ClientRecord {
            name: "ward-1".to_owned(),
            lines: lines.collect(),
        }],
    };
    assert_eq!(records.clients[0].lines[0].what, What::Counted);
    assert_eq!(verify(&records, None).broken, []);
    // A shorter one has forgotten nothing.
    records.clients[0].lines.truncate(10);
    assert_eq!(verify(&records, None).broken.len(), 1);
}

/// The first round closed without `ward-1`, which was late for it and counts in the second.
fn late() -> Records {
    let mut records = sound();
    let coordinator = records.coordinator.as_mut().unwrap();
    let folded = Folded {
        of: id(0, 0),
        blob: blob("ward-1", 0),
    };
    let first = &mut coordinator.history[0];
    first.acknowledged.remove(&name("ward-1"));
    first.outcome.as_mut().unwrap().contributors = vec![name("ward-2")];
    let again = (name("ward-1"), folded);
    // In the try that was given up it counts nowhere.
    coordinator.history[1].late.extend([again.clone()]);
    coordinator.history[2].late.extend([again]);
    records
}

#[test]
fn a_late_contribution_counts_once() {
    assert_eq!(verify(&late(), None).broken, []);
    let broken = |records: &Records| {
        let broken = verify(records, None).broken;
        let promises = broken.iter().map(|broken| broken.invariant);
        promises.collect::<Vec<_>>()
    };
    // In the open round too, which is no news before it closes; then it is.
    let mut twice = late();
    let coordinator = twice.coordinator.as_mut().unwrap();
    let mut third = closed(2, 0, 2, true);
    third.late = coordinator.history[2].late.clone();
    coordinator.history.push(third);
    coordinator.round = 3;
    assert_eq!(broken(&twice), [Invariant::Once]);
    // In its own round too.
    let mut both = late();
    both.coordinator.as_mut().unwrap().history[0] = closed(0, 0, 1, true);
    assert_eq!(broken(&both), [Invariant::Once]);
    let mut forgotten = late();
    let coordinator = forgotten.coordinator.as_mut().unwrap();
    let held = std::mem::take(&mut coordinator.history[2].late);
    coordinator.history[1].late.clear();
    assert_eq!(broken(&forgotten), [Invariant::Acknowledged]);
    // The open round has it.
    forgotten.coordinator.as_mut().unwrap().late = held;
    assert_eq!(broken(&forgotten), []);
}

/// What breaks a sound federation, and the promises that are broken then.
type Fault = (
    &'static str,
    fn(&mut CoordinatorRecord, &mut Vec<Line>),
    &'static [Invariant],
);

const FAULTS: &[Fault] = &[
    (
        "a contribution that the open round forgot",
        |coordinator, _| coordinator.open.as_mut().unwrap().1.clear(),
        &[Invariant::Acknowledged],
    ),
    (
        "one that an aborted try forgot",
        |coordinator, _| {
            coordinator.history[1].acknowledged.remove(&name("ward-1"));
        },
        &[Invariant::Acknowledged],
    ),
    (
        "one that was acknowledged and is not counted",
        |coordinator, _| {
            coordinator.history[0]
                .outcome
                .as_mut()
                .unwrap()
                .contributors
                .pop();
        },
        &[Invariant::Acknowledged],
    ),
    (
        "another contribution than the client's",
        |coordinator, _| {
            let taken = &mut coordinator.history[0].acknowledged;
            taken.insert(name("ward-1"), blob("ward-1", 9));
        },
        &[Invariant::Acknowledged, Invariant::Given],
    ),
    (
        "another contribution than the client's, of which it has no receipt",
        |coordinator, lines| {
            lines.remove(2);
            let taken = &mut coordinator.history[0].acknowledged;
            taken.insert(name("ward-1"), blob("ward-1", 9));
        },
        &[Invariant::Given],
    ),
    (
        "a contribution to a round that the client never answered",
        |_, lines| {
            lines.drain(4..6);
        },
        &[Invariant::Given],
    ),
    (
        "one in the open round that is not the client's",
        |coordinator, lines| {
            lines.pop();
            let (_, taken) = coordinator.open.as_mut().unwrap();
            taken.insert(name("ward-1"), blob("ward-1", 9));
        },
        &[Invariant::Given],
    ),
    (
        "a late one that is not the client's",
        |coordinator, _| {
            let of = id(1, 0);
            let blob = blob("ward-1", 9);
            coordinator.late.insert(name("ward-1"), Folded { of, blob });
        },
        &[Invariant::Given],
    ),
    (
        "a client that is written twice in the open round",
        |coordinator, _| {
            coordinator.again.insert(name("ward-2"));
        },
        &[Invariant::Once],
    ),
    (
        "a client that counts twice",
        |coordinator, _| {
            let outcome = coordinator.history[0].outcome.as_mut().unwrap();
            outcome.contributors.push(name("ward-2"));
        },
        &[Invariant::Once],
    ),
    (
        "a client that counts and never gave anything",
        |coordinator, _| {
            let outcome = coordinator.history[0].outcome.as_mut().unwrap();
            outcome.contributors.push(name("ward-3"));
        },
        &[Invariant::Once],
    ),
    (
        "a round that came about twice",
        |coordinator, _| coordinator.history[1] = closed(1, 0, 1, true),
        &[Invariant::Gapless],
    ),
    (
        "a round that is missing",
        |coordinator, lines| {
            coordinator.history.remove(0);
            lines.drain(..3);
        },
        &[Invariant::Gapless],
    ),
    (
        "a state that is a round behind",
        |coordinator, _| coordinator.round = 1,
        &[Invariant::Gapless],
    ),
    (
        "two processes that took turns",
        |coordinator, _| coordinator.history[1].epoch = 3,
        &[Invariant::Fenced],
    ),
    (
        "a process that went on after its successor",
        |coordinator, _| coordinator.epoch = 1,
        &[Invariant::Fenced],
    ),
    (
        "a client that went back to an earlier epoch",
        |_, lines| lines[12].epoch = 1,
        &[Invariant::Forward],
    ),
    (
        "a client that went back to an earlier round",
        |_, lines| lines.push(line(What::Begun, 1, 2, 2)),
        &[Invariant::Forward],
    ),
    (
        "a client that trained again",
        |_, lines| lines.push(line(What::Begun, 2, 0, 2)),
        &[Invariant::OneAnswer],
    ),
    (
        "a client that gave two answers",
        |_, lines| {
            let mut other = line(What::Finished, 2, 0, 2);
            other.blob = Some(blob("ward-1", 9).to_string());
            lines.push(other);
        },
        &[Invariant::OneAnswer],
    ),
    (
        "a client that trained again for what came packed otherwise",
        |_, lines| {
            let mut otherwise = line(What::Begun, 2, 0, 3);
            otherwise.plan = Some("plan 2.0, packed otherwise".to_owned());
            lines.push(otherwise);
        },
        &[Invariant::OneAnswer],
    ),
    (
        "a client that gave another answer to what came packed otherwise",
        |_, lines| {
            let mut otherwise = line(What::Finished, 2, 0, 2);
            otherwise.plan = Some("plan 2.0, packed otherwise".to_owned());
            otherwise.blob = Some(blob("ward-1", 9).to_string());
            lines.push(otherwise);
        },
        &[Invariant::OneAnswer],
    ),
    (
        "a receipt of what was never given",
        |coordinator, lines| {
            lines.remove(11);
            coordinator.open.as_mut().unwrap().1.clear();
        },
        &[Invariant::Acknowledged, Invariant::OneAnswer],
    ),
];

#[test]
fn each_fault_breaks_its_promise_and_no_other() {
    for (what, fault, expected) in FAULTS {
        let mut records = sound();
        let coordinator = records.coordinator.as_mut().unwrap();
        fault(coordinator, &mut records.clients[0].lines);
        let broken = verify(&records, None).broken;
        let promises: BTreeSet<Invariant> = broken.iter().map(|broken| broken.invariant).collect();
        let expected = expected.iter().copied().collect();
        assert_eq!(promises, expected, "{what}: {broken:?}");
    }
}

#[test]
fn a_coordinator_that_is_put_back_may_ask_another_plan_under_the_same_number() {
    let mut records = sound();
    let lines = &mut records.clients[0].lines;
    for mut another in [line(What::Begun, 2, 0, 3), line(What::Finished, 2, 0, 3)] {
        another.plan = Some("another plan 2.0".to_owned());
        another.blob = another.blob.map(|_| blob("ward-1", 9).to_string());
        lines.push(another);
    }
    let broken = |rolled_back, records: &mut Records| {
        if let Some(coordinator) = &mut records.coordinator {
            (coordinator.epoch, coordinator.rolled_back) = (3, rolled_back);
        }
        verify(records, None).broken.len()
    };
    assert_eq!(broken(3, &mut records), 0);
    // It was put back before the first of them was answered: then this one is the same.
    assert_eq!(broken(2, &mut records), 2);
    // However often it was put back, one process asks one plan.
    for line in &mut records.clients[0].lines[10..] {
        line.epoch = 3;
    }
    assert_eq!(broken(4, &mut records), 2);
    for line in &mut records.clients[0].lines[13..] {
        line.epoch = 4;
    }
    // Nobody knows.
    records.coordinator = None;
    assert_eq!(broken(0, &mut records), 0);
}

#[test]
fn a_federation_that_stands_still_is_not_live() {
    let late = |quiet_since, within| {
        let liveness = Liveness {
            quiet_since,
            within,
        };
        let broken = verify(&sound(), Some(liveness)).broken;
        broken
            .iter()
            .any(|broken| broken.invariant == Invariant::Live)
    };
    assert!(late(1001, 998));
    assert!(!late(1001, 999));
    assert!(late(2001, u64::MAX));
    let mut over = sound();
    over.coordinator.as_mut().unwrap().over = true;
    let liveness = Liveness {
        quiet_since: 2001,
        within: 1,
    };
    assert_eq!(verify(&over, Some(liveness)).broken, []);
}
