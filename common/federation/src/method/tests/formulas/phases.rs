//! What clients train: losses, weights and passes.

use fedistill_protocol::{Loss, LossTerm, Start, Toward};

use super::*;

/// What a method asks, before and after it has taught something.
fn asked(name: &str) -> [Vec<Phase>; 2] {
    let method = named(name);
    let rows = Rows::Range { start: 0, count: 3 };
    let mut state = State::default();
    let before = method.ask(&outlook(&rows), &state).phases;
    let (about, kind) = match method.teaches() {
        Some(kind) => (About::Rows(rows.clone()), kind),
        None => (About::Classes, AnswerKind::Probabilities),
    };
    state.teach(about, answers(kind, &[0.5; 9]));
    [before, method.ask(&outlook(&rows), &state).phases]
}

/// The losses on private samples, before and after.
fn private_losses(name: &str) -> [Vec<LossTerm>; 2] {
    asked(name).map(|phases| {
        let private = phases.into_iter().find(|p| p.data == PhaseData::Private);
        private.unwrap().objective
    })
}

const LABELS: LossTerm = LossTerm::new(
    Loss::CrossEntropy {
        smoothing: Training::SMOOTHING,
    },
    Toward::Labels,
);

#[test]
fn clients_make_as_many_passes_as_they_are_told() {
    for entry in entries() {
        for phase in asked(entry.name).concat() {
            let expected = match (phase.data, entry.name) {
                (PhaseData::Private, _) => (3, 50),
                // The digest of its authors: one pass, 256 samples a step.
                (PhaseData::Transfer, "fedmd") => (1, 256),
                (PhaseData::Transfer, _) => (2, 50),
            };
            let found = (phase.epochs, phase.batch);
            assert_eq!(found, expected, "{} {:?}", entry.name, phase.data);
        }
    }
}

#[test]
fn before_anything_came_down_there_are_labels_alone() {
    for entry in entries() {
        let [before, _] = private_losses(entry.name);
        assert_eq!(before, [LABELS], "{}", entry.name);
    }
}

/// FD: CE + gamma CE(p, Fhat_y). FedProto and FedTGP: CE + lambda MSE(f, P_y). FedNTD: CE + beta NT-KL at tau against
/// the student before.
#[test]
fn what_came_down_is_added_to_private_losses_by_its_weight() {
    let to_classes = |loss| LossTerm::new(loss, Toward::Classes);
    let not_true = |temperature| LossTerm::new(Loss::NotTrue { temperature }, Toward::Before);
    for (name, term) in [
        ("fd", to_classes(Loss::SoftCrossEntropy)),
        (
            "fd,gamma=0.5",
            to_classes(Loss::SoftCrossEntropy).times(0.5),
        ),
        ("fedproto", to_classes(Loss::Features)),
        ("fedproto,lambda=0.1", to_classes(Loss::Features).times(0.1)),
        ("fedtgp", to_classes(Loss::Features).times(0.1)),
        ("fedntd", not_true(1.0)),
        ("fedntd,beta=0.5,temperature=3", not_true(3.0).times(0.5)),
    ] {
        let [_, after] = private_losses(name);
        assert_eq!(after, [LABELS, term], "{name}");
    }
}

/// FedMD (Li and Wang 2019): the digest is one pass of Adam at 0.001 with 256 samples a step, no decay, on the mean
/// absolute error of logits.
#[test]
fn fedmd_digests_as_its_authors_do() {
    let digest = Phase {
        start: Start::Continue,
        data: PhaseData::Transfer,
        only: None,
        epochs: 1,
        batch: 256,
        objective: vec![LossTerm::new(Loss::L1, Toward::Knowledge)],
        optimiser: Optimiser::AdamW {
            learning_rate: 0.001,
            weight_decay: 0.0,
        },
    };
    let [_, after] = asked("fedmd");
    assert_eq!(after[0], digest);
}

/// COMET: lambda weighs the divergence from the nearest mean, and nothing else. KT-pFL: that from the mix.
#[test]
fn lambda_weighs_distillation_alone() {
    for method in ["comet", "kt-pfl"] {
        let divergence = LossTerm::new(Loss::Kl { temperature: 1.0 }, Toward::Knowledge);
        for (name, weight) in [
            (method.to_owned(), 1.0),
            (format!("{method},lambda=2"), 2.0),
        ] {
            let [_, after] = asked(&name);
            assert_eq!(after[0].objective, [divergence.times(weight)], "{name}");
            assert_eq!(after[1].objective, [LABELS], "{name}");
        }
    }
}

/// CFD: the first phase of a round begins from parameters that all draw under the federation's seed.
#[test]
fn cfd_begins_each_round_from_common_parameters() {
    for (name, start) in [
        ("cfd", Start::Seeded(1)),
        ("cfd,start=0", Start::Continue),
        ("cfd,start=2", Start::Reset),
    ] {
        let [before, after] = asked(name);
        assert_eq!((before[0].start, after[0].start), (start, start), "{name}");
        assert_eq!(after[1].start, Start::Continue);
    }
}
