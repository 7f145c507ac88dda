use fedistill_protocol::Optimiser;
use proptest::prelude::*;

use super::*;

mod formulas;
mod keys;

pub(super) fn answers(kind: AnswerKind, values: &[f32]) -> Answers {
    Answers::new(kind, 3, values.to_vec()).unwrap()
}

const TRAINING: Training = Training {
    private_epochs: 3,
    distillation_epochs: 2,
    batch: 50,
    optimiser: Optimiser::Sgd {
        learning_rate: 0.1,
        momentum: 0.0,
    },
    distillation_temperature: Training::TEMPERATURE,
    label_smoothing: Training::SMOOTHING,
};

/// A teacher that says one thing of everything, and keeps what it is taught.
pub(super) struct Sage {
    says: Option<Vec<f32>>,
    learnt: Vec<Answers>,
}

impl Centre for Sage {
    fn answer(&mut self, rows: &Rows) -> Result<Answers, CentreError> {
        let row = self.says.clone().unwrap_or_else(|| vec![0.0; 3]);
        let values = rows.iter().flat_map(|_| row.clone()).collect();
        Ok(Answers::new(AnswerKind::Logits, 3, values)?)
    }

    fn learn(&mut self, _: &Rows, labels: &Answers) -> Result<(), CentreError> {
        self.learnt.push(labels.clone());
        Ok(())
    }

    fn is_trained(&self) -> bool {
        self.says.is_some()
    }
}

/// The first round of a method, with these contributions: what comes down next.
fn round(method: &dyn Method, all: &[Answers], teacher: Option<&mut Sage>) -> State {
    let rows = Rows::Range {
        start: 0,
        count: all[0].rows(),
    };
    let mut state = State::default();
    let centre = teacher.map(|teacher| teacher as &mut dyn Centre);
    go_on(method, &outlook(&rows), all, centre, &mut state);
    state
}

/// A round more, with these contributions.
fn go_on(
    method: &dyn Method,
    outlook: &Outlook<'_>,
    all: &[Answers],
    centre: Option<&mut dyn Centre>,
    state: &mut State,
) {
    try_to_go_on(method, outlook, all, centre, state).unwrap();
}

fn try_to_go_on(
    method: &dyn Method,
    outlook: &Outlook<'_>,
    all: &[Answers],
    centre: Option<&mut dyn Centre>,
    state: &mut State,
) -> Result<(), MethodError> {
    let ask = method.ask(outlook, state);
    let mut sum = Partial::new(all[0].rows() as usize, all[0].classes() as usize);
    let mut each = BTreeMap::new();
    for (client, one) in all.iter().enumerate() {
        method.take(&mut sum, 1, one).unwrap();
        each.insert(format!("client-{client}").parse().unwrap(), one.clone());
    }
    let taken = Taken {
        sum: &sum,
        each: &each,
        about: ask.report.as_ref().map(|wanted| &wanted.about),
        classes: 3,
        asked: Asked::All,
    };
    method.conclude(outlook, taken, centre, state)
}

pub(super) fn aggregate(
    method: &dyn Method,
    all: &[Answers],
    teacher: Option<&mut Sage>,
) -> Vec<f32> {
    let state = round(method, all, teacher);
    state.common[0].answers.values().to_vec()
}

fn named(name: &str) -> Box<dyn Method> {
    by_name(name).unwrap()
}

fn entropy(row: &[f32]) -> f64 {
    row.iter()
        .map(|&p| f64::from(p))
        .filter(|p| *p > 0.0)
        .map(|p| -p * p.ln())
        .sum()
}

#[test]
fn names_lead_back_to_their_methods() {
    for entry in entries() {
        for name in entry.names() {
            assert_eq!(named(&name).name(), name);
        }
    }
    for (written, name) in [
        ("ds-fl", "ds-fl:sa"),
        ("ds-fl:era,temperature=0.10", "ds-fl:era"),
        ("ds-fl:era,temperature=0.050", "ds-fl:era,temperature=0.05"),
        (
            "logit-mean,teacher-weight=2,clip=20",
            "logit-mean,teacher-weight=2",
        ),
    ] {
        assert_eq!(named(written).name(), name);
    }
}

