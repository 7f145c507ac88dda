use std::path::Path;

use fedistill_federation::State;
use fedistill_learning::{Dataset, Samples};
use fedistill_protocol::Elements;

use super::*;
use crate::config::Config;
use crate::{Journal, RoundRow, View};

fn world() -> World {
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let data = |count: usize| {
        let values = (0..4 * count).map(|value| (value * 37 % 251) as u8);
        let samples = Samples::new(vec![4], Elements::U8(values.collect())).unwrap();
        let labels = (0..count as u32).map(|index| index % 2).collect();
        Dataset::new(Path::new("small"), samples, labels, classes.clone()).unwrap()
    };
    let train = Arc::new(data(8));
    let view = |client: usize| View::new(Arc::clone(&train), [client, client + 4]).unwrap();
    World {
        labelled: data(1),
        labelled_groups: None,
        probes: None,
        transfer: data(8).samples().clone(),
        private: (0..2).map(view).collect(),
        held_out: Vec::new(),
        test: Arc::new(data(4)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federation_whose_last_round_was_kept_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        clients: 2,
        rounds: 1,
        samples: 8,
        transport: Transport::Memory,
        out: folder.path().to_owned(),
        checkpoint_seconds: 0,
        ..Config::default()
    };
    let (world, journal) = (world(), Journal::begin(&config).unwrap());
    for method in ["local", "logit-mean"] {
        let plan = config.plan(method).unwrap();
        let students = keep_students(&world, &plan).unwrap();
        students.save(0, &vec![0.5; 450]).unwrap();
        let mut state = State::default();
        if method != "local" {
            use fedistill_protocol::{About, AnswerKind, Rows};
            let answers = Answers::new(AnswerKind::Logits, 2, vec![0.5; 16]).unwrap();
            state.teach(About::Rows(Rows::of((0..8).collect())), answers);
        }
        // The closing distillation of a method with lessons counts too.
        let rounds = 1 + u32::from(state.teaches());
        let rows = (0..rounds).map(|round| RoundRow {
            round,
            seconds: 2.0,
            ..RoundRow::default()
        });
        let seen = Seen::after(rows.collect(), 2);
        let saved = Saved {
            round: rounds,
            over: true,
            state,
            ..Saved::default()
        };
        let mut stage = journal.stage(method);
        stage.keep(&saved, &seen, &students).unwrap();
        let resumed = simulate_kept(
            &world,
            &plan,
            None,
            Progress::silent(),
            Some(journal.stage(method)),
        );
        let resumed = tokio::time::timeout(Duration::from_secs(60), resumed).await;
        let outcome = resumed
            .expect("it waits for a federation that is over")
            .unwrap();
        assert_eq!(outcome.rounds.len(), rounds as usize);
        assert_eq!(outcome.seconds, 2.0 * f64::from(rounds));
        assert_eq!(outcome.digest, students.digest().unwrap().1.to_string());
    }
}

#[test]
fn a_round_of_all_clients_leaves_nobody_out() {
    use fedistill_federation::Asked;
    let asked = |cohort| Asked::of(cohort, most_asked(cohort, 10));
    assert_eq!(
        [1, 9, 10].map(asked),
        [Asked::Some, Asked::Some, Asked::All]
    );
}
