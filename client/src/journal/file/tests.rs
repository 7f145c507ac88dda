use std::sync::Arc;

use fedistill_protocol::{Digest, RoundId};

use super::*;
use crate::agent::tests::plan;
use crate::journal::{Begun, Finished};

fn names() -> (Name, Name) {
    ("clinic".parse().unwrap(), "ward-7".parse().unwrap())
}

fn open(path: &Path) -> (Journal, Kept) {
    let (federation, name) = names();
    Journal::open(path, &federation, &name).unwrap()
}

fn finished(round: u32, packed: &[u8]) -> Finished {
    Finished {
        id: RoundId { round, attempt: 0 },
        epoch: 3,
        plan: plan(round).identity().unwrap(),
        blob: Digest::of(packed),
        packed: packed.into(),
        counted: false,
    }
}

fn progress(phase: u32) -> Progress {
    Progress {
        phase,
        epochs: 2,
        noise: u128::MAX,
        began: vec![1],
        now: vec![2, phase as u8],
    }
}

#[test]
fn what_is_kept_comes_back_to_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, kept) = open(&path);
    assert_eq!(kept, Kept::default());
    let asked = Arc::new(plan(4));
    journal.keep(&Entry::Epoch(3)).unwrap();
    journal.keep(&Entry::Begun(Arc::clone(&asked))).unwrap();
    assert_eq!(journal.resume(&asked).unwrap(), None);
    journal.checkpoint(&asked, &progress(0)).unwrap();
    journal.checkpoint(&asked, &progress(1)).unwrap();
    drop(journal);

    // Killed in the middle: another plan does not go on from there, this one does.
    let (journal, kept) = open(&path);
    assert_eq!((kept.epoch, kept.student), (3, Some(vec![2, 1])));
    let begun = Begun {
        id: asked.id,
        plan: asked.identity().unwrap(),
    };
    assert_eq!(kept.begun, Some(begun));
    assert_eq!(journal.resume(&plan(5)).unwrap(), None);
    let mut changed = plan(4);
    changed.seed += 1;
    assert_eq!(journal.resume(&changed).unwrap(), None);
    journal.keep(&Entry::Begun(Arc::clone(&asked))).unwrap();
    assert_eq!(journal.resume(&asked).unwrap(), Some(progress(1)));
    let answer = finished(4, b"answer");
    journal.keep(&Entry::Finished(answer.clone())).unwrap();
    drop(journal);

    let (journal, kept) = open(&path);
    assert_eq!(kept.finished, Some(answer.clone()));
    assert_eq!((kept.begun, kept.student), (None, Some(vec![2, 1])));
    assert_eq!(journal.resume(&asked).unwrap(), None);
    let counted = Entry::Counted {
        id: answer.id,
        blob: answer.blob,
    };
    journal.keep(&counted).unwrap();
    let what: Vec<(What, u64)> = journal
        .history()
        .unwrap()
        .into_iter()
        .map(|line| (line.what, line.epoch))
        .collect();
    let lines = [What::Begun, What::Resumed, What::Finished, What::Counted];
    assert_eq!(what, lines.map(|what| (what, 3)));
    drop(journal);
    let (_, kept) = open(&path);
    let counted = Finished {
        counted: true,
        ..answer
    };
    assert_eq!(kept.finished, Some(counted));
}

#[test]
fn a_line_says_who_asked_where_that_is_not_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&folder.path().join("journal.redb"));
    for epoch in [3, 4] {
        journal.keep(&Entry::Epoch(epoch)).unwrap();
        journal
            .keep(&Entry::Finished(finished(4, b"answer")))
            .unwrap();
    }
    let lines = journal.history().unwrap();
    let epochs: Vec<_> = lines
        .iter()
        .map(|line| (line.epoch, line.asked_in))
        .collect();
    assert_eq!(epochs, [(3, None), (4, Some(3))]);
}

#[test]
fn a_plan_that_is_begun_makes_an_older_ones_progress_void() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&folder.path().join("journal.redb"));
    journal.checkpoint(&plan(4), &progress(1)).unwrap();
    journal.keep(&Entry::Begun(Arc::new(plan(5)))).unwrap();
    assert_eq!(journal.resume(&plan(4)).unwrap(), None);
    assert_eq!(journal.resume(&plan(5)).unwrap(), None);
}

#[test]
fn a_journal_is_one_client_s_and_one_process_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    assert!(Journal::look_at(&path).is_err());
    let (journal, _) = open(&path);
    let (federation, name) = names();
    assert!(matches!(
        Journal::open(&path, &federation, &name),
        Err(JournalError::InUse { .. })
    ));
    assert_eq!(journal.client().unwrap(), "ward-7");
    drop(journal);
    let other: Name = "ward-8".parse().unwrap();
    let error = Journal::open(&path, &federation, &other)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ward-7") && error.contains("state folder of its own"),
        "{error}"
    );
    // It still is whose it was.
    open(&path);
}

#[test]
fn an_answer_that_was_damaged_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, _) = open(&path);
    let mut answer = finished(4, b"answer");
    answer.packed = Arc::from(&b"another"[..]);
    journal.keep(&Entry::Finished(answer)).unwrap();
    drop(journal);
    let (federation, name) = names();
    let error = Journal::open(&path, &federation, &name).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn what_counts_is_the_answer_to_that_round_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, _) = open(&path);
    let answer = finished(4, b"answer");
    journal.keep(&Entry::Finished(answer.clone())).unwrap();
    let before = Entry::Counted {
        id: plan(3).id,
        blob: answer.blob,
    };
    journal.keep(&before).unwrap();
    drop(journal);
    assert_eq!(open(&path).1.finished, Some(answer));
}

#[test]
fn of_a_long_history_the_oldest_lines_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&folder.path().join("journal.redb"));
    let begin = |round| journal.keep(&Entry::Begun(Arc::new(plan(round)))).unwrap();
    begin(0);
    begin(1);
    // As if all between had been there.
    let transaction = journal.database.write().unwrap();
    {
        let mut history = transaction.open_table(HISTORY).unwrap();
        let line = history.get(1).unwrap().unwrap().value().to_vec();
        history.insert(Journal::LINES - 2, line.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    let rounds = || -> Vec<u32> {
        let history = journal.history().unwrap();
        history.iter().map(|line| line.round).collect()
    };
    begin(2);
    assert_eq!(rounds(), [0, 1, 1, 2]);
    begin(3);
    assert_eq!(rounds(), [1, 1, 2, 3]);
}

#[test]
fn a_journal_says_of_which_format_it_is() {
    const FORMATS: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(&folder.path().join("journal.redb"));
    let transaction = journal.database.read().unwrap();
    let formats = transaction.open_table(FORMATS).unwrap();
    let format = formats.get("format").unwrap().map(|format| format.value());
    assert_eq!(format, Some(FORMAT));
}