#[test]
fn what_no_method_is_called_is_one_clear_line() {
    for (name, part) in [
        ("fedavg", "choose adaptive, logit-mean, ds-fl:sa"),
        (
            "ds-fl:eraa",
            "no variant \"eraa\": choose ds-fl:sa, ds-fl:era",
        ),
        ("local:x", "it has no variants"),
        ("ds-fl:era,beta", "write KEY=VALUE"),
        (
            "ds-fl:era,gamma=1",
            "no parameter \"gamma\": there are temperature, beta",
        ),
        ("local,gamma=1", "it has no parameters"),
        (
            "ds-fl:era,temperature=0",
            "temperature is \"0\", it must be a number from 0.001 to 10",
        ),
        ("ds-fl:era,temperature=NaN", "must be a number"),
        (
            "adaptive,near=1e-300",
            "near is \"1e-300\", which is too near 0: write 0 or at least 1e-37",
        ),
        (
            "adaptive,least-trust=0.2",
            "least-trust is \"0.2\", it must be a number from 0 to 0.1",
        ),
        (
            "selective,noise=2001",
            "noise is \"2001\", it must be a whole number from 1 to 2000",
        ),
        (
            "logit-mean,teacher-weight=1.5",
            "must be a whole number from 0 to 1000",
        ),
    ] {
        let error = by_name(name).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn defaults_are_within_their_ranges() {
    for entry in entries() {
        for p in entry.parameters {
            assert!(
                p.range.0 <= p.default && p.default <= p.range.1,
                "{} {}",
                entry.name,
                p.key
            );
            assert!(
                !p.whole || p.default.fract() == 0.0,
                "{} {}",
                entry.name,
                p.key
            );
        }
    }
}

#[test]
fn a_parameter_that_would_change_nothing_is_refused() {
    for (name, part) in [
        ("ds-fl:sa,temperature=0.5", "of ds-fl:era alone"),
        ("ds-fl:era,beta=2", "of ds-fl:enhanced-era alone"),
        ("vote:tally,quantile=0.5", "of vote:ssfl alone"),
        (
            "ds-fl:era,temperature=0.5,temperature=0.2",
            "more than once",
        ),
    ] {
        let error = by_name(name).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}

/// Set `FEDISTILL_BLESS` to write the page anew.
#[test]
fn the_page_of_methods_is_the_catalogue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/methods.md");
    if std::env::var_os("FEDISTILL_BLESS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == markdown(),
        "docs/methods.md is out of date: run this test with FEDISTILL_BLESS=1"
    );
}

fn outlook(rows: &Rows) -> Outlook<'_> {
    Outlook {
        round: 0,
        training: &TRAINING,
        fresh: rows,
        fixed: rows,
        samples: 100,
        probes: None,
        precision: Precision::F32,
        seed: 1,
    }
}

#[test]
fn answers_of_the_wrong_kind_are_refused() {
    let rows = Rows::Range { start: 0, count: 1 };
    let mut sum = Partial::new(1, 3);
    for entry in entries() {
        let method = named(entry.name);
        let asked = method.ask(&outlook(&rows), &State::default()).report;
        for kind in [
            AnswerKind::Logits,
            AnswerKind::Probabilities,
            AnswerKind::Features,
        ] {
            if asked.as_ref().is_none_or(|wanted| wanted.kind != kind) {
                let other = answers(kind, &[0.2, 0.3, 0.5]);
                assert!(method.take(&mut sum, 1, &other).is_err(), "{}", entry.name);
            }
        }
    }
    assert_eq!(sum, Partial::new(1, 3));
}

#[test]
fn a_method_asks_for_no_distillation_before_there_are_lessons() {
    let rows = Rows::Range { start: 0, count: 2 };
    let outlook = outlook(&rows);
    for entry in entries() {
        let method = named(entry.name);
        let mut state = State::default();
        let data = |state: &State| -> Vec<_> {
            let ask = method.ask(&outlook, state);
            ask.phases.iter().map(|phase| phase.data).collect()
        };
        assert_eq!(data(&state), [PhaseData::Private], "{}", entry.name);
        assert_eq!(method.closing(&outlook, &state), None);
        if let Some(kind) = method.teaches() {
            let lesson = Answers::new(kind, 3, vec![0.5; 6]).unwrap();
            state.teach(About::Rows(rows.clone()), lesson);
            assert_eq!(
                data(&state),
                [PhaseData::Transfer, PhaseData::Private],
                "{}",
                entry.name
            );
            let closing = method.closing(&outlook, &state).unwrap();
            assert_eq!((closing.report, closing.phases.len()), (None, 1));
        }
    }
}

#[test]
fn only_a_teacher_that_knows_something_begins() {
    let rows = Rows::Range { start: 0, count: 2 };
    let outlook = outlook(&rows);
    for says in [None, Some(vec![1.0, 2.0, 3.0])] {
        let mut sage = Sage {
            says: says.clone(),
            learnt: Vec::new(),
        };
        let mut state = State::default();
        named("ds-fl")
            .begin(&outlook, Some(&mut sage), &mut state)
            .unwrap();
        assert_eq!(state.teaches(), says.is_some());
        if let Some(lesson) = state.common.first() {
            assert_eq!(lesson.answers.kind(), AnswerKind::Probabilities);
            assert!((lesson.answers.values()[2] - 0.665_241).abs() < 1e-5);
        }
    }
}

/// As docs/methods.md says at its top.
#[test]
fn a_trained_teacher_speaks_before_any_client_but_with_four_methods() {
    let rows = Rows::Range { start: 0, count: 2 };
    let outlook = outlook(&rows);
    for entry in entries() {
        let method = named(entry.name);
        let hears = |says: Option<Vec<f32>>| {
            let mut sage = Sage {
                says,
                learnt: Vec::new(),
            };
            let mut state = State::default();
            method.begin(&outlook, Some(&mut sage), &mut state).unwrap();
            let phases = method.ask(&outlook, &state).phases;
            phases[0].data == PhaseData::Transfer
        };
        let deaf = ["fd", "fedproto", "fedtgp", "local"].contains(&entry.name);
        assert_eq!(hears(Some(vec![1.0, 2.0, 3.0])), !deaf, "{}", entry.name);
        assert!(!hears(None), "{}", entry.name);
    }
}

#[test]
fn a_digest_of_few_steps_is_told() {
    let remark = |name: &str, samples: u32| named(name).remark(samples);
    let told = remark("fedmd", 1000).unwrap();
    let part =
        "the digest of fedmd is 4 steps a round, 1 pass of 1000 samples by 256; its authors' is 20";
    assert!(told.starts_with(part), "{told}");
    let told = remark("fedmd,digest-epochs=4,robust=median", 1000).unwrap();
    assert!(told.contains("16 steps a round, 4 passes"), "{told}");
    for (name, samples) in [
        ("fedmd", 5000),
        ("fedmd,digest-batch=50", 1000),
        ("fedmd,digest-epochs=5", 1000),
        ("adaptive", 1),
    ] {
        assert_eq!(remark(name, samples), None, "{name}");
    }
}

#[test]
fn who_asks_for_features_says_how_wide() {
    let rows = Rows::Range { start: 0, count: 2 };
    let outlook = outlook(&rows);
    let wide = [
        "fedproto,width=8",
        "fedtgp,width=8",
        "fedproto,robust=median",
    ];
    for name in entries().iter().map(|entry| entry.name).chain(wide) {
        let method = named(name);
        let report = method.ask(&outlook, &State::default()).report;
        let asked = report.filter(|wanted| wanted.kind == AnswerKind::Features);
        let width = asked.and_then(|wanted| wanted.width);
        assert_eq!(method.features(), width, "{name}");
    }
    assert_eq!(named("fedtgp,width=8").features(), Some(8));
}

proptest! {
    #[test]
    fn era_sharpens_without_changing_the_order(
        raw in prop::collection::vec(0.001f32..1.0, 30), which in 0usize..3,
    ) {
        let all: Vec<Answers> =
            raw.chunks(15).map(|values| answers(AnswerKind::Probabilities, values)).collect();
        let mean = aggregate(&*named("ds-fl:sa"), &all, None);
        let sharper = ["ds-fl:era", "ds-fl:enhanced-era", "ds-fl:enhanced-era,beta=7"][which];
        let sharp = aggregate(&*named(sharper), &all, None);
        for (mean, sharp) in mean.chunks(3).zip(sharp.chunks(3)) {
            prop_assert!((sharp.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            prop_assert!(entropy(sharp) <= entropy(mean) + 1e-5);
            for a in 0..3 {
                for b in 0..3 {
                    prop_assert!(mean[a] <= mean[b] || sharp[a] >= sharp[b]);
                }
            }
        }
    }
}
