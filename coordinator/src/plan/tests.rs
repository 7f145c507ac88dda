use fedistill_protocol::{About, AnswerKind, Optimiser};

use super::*;

const ROWS: u32 = 1000;
const CLASSES: u32 = 100;

fn planner() -> Planner {
    Planner {
        federation: "clinic".parse().unwrap(),
        transfer: Digest::of(b"set"),
        samples: ROWS,
        classes: CLASSES,
        rows: ROWS,
        precision: Precision::U8,
        rounding: Rounding::Nearest,
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
        seed: 1,
        deadline_ms: 1000,
        hidden: None,
    }
}

/// Each row names one class; `changed` another one in each fourth row.
fn named(changed: bool) -> Lesson {
    named_since(u32::from(changed))
}

/// Each row names one class; in each of so many changes one row of four names another one.
fn named_since(changes: u32) -> Lesson {
    named_as(|row| u32::from(row % 4 < changes))
}

/// Each row names one class, so many after its first one.
fn named_as(later: impl Fn(u32) -> u32) -> Lesson {
    let rows = (0..ROWS).flat_map(|row| {
        let class = (row * 7919 % 1009 + later(row)) % CLASSES;
        (0..CLASSES).map(move |at| f32::from(u8::from(at == class)))
    });
    Lesson {
        about: About::Rows(Rows::Range {
            start: 0,
            count: ROWS,
        }),
        answers: Answers::new(AnswerKind::Probabilities, CLASSES, rows.collect()).unwrap(),
    }
}

/// Even in most classes: as all versions write them.
fn even() -> Lesson {
    let answers = vec![1.0 / CLASSES as f32; (ROWS * CLASSES) as usize];
    Lesson {
        answers: Answers::new(AnswerKind::Probabilities, CLASSES, answers).unwrap(),
        ..named(false)
    }
}

fn ask() -> Ask {
    Ask {
        lessons: true,
        precision: None,
        updates: true,
        phases: Vec::new(),
        report: None,
    }
}

/// The plan as this client gets it.
fn of(planned: &Planned, client: Option<&Name>, version: Version) -> RoundPlan {
    let which = client.and_then(|client| planned.personal.get(client));
    planned.with(
        which.map(|which| planned.others[*which].as_slice()),
        version,
    )
}

/// After a round with this plan, whose lessons these clients hold.
fn after(planned: &Planned, held_by: &[&str]) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.turn(planned.sent.clone(), names(held_by));
    exchange
}

fn names(clients: &[&str]) -> BTreeSet<Name> {
    clients.iter().map(|name| name.parse().unwrap()).collect()
}

fn planned(common: Lesson, personal: Option<Lesson>, before: &Exchange) -> Planned {
    planned_in(Version::LATEST, common, personal, before)
}

fn planned_in(
    words: Version,
    common: Lesson,
    personal: Option<Lesson>,
    before: &Exchange,
) -> Planned {
    let id = RoundId {
        round: 1,
        attempt: 0,
    };
    let client: Name = "ward-7".parse().unwrap();
    let personal = personal.map(|lesson| (client.clone(), vec![lesson]));
    let state = State {
        common: vec![common],
        personal: personal.into_iter().collect(),
        ..State::default()
    };
    let cohort = BTreeMap::from([(client, 1)]);
    planner().plan(id, ask(), &state, &cohort, before, words)
}

/// What a client of this version reads of its first lesson, and whether it comes as an update too.
fn read(planned: &Planned, client: Option<&str>, version: Version) -> (Answers, bool) {
    let client = client.map(|name| name.parse().unwrap());
    let plan = of(planned, client.as_ref(), version);
    let knowledge = &plan.knowledge[0];
    let blob = |name: Digest, bytes: u64| {
        let found = planned.blobs.iter().find(|blob| Digest::of(blob) == name);
        let found = found.expect("it is offered");
        assert_eq!(found.len() as u64, bytes);
        found
    };
    let bytes = blob(knowledge.blob, knowledge.bytes);
    assert!(Answers::is_known_to(version, bytes), "{version}");
    if let Some(update) = knowledge.update {
        let bytes = blob(update.blob, update.bytes);
        assert!(Answers::is_update_known_to(version, bytes), "{version}");
    }
    (Answers::read(bytes).unwrap(), knowledge.update.is_some())
}

#[test]
fn clients_of_each_version_get_what_they_can_read() {
    let first = planned(named(false), Some(named(true)), &Exchange::default());
    for version in Version::ALL {
        let common = read(&first, None, version);
        assert_eq!(common, (named(false).answers, false));
        let own = read(&first, Some("ward-7"), version);
        assert_eq!(own, (named(true).answers, false));
    }
    let [latest, oldest] = Version::ALL.map(|version| of(&first, None, version));
    assert_ne!(latest.knowledge[0].blob, oldest.knowledge[0].blob);
    // What has changed comes as an update to who can read it.
    let next = planned(named(true), None, &after(&first, &[]));
    for version in Version::ALL {
        let is_update = version == Version::LATEST;
        assert_eq!(read(&next, None, version), (named(true).answers, is_update));
    }
}

#[test]
fn what_all_can_read_is_one_plan() {
    let planned = planned(even(), None, &Exchange::default());
    assert!(planned.older.is_empty());
    assert_eq!(planned.blobs.len(), 1);
    let [latest, oldest] = Version::ALL.map(|version| of(&planned, None, version));
    assert_eq!(latest, oldest);
}

