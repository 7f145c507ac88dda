//! Every key of every method does something, and every setting that a method says it heeds.

use std::fmt::Write as _;

use fedistill_protocol::{Loss, LossTerm, Rounding, Toward};

use super::*;
use crate::method::parameter::Parameter;

/// A sample's class is its row modulo 3.
const SAMPLES: u32 = 60;

/// What the user says beside the name of a method.
#[derive(Clone, Debug)]
struct Said {
    training: Training,
    precision: Precision,
    rounding: Rounding,
    samples: u32,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            training: TRAINING,
            precision: Precision::U1,
            rounding: Rounding::Nearest,
            samples: 20,
        }
    }
}

/// A teacher that is right about so many of every 10 samples; what it is taught, and for how long, is
/// written down.
struct Listener<'a> {
    right: u32,
    is_trained: bool,
    training: &'a Training,
    heard: String,
}

impl Centre for Listener<'_> {
    fn answer(&mut self, rows: &Rows) -> Result<Answers, CentreError> {
        let values = rows.iter().flat_map(|row| {
            let class = row % 3 + u32::from(row * 7 % 10 >= self.right);
            let mut logits = [-0.9, -1.1, -1.0];
            logits[class as usize % 3] = 1.5 + 0.1 * (row % 7) as f32;
            logits
        });
        Ok(Answers::new(AnswerKind::Logits, 3, values.collect())?)
    }

    fn learn(&mut self, rows: &Rows, labels: &Answers) -> Result<(), CentreError> {
        let epochs = self.training.distillation_epochs;
        let _ = write!(self.heard, "{rows:?} {labels:?} {epochs}");
        Ok(())
    }

    fn is_trained(&self) -> bool {
        self.is_trained
    }
}

/// What a client gives back: right about some samples, wrong about others, silent about few.
fn given_back(client: u32, round: u32, wanted: &Wanted) -> Answers {
    let count = wanted.about.count(3);
    let rows: Vec<u32> = match &wanted.about {
        About::Rows(rows) => rows.iter().collect(),
        About::Classes => (0..count).collect(),
    };
    let width = wanted.width.unwrap_or(3);
    let values = rows.iter().flat_map(|row| {
        let class = row % 3 + u32::from((row * 3 + client * 4) % 10 >= 7);
        let is_silent = (row + client) % 11 == 10;
        let logits = (0..width).map(move |at| {
            let noise = ((row * 31 + at * 17 + client * 7 + round * 5) % 23) as f32 / 8.0;
            noise + if at == class % 3 { 2.0 } else { 0.0 }
        });
        let logits: Vec<f32> = logits.collect();
        match wanted.kind {
            _ if is_silent => vec![0.0; width as usize],
            AnswerKind::Probabilities => softmax(&logits, 1.0),
            // One wild value, which clipping would notice.
            AnswerKind::Logits if *row == 5 => [70.0, -3.0, 1.0].to_vec(),
            _ => logits,
        }
    });
    Answers::new(wanted.kind, width, values.collect()).unwrap()
}

/// All that six rounds ask, teach and note, in words, with a bad, a middling and a good teacher.
fn trace(name: &str, said: &Said) -> String {
    trace_at(AtCentre::Measured, name, said)
}

/// The same with this at the centre.
fn trace_at(at: AtCentre, name: &str, said: &Said) -> String {
    [1, 6, 10]
        .map(|right| trace_under(at, name, said, right))
        .concat()
}

