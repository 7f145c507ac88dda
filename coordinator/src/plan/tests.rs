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
    let rows = (0..ROWS).flat_map(|row| {
        let class = (row * 7919 % 1009 + u32::from(changed && row % 4 == 0)) % CLASSES;
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

fn planned(common: Lesson, personal: Option<Lesson>, before: &[Sent]) -> Planned {
    planned_in(Version::LATEST, common, personal, before)
}

fn planned_in(
    words: Version,
    common: Lesson,
    personal: Option<Lesson>,
    before: &[Sent],
) -> Planned {
    let id = RoundId {
        round: 1,
        attempt: 0,
    };
    let ask = Ask {
        lessons: true,
        precision: None,
        updates: true,
        phases: Vec::new(),
        report: None,
    };
    let client: Name = "ward-7".parse().unwrap();
    let personal = personal.map(|lesson| (client.clone(), vec![lesson]));
    let state = State {
        common: vec![common],
        personal: personal.into_iter().collect(),
        ..State::default()
    };
    let cohort = BTreeMap::from([(client, 1)]);
    planner().plan(id, ask, &state, &cohort, before, words)
}

/// What a client of this version reads of its first lesson, and whether it comes as an update too.
fn read(planned: &Planned, client: Option<&str>, version: Version) -> (Answers, bool) {
    let client = client.map(|name| name.parse().unwrap());
    let plan = planned.of(client.as_ref(), version);
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
    let first = planned(named(false), Some(named(true)), &[]);
    for version in Version::ALL {
        let common = read(&first, None, version);
        assert_eq!(common, (named(false).answers, false));
        let own = read(&first, Some("ward-7"), version);
        assert_eq!(own, (named(true).answers, false));
    }
    let [latest, oldest] = Version::ALL.map(|version| first.of(None, version));
    assert_ne!(latest.knowledge[0].blob, oldest.knowledge[0].blob);
    // What has changed comes as an update to who can read it.
    let next = planned(named(true), None, &first.sent);
    for version in Version::ALL {
        let is_update = version == Version::LATEST;
        assert_eq!(read(&next, None, version), (named(true).answers, is_update));
    }
}

#[test]
fn what_all_can_read_is_one_plan() {
    let planned = planned(even(), None, &[]);
    assert!(planned.older.is_empty());
    assert_eq!(planned.blobs.len(), 1);
    let [latest, oldest] = Version::ALL.map(|version| planned.of(None, version));
    assert_eq!(latest, oldest);
}

/// As a program before this one has written it, which clients of either version can read.
#[test]
fn a_plan_in_older_words_is_the_one_that_clients_of_that_version_get() {
    let own = Some(named(true));
    let (new, old) = (
        planned(named(false), own.clone(), &[]),
        planned_in(Version::OLDEST, named(false), own, &[]),
    );
    assert!(old.older.is_empty());
    for version in Version::ALL {
        assert_eq!(old.of(None, version), new.of(None, Version::OLDEST));
        let personal = "ward-7".parse().unwrap();
        let [theirs, before] = [(&old, version), (&new, Version::OLDEST)]
            .map(|(planned, version)| planned.of(Some(&personal), version));
        assert_eq!(theirs, before);
        assert_eq!(read(&old, None, version), (named(false).answers, false));
    }
}