/// As a program before this one has written it, which clients of either version can read.
#[test]
fn a_plan_in_older_words_is_the_one_that_clients_of_that_version_get() {
    let own = Some(named(true));
    let (new, old) = (
        planned(named(false), own.clone(), &Exchange::default()),
        planned_in(Version::OLDEST, named(false), own, &Exchange::default()),
    );
    assert!(old.older.is_empty());
    for version in Version::ALL {
        assert_eq!(of(&old, None, version), of(&new, None, Version::OLDEST));
        let personal = "ward-7".parse().unwrap();
        let [theirs, before] = [(&old, version), (&new, Version::OLDEST)]
            .map(|(planned, version)| of(planned, Some(&personal), version));
        assert_eq!(theirs, before);
        assert_eq!(read(&old, None, version), (named(false).answers, false));
    }
}

/// Three rounds are over, each of which has changed a quarter of the rows: the first was "ward-1"'s last, the second "ward-2"'s
/// and "ward-3"'s, the third "ward-7"'s.
fn missed() -> (Vec<Planned>, Exchange) {
    let mut exchange = Exchange::default();
    let held_by: [&[&str]; 3] = [
        &["ward-1", "ward-2", "ward-7"],
        &["ward-2", "ward-3"],
        &["ward-7"],
    ];
    let plans = (0..).zip(held_by).map(|(round, held_by)| {
        let planned = planned(named_since(round), None, &exchange);
        exchange.turn(planned.sent.clone(), names(held_by));
        planned
    });
    (plans.collect(), exchange)
}

fn next(exchange: &Exchange, cohort: &[&str]) -> Planned {
    let state = State {
        common: vec![named_since(3)],
        ..State::default()
    };
    let cohort = names(cohort).into_iter().map(|name| (name, 1)).collect();
    let id = RoundId {
        round: 4,
        attempt: 0,
    };
    planner().plan(id, ask(), &state, &cohort, exchange, Version::LATEST)
}

#[test]
fn who_has_missed_rounds_gets_what_has_changed_since() {
    let (before, exchange) = missed();
    let planned = next(
        &exchange,
        &["ward-1", "ward-2", "ward-3", "ward-7", "ward-9"],
    );
    let way = |client: &str| {
        let plan = of(&planned, Some(&client.parse().unwrap()), Version::LATEST);
        assert!(plan.asks_the_same(&planned.plan), "{client}");
        assert_eq!(plan.identity().unwrap(), planned.plan.identity().unwrap());
        plan.knowledge[0].update.unwrap()
    };
    let clients = ["ward-1", "ward-2", "ward-7", "ward-9"];
    let [first, second, third, stranger] = clients.map(way);
    for (update, before) in [first, second, third].iter().zip(&before) {
        let Sent { blob, lesson } = &before.sent[0];
        assert_eq!(update.base, *blob);
        let offered = |blob: &&Vec<u8>| Digest::of(blob) == update.blob;
        let bytes = planned.blobs.iter().find(offered).unwrap();
        assert_eq!(bytes.len() as u64, update.bytes);
        let there = lesson.answers.updated(bytes).unwrap();
        assert_eq!(there, planned.sent[0].lesson.answers);
        assert!(planned.last_blobs().contains(&update.blob));
    }
    assert!(first.bytes > second.bytes && second.bytes > third.bytes);
    assert!(first.bytes < planned.plan.knowledge[0].bytes);
    // What nobody is known to hold leads nowhere, and is not worked out twice.
    assert_eq!((stranger, way("ward-3")), (third, second));
    assert_eq!((planned.others.len(), planned.personal.len()), (2, 3));
    let of_holders_alone = next(&exchange, &["ward-7", "ward-9"]);
    assert!(of_holders_alone.others.is_empty());
    assert_eq!(of_holders_alone.last_blobs().len(), 2);
}

/// A client for each round of which it was the last, and a fifteenth of the rows changes in each: the longest ways together
/// would take fifteen times the whole.
#[test]
fn ways_for_who_has_missed_rounds_take_a_few_times_the_room_of_all() {
    let client = |round: u32| format!("ward-{round}");
    let clients: Vec<String> = (0..25).map(client).collect();
    let mut exchange = Exchange::default();
    for (round, client) in (0..).zip(&clients) {
        let changed = |row| (0..=round).filter(|r| r % 15 == row % 15).count() as u32;
        let planned = planned(named_as(changed), None, &exchange);
        exchange.turn(planned.sent, names(&[client]));
    }
    let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
    let planned = next(&exchange, &clients);
    let whole = planned.plan.knowledge[0].bytes;
    let updates = planned.others.iter().flatten();
    let room: u64 = updates.map(|one| one.update.unwrap().bytes).sum();
    assert!(room <= MOST_OTHER_WAYS * whole, "{room} of {whole}");
    assert!(room > (MOST_OTHER_WAYS - 1) * whole, "{room} of {whole}");
}

#[test]
fn who_has_missed_rounds_and_cannot_read_what_has_changed_gets_all() {
    // All versions write the whole alike, and some rows of it not.
    let some_named = |named: &Lesson, even: &Lesson| {
        let first = 100 * CLASSES as usize;
        let (named, even) = (named.answers.values(), even.answers.values());
        let values = [&named[..first], &even[first..]].concat();
        Answers::new(AnswerKind::Probabilities, CLASSES, values).unwrap()
    };
    let before = even();
    let now = Lesson {
        answers: some_named(&named(false), &before),
        ..even()
    };
    let mut exchange = Exchange::default();
    for (lesson, held_by) in [(before, ["ward-7"]), (now.clone(), ["ward-1"])] {
        let planned = planned(lesson, None, &exchange);
        exchange.turn(planned.sent, names(&held_by));
    }
    let planned = planned(now, None, &exchange);
    assert!(planned.older.is_empty() && planned.differs_by_version());
    assert!(read(&planned, Some("ward-7"), Version::LATEST).1);
    assert!(!read(&planned, Some("ward-7"), Version::OLDEST).1);
    assert!(read(&planned, None, Version::OLDEST).1);
}
