use std::path::Path;

use fedistill_federation::method::table;
use fedistill_learning::Architecture;
use fedistill_protocol::Elements;

use super::*;

const CLASSES: usize = 2;
const SAMPLES: usize = 40;

/// Samples of two values: the first is large in one class, the second in the other.
fn samples() -> Samples {
    let values = (0..SAMPLES).flat_map(|place| {
        let noise = (place * 7 % 9) as f32 / 20.0;
        match place % CLASSES {
            0 => [1.0 - noise, noise],
            _ => [noise, 1.0 - noise],
        }
    });
    Samples::new(vec![2], Elements::F32(values.collect())).unwrap()
}

/// The first `count` of them, with their labels or all of them wrong.
fn labelled(count: usize, is_right: bool) -> Dataset {
    let labels = (0..SAMPLES).map(|place| ((place + usize::from(!is_right)) % CLASSES) as u32);
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let all = Dataset::new(Path::new("two"), samples(), labels.collect(), classes).unwrap();
    all.select(&(0..count).collect::<Vec<_>>())
}

fn given(settings: &[&str]) -> Fusion {
    Fusion::of(&Given::read("feddf", &FEDDF, settings).unwrap())
}

/// A net, what it was as it began, and after how many steps it was kept, taught the right classes.
fn fused(fusion: Fusion, labelled: &Dataset, seed: u64) -> (Learner, Vec<f32>, u32) {
    let net = Architecture::MlpS.build(&[2], CLASSES, 3).unwrap();
    let mut centre = Learner::new(net);
    let before = centre.model().weights().to_vec();
    let logits = (0..SAMPLES).flat_map(|place| match place % CLASSES {
        0 => [2.0, -2.0],
        _ => [-2.0, 2.0],
    });
    let step = fusion.fuse(
        &mut centre,
        &Lesson {
            transfer: &samples(),
            rows: &(0..SAMPLES).collect::<Vec<_>>(),
            logits: &logits.collect::<Vec<f32>>(),
            temperature: 1.0,
            labelled,
            seed,
        },
    );
    (centre, before, step.unwrap())
}

fn accuracy(centre: &mut Learner) -> f64 {
    let all = labelled(SAMPLES, true);
    centre
        .evaluate(all.samples(), all.labels())
        .unwrap()
        .accuracy
}

#[test]
fn what_the_paper_says_is_the_default() {
    let paper = Fusion {
        rate: 1e-3,
        batch: 128,
        steps: 10_000,
        patience: 1000,
        validation: 200,
    };
    assert_eq!(given(&[]), paper);
    let other = given(&[
        "steps=5",
        "rate=0.5",
        "batch=7",
        "patience=3",
        "validation=0",
    ]);
    let expected = Fusion {
        rate: 0.5,
        batch: 7,
        steps: 5,
        patience: 3,
        validation: 0,
    };
    assert_eq!(other, expected);
}

#[test]
fn the_book_has_the_keys_as_they_are() {
    let book = include_str!("../../../../docs/operations.md");
    let table = table(&FEDDF);
    assert!(
        book.contains(&table),
        "docs/operations.md wants this table:\n{table}"
    );
}

#[test]
fn steps_shorten_along_half_a_cosine() {
    let fusion = given(&["rate=0.01", "steps=4"]);
    let rates = [0, 1, 2, 3].map(|step| fusion.rate(step));
    // 1, (1 + 0.5^0.5) / 2, 1/2 and (1 - 0.5^0.5) / 2 of it.
    for (rate, expected) in rates.iter().zip([0.01, 0.008_535_5, 0.005, 0.001_464_5]) {
        assert!((rate - expected).abs() < 1e-7, "{rates:?}");
    }
}

#[test]
fn each_step_is_as_long_as_its_rate() {
    let fusion = given(&["rate=0.01", "steps=3", "validation=0"]);
    let (fused, ..) = fused(fusion, &labelled(0, true), 1);
    // The same steps one by one: all samples are one batch, in another order each time.
    let net = Architecture::MlpS.build(&[2], CLASSES, 3).unwrap();
    let mut by_hand = Learner::new(net);
    by_hand.begin(Optimiser::AdamW {
        learning_rate: 0.01,
        weight_decay: 0.0,
    });
    let (mut order, mut noise) = (
        seed::stream(1, "fusion/order"),
        seed::stream(1, "fusion/noise"),
    );
    let terms = [LossTerm::new(
        Loss::Kl { temperature: 1.0 },
        Toward::Knowledge,
    )];
    for rate in [0.01, 0.0075, 0.0025] {
        let places = seed::permutation(SAMPLES, &mut order);
        let mut values = Vec::new();
        samples().gather(&places, &mut values);
        let logits = places.iter().flat_map(|place| match place % CLASSES {
            0 => [2.0, -2.0],
            _ => [-2.0, 2.0],
        });
        let logits: Vec<f32> = logits.collect();
        let soft = Targets::soft(AnswerKind::Logits, CLASSES, &logits);
        by_hand.pace(rate);
        by_hand
            .step(&values, &Objective::new(&terms, soft), &mut noise)
            .unwrap();
    }
    let pairs = fused
        .model()
        .weights()
        .iter()
        .zip(by_hand.model().weights());
    let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-6, "{apart}");
}

#[test]
fn the_ensemble_is_learnt_and_the_best_is_kept() {
    let fusion = given(&["rate=0.01", "batch=10", "steps=300"]);
    let (mut centre, before, step) = fused(fusion, &labelled(20, true), 1);
    assert!(accuracy(&mut centre) > 0.95);
    assert_ne!(centre.model().weights(), before);
    assert!(step > 0 && step % EVERY == 0, "{step}");
}

#[test]
fn an_average_that_fusion_makes_worse_stays_as_it_is() {
    // By labels that are all wrong each step is worse than none.
    let fusion = given(&["rate=0.01", "batch=10", "steps=300"]);
    let wrong = labelled(20, false);
    let (mut centre, before, step) = fused(fusion, &wrong, 1);
    let began = {
        let net = Architecture::MlpS.build(&[2], CLASSES, 3).unwrap();
        let mut learner = Learner::new(net);
        learner.evaluate(wrong.samples(), wrong.labels()).unwrap()
    };
    assert!(began.accuracy > 0.0, "the law below says nothing");
    assert_eq!((step, centre.model().weights()), (0, &before[..]));
    // Without labels the last step stands, better or worse.
    let (mut last, before, step) = fused(fusion, &labelled(0, true), 1);
    assert_eq!(step, 300);
    assert!(accuracy(&mut last) > accuracy(&mut centre));
    assert_ne!(last.model().weights(), before);
}

#[test]
fn who_is_no_longer_better_stops() {
    // All come out right early, and nothing is better than that.
    let patient = given(&["rate=0.01", "batch=10", "steps=100000", "patience=200"]);
    let (centre, _, step) = fused(patient, &labelled(20, true), 1);
    assert!((100..2000).contains(&step), "{step}");
    let again = fused(patient, &labelled(20, true), 1);
    assert_eq!(again.0.model().weights(), centre.model().weights());
    let other = fused(patient, &labelled(20, true), 2);
    assert_ne!(other.0.model().weights(), centre.model().weights());
}