fn trace_under(at: AtCentre, name: &str, said: &Said, right: u32) -> String {
    let method = named(name);
    let fresh = Rows::Range {
        start: 0,
        count: said.samples,
    };
    let hidden = Rows::Range {
        start: 40,
        count: 20,
    };
    let labels = hidden.iter().map(|row| row % 3).collect();
    let probes = Probes::new(hidden, labels, None).unwrap();
    let mut state = State::default();
    let mut text = String::new();
    let mut teacher = Listener {
        right,
        is_trained: at >= AtCentre::Trained,
        training: &said.training,
        heard: String::new(),
    };
    for round in 0..6 {
        let outlook = Outlook {
            round,
            training: &said.training,
            fresh: &fresh,
            fixed: &fresh,
            samples: SAMPLES,
            probes: (at == AtCentre::Measured).then_some(&probes),
            precision: said.precision,
            seed: 1,
        };
        let is_there = at > AtCentre::Nobody;
        if round == 0 {
            let centre = is_there.then_some(&mut teacher as &mut dyn Centre);
            method.begin(&outlook, centre, &mut state).unwrap();
        }
        let mut ask = method.ask(&outlook, &state);
        // As the driver fills in what a method leaves open.
        if ask.lessons {
            ask.precision.get_or_insert(said.precision);
        }
        let (mut sum, mut each) = (Partial::new(0, 0), BTreeMap::new());
        if let Some(wanted) = &mut ask.report {
            wanted.precision.get_or_insert(said.precision);
            let _ = write!(text, "{:?}", said.rounding);
            let all = (0..4).map(|client| given_back(client, round, wanted));
            let all: Vec<Answers> = all.collect();
            sum = Partial::new(all[0].rows() as usize, all[0].classes() as usize);
            for (client, one) in all.into_iter().enumerate() {
                method.take(&mut sum, 1, &one).unwrap();
                each.insert(format!("client-{client}").parse().unwrap(), one);
            }
        }
        let taken = Taken {
            sum: &sum,
            each: &each,
            about: ask.report.as_ref().map(|wanted| &wanted.about),
            classes: 3,
            asked: Asked::All,
        };
        let centre = is_there.then_some(&mut teacher as &mut dyn Centre);
        method
            .conclude(&outlook, taken, centre, &mut state)
            .unwrap();
        let closing = method.closing(&outlook, &state);
        let _ = write!(text, "{ask:?} {state:?} {closing:?}");
    }
    text + &teacher.heard
}

/// Values of a key other than the default.
fn others(p: &Parameter) -> Vec<f64> {
    let (least, most) = p.range;
    let near = [2.0 * p.default, p.default / 2.0, least, most];
    let all = match p.one_of {
        [] => near.as_slice(),
        list => list,
    };
    let fits = |value: &&f64| {
        **value != p.default
            && (least..=most).contains(*value)
            && (!p.whole || value.fract() == 0.0)
    };
    all.iter().filter(fits).copied().collect()
}

/// A key's method, in the variant that has it.
fn plain(entry: &Entry, p: &Parameter) -> String {
    let own = entry.variants.iter().find(|v| v.own.contains(&p.key));
    let own = own.map_or_else(String::new, |variant| format!(":{}", variant.name));
    format!("{}{own}", entry.name)
}

#[test]
fn no_key_is_without_effect_but_where_its_method_says_so() {
    use AtCentre::{Measured, Nobody, Trained, Untrained};
    for entry in entries().iter().filter(|e| e.name != "teacher-only") {
        for p in entry.parameters {
            let plain = plain(entry, p);
            for at in [Nobody, Untrained, Trained, Measured] {
                let before = trace_at(at, &plain, &Said::default());
                let mut names = others(p)
                    .into_iter()
                    .map(|value| format!("{plain},{}={value}", p.key));
                let changes = names.any(|name| trace_at(at, &name, &Said::default()) != before);
                let is_idle = named(&plain).idle(at).contains(&p.key);
                assert_eq!(changes, !is_idle, "{plain}, {at:?}: {}", p.key);
                assert!(!is_idle || at != Measured, "{plain}: {}", p.key);
            }
        }
    }
}

#[test]
fn of_votes_no_bits_are_chosen() {
    let votes = "adaptive,votes=0.75";
    let before = trace(votes, &Said::default());
    for settings in ["votes=0.75,tolerance=0.5", "tolerance=0.1,votes=0.75"] {
        for robust in ["", ",robust=median"] {
            let why = by_name(&format!("adaptive,{settings}{robust}")).unwrap_err();
            let why = why.to_string();
            assert!(
                why.ends_with("tolerance changes nothing beside the other keys: leave it out"),
                "{why}"
            );
        }
    }
    // All others are as good as ever.
    assert_ne!(
        trace("adaptive,votes=0.75,trust=2", &Said::default()),
        before
    );
    named("adaptive,votes=0,tolerance=0.5");
}

#[test]
fn what_waits_for_a_teacher_is_told_where_there_is_none() {
    let lines = |at: AtCentre, name: &str| at.idle(&*named(name));
    let name = "adaptive,trust=1,caution=2,robust=median";
    let lost =
        |key: &str, why: &str| format!("{key} of {name} changes nothing {why}: leave it out");
    let why = "where there is no teacher";
    assert_eq!(
        lines(AtCentre::Nobody, name),
        [lost("trust", why), lost("caution", why)]
    );
    let why = "without labelled samples to measure the teacher by";
    assert_eq!(lines(AtCentre::Trained, name), [lost("caution", why)]);
    assert!(lines(AtCentre::Measured, name).is_empty());
    // What nobody gave is not told of.
    assert!(lines(AtCentre::Nobody, "adaptive,caution=1").is_empty());
    assert_eq!(lines(AtCentre::Untrained, "cfd,dual=0").len(), 0);
    assert_eq!(lines(AtCentre::Nobody, "cfd,dual=0").len(), 1);
}

/// The usual, with another value of this one.
fn with_another(setting: Setting) -> Said {
    let mut said = Said::default();
    let training = &mut said.training;
    match setting {
        Setting::Packing => said.precision = Precision::F32,
        Setting::Rounding => said.rounding = Rounding::Stochastic,
        Setting::Samples => said.samples = 14,
        Setting::PrivateEpochs => training.private_epochs += 1,
        Setting::DistillationEpochs => training.distillation_epochs += 1,
        Setting::DistillationTemperature => training.distillation_temperature = 4.0,
    }
    said
}

#[test]
fn a_method_heeds_what_it_says() {
    let names = entries().iter().flat_map(|entry| entry.names());
    let particular = ["fedmd,revisit-epochs=4", "cfd,robust=median"];
    for name in names.chain(particular.map(str::to_owned)) {
        let before = trace(&name, &Said::default());
        for (key, setting) in Setting::ALL {
            let changes = trace(&name, &with_another(setting)) != before;
            assert_eq!(named(&name).heeds(setting), changes, "{name}: {key}");
            assert_eq!(Setting::by_key(setting.key()), Some(setting));
        }
    }
}

#[test]
fn ours_alone_is_packed_in_8_bits_without_a_word() {
    for entry in entries() {
        let usual = match entry.name {
            "adaptive" => Precision::U8,
            _ => Precision::F16,
        };
        assert_eq!(named(entry.name).usual_precision(), usual, "{}", entry.name);
    }
    let robust = named("adaptive,robust=median");
    assert_eq!(robust.usual_precision(), Precision::U8);
}

#[test]
fn labels_are_smoothed_and_divergences_softened_as_the_user_says() {
    let training = Training {
        distillation_temperature: 4.0,
        label_smoothing: 0.25,
        ..TRAINING
    };
    let rows = Rows::Range { start: 0, count: 2 };
    for entry in entries() {
        let method = named(entry.name);
        let mut state = State::default();
        if let Some(kind) = method.teaches() {
            let lesson = Answers::new(kind, 3, vec![0.5; 6]).unwrap();
            state.teach(About::Rows(rows.clone()), lesson);
        }
        let outlook = Outlook {
            training: &training,
            ..outlook(&rows)
        };
        let phases = method.ask(&outlook, &state).phases;
        let terms: Vec<LossTerm> = phases.into_iter().flat_map(|p| p.objective).collect();
        let of = |toward| terms.iter().filter(move |term| term.toward == toward);
        let smoothed = Loss::CrossEntropy { smoothing: 0.25 };
        assert!(of(Toward::Labels).count() == 1, "{}", entry.name);
        assert!(of(Toward::Labels).all(|term| term.loss == smoothed));
        let softened = Loss::Kl { temperature: 4.0 };
        let heeds = method.heeds(Setting::DistillationTemperature);
        let distilled = of(Toward::Knowledge).all(|term| (term.loss == softened) == heeds);
        assert!(distilled, "{}: {terms:?}", entry.name);
    }
}

#[test]
fn training_that_leads_nowhere_is_refused() {
    assert_eq!(TRAINING.check(), Ok(()));
    let with = |temperature: f32, smoothing: f32| Training {
        distillation_temperature: temperature,
        label_smoothing: smoothing,
        ..TRAINING
    };
    assert_eq!(with(1000.0, 0.99).check(), Ok(()));
    for (training, part) in [
        (with(0.0, 0.0), "distillation-temperature is 0: write"),
        (with(1001.0, 0.0), "distillation-temperature is 1001:"),
        (with(f32::NAN, 0.0), "distillation-temperature is NaN:"),
        (with(1.0, 1.0), "label-smoothing is 1: write"),
        (with(1.0, -0.1), "label-smoothing is -0.1:"),
        (with(1.0, f32::NAN), "label-smoothing is NaN:"),
        (
            Training {
                batch: 0,
                ..TRAINING
            },
            "batch is 0",
        ),
    ] {
        let why = training.check().unwrap_err();
        assert!(why.contains(part), "{why}");
    }
    // Nobody who says nothing is refused.
    for entry in entries() {
        assert_eq!(TRAINING.suits(&*named(entry.name)), Ok(()));
    }
    let warm = with(2.0, 0.0);
    assert_eq!(warm.suits(&*named("adaptive")), Ok(()));
    let why = warm.suits(&*named("fedmd")).unwrap_err();
    assert!(
        why.starts_with("distillation-temperature changes nothing with fedmd: leave it out"),
        "{why}"
    );
}
