//! Hinton et al. 2015: what a teacher says of all classes teaches a small net more than labels do, the
//! more so the fewer samples there are, even of a class that the samples are not of.

use fedistill_learning::{Dataset, Learner, Net, Objective, Schedule, Soft, Targets, seed};
use fedistill_protocol::{AnswerKind, Loss, LossTerm, Optimiser, Toward};

use super::{Figures, Finding, Lab, Rule};

const STEPS: Optimiser = Optimiser::Sgd {
    learning_rate: 0.1,
    momentum: 0.0,
};
/// The class that the transfer set is not of.
const OMITTED: u32 = 3;

/// What is learnt from: samples with labels, and with what a teacher says of them.
struct Lesson<'a> {
    data: &'a Dataset,
    taught: Vec<f32>,
    /// Weight of the labels; what is left to 1 is the teacher's.
    labels: f32,
    temperature: f32,
}

pub(super) fn teaches_a_small_net(lab: &Lab) -> Vec<Finding> {
    let (all, test) = lab.whole();
    let first = |data: &Dataset, count: usize| {
        let all: Vec<usize> = (0..count.min(data.len())).collect();
        data.select(&all)
    };
    let train = first(&all, lab.sized(4000, 20_000));
    // Digits may be shifted and stay what they are, which makes a teacher that knows more; of clothes a
    // teacher knows more that has seen more of them.
    let seen = match lab.is_digits() {
        true => train.clone(),
        false => all,
    };
    let test = first(&test, lab.sized(2000, 5000));
    let few = first(&train, 500);
    let (mut hard, mut soft) = (Vec::new(), Vec::new());
    let (mut hard_few, mut soft_few) = (Vec::new(), Vec::new());
    let (mut before, mut after, mut scales) = (Vec::new(), Vec::new(), Vec::new());
    let mut taught_by = Vec::new();
    for &seed in lab.seeds() {
        let mut teacher = teacher(&seen, lab.is_digits(), seed, lab.sized(10, 20));
        taught_by.push(errors(&mut teacher, &test));
        let epochs = lab.sized(15, 20);
        let student = |lesson: &Lesson<'_>, epochs| distil(32, lesson, epochs, seed);
        let lesson = |teacher: &mut Learner, data, labels| Lesson {
            data,
            taught: teacher.logits(Dataset::samples(data)).unwrap(),
            labels,
            temperature: 4.0,
        };
        for (data, epochs, hard, soft) in [
            (&train, epochs, &mut hard, &mut soft),
            (&few, 4 * epochs, &mut hard_few, &mut soft_few),
        ] {
            let labels = lesson(&mut teacher, data, 1.0);
            hard.push(errors(&mut student(&labels, epochs), &test));
            let both = lesson(&mut teacher, data, 0.1);
            soft.push(errors(&mut student(&both, epochs), &test));
        }
        let others = train.labels().iter().enumerate();
        let others = others.filter(|(_, label)| **label != OMITTED);
        let without = train.select(&others.map(|(at, _)| at).collect::<Vec<_>>());
        let alone = lesson(&mut teacher, &without, 0.0);
        let mut student = distil(300, &alone, lab.sized(10, 20), seed);
        let (plain, mended) = recalls(&mut student, &test);
        before.push(plain);
        after.push(mended);
        scales.push(scale(&alone));
    }
    let [hard, soft, hard_few, soft_few, taught_by] =
        [hard, soft, hard_few, soft_few, taught_by].map(Figures);
    vec![
        Finding::new(
            "errors of 784-32 taught at T = 4 over errors by labels",
            soft.over(&hard),
            Rule::AtMost(lab.sized(1.0, 0.95)),
            "MNIST, 2 x 800: 74 to 146",
        )
        .digits(3)
        .of(&[
            ("taught", &soft),
            ("labels", &hard),
            ("teacher", &taught_by),
        ]),
        Finding::new(
            "the same of 500 samples",
            soft_few.over(&hard_few),
            Rule::AtMost(lab.sized(0.9, 0.8)),
            "3 % of speech data: 57.0 to 44.5 % right",
        )
        .digits(3)
        .of(&[("taught", &soft_few), ("labels", &hard_few)])
        .explained_where(lab.is_beyond_digits()),
        Finding::new(
            "recall of a class that the transfer set is not of",
            Figures(before),
            Rule::AtLeast(lab.sized(0.3, 0.75)),
            "0.87 of digit 3 (133 of 1010 wrong)",
        )
        .digits(3),
        Finding::new(
            "the same, its bias mended on the test samples",
            Figures(after),
            Rule::AtLeast(lab.sized(0.6, 0.88)),
            "0.986",
        )
        .digits(3),
        Finding::new(
            "gradient at T = 1 over that at T = 8",
            Figures(scales),
            Rule::Between(0.3, 3.0),
            "T^2 keeps gradients of one size",
        )
        .digits(2),
    ]
}

/// A teacher 784-300; where `jitter` says so, it sees its samples shifted by up to two pixels each way.
fn teacher(data: &Dataset, jitter: bool, seed: u64, epochs: usize) -> Learner {
    let mut learner = Learner::new(net(data, 300, seed));
    learner.begin(STEPS);
    let terms = [LossTerm::new(
        Loss::CrossEntropy { smoothing: 0.0 },
        Toward::Labels,
    )];
    let mut rng = seed::stream(seed, "papers/teacher");
    let schedule = Schedule { epochs, batch: 50 };
    let batches: Vec<Vec<usize>> = schedule.batches(data.len(), &mut rng).collect();
    let (mut batch, mut shifted) = (Vec::new(), Vec::new());
    for indices in batches {
        batch.clear();
        shifted.clear();
        data.samples().gather(&indices, &mut batch);
        for image in batch.chunks_exact(28 * 28) {
            let step = match jitter {
                true => seed::permutation(25, &mut rng)[0] as i32,
                // No step.
                false => 12,
            };
            shift(image, (step / 5 - 2, step % 5 - 2), &mut shifted);
        }
        let labels: Vec<u32> = indices.iter().map(|&at| data.labels()[at]).collect();
        let objective = Objective::new(&terms, Targets::hard(&labels));
        learner.step(&shifted, &objective, &mut rng).unwrap();
    }
    learner
}

/// Appends an image of 28 x 28, moved so far down and right; what comes in is black.
fn shift(image: &[f32], (down, right): (i32, i32), into: &mut Vec<f32>) {
    for row in 0..28i32 {
        for column in 0..28i32 {
            let (from_row, from_column) = (row - down, column - right);
            let within = (0..28).contains(&from_row) && (0..28).contains(&from_column);
            into.push(match within {
                true => image[(from_row * 28 + from_column) as usize],
                false => 0.0,
            });
        }
    }
}

fn net(data: &Dataset, hidden: usize, seed: u64) -> Net {
    Net::mlp(
        data.samples().shape(),
        &[hidden],
        data.classes().len(),
        seed,
    )
    .unwrap()
}

/// A student of one hidden layer.
fn distil(hidden: usize, lesson: &Lesson<'_>, epochs: usize, seed: u64) -> Learner {
    let data = lesson.data;
    let mut learner = Learner::new(net(data, hidden, seed + 1000));
    learner.begin(STEPS);
    let terms = terms(lesson.labels, lesson.temperature);
    let mut rng = seed::stream(seed, "papers/student");
    let schedule = Schedule { epochs, batch: 50 };
    let batches: Vec<Vec<usize>> = schedule.batches(data.len(), &mut rng).collect();
    let mut batch = Vec::new();
    for indices in batches {
        batch.clear();
        data.samples().gather(&indices, &mut batch);
        let (labels, taught) = targets(lesson, &indices);
        let soft = Soft::new(AnswerKind::Logits, data.classes().len(), &taught);
        let targets = Targets::hard(&labels).toward(Toward::Knowledge, soft);
        learner
            .step(&batch, &Objective::new(&terms, targets), &mut rng)
            .unwrap();
    }
    learner
}

fn terms(labels: f32, temperature: f32) -> Vec<LossTerm> {
    let hard = LossTerm::new(Loss::CrossEntropy { smoothing: 0.0 }, Toward::Labels);
    let soft = LossTerm::new(Loss::Kl { temperature }, Toward::Knowledge);
    let both = [(hard, labels), (soft, 1.0 - labels)].into_iter();
    let both = both.filter(|(_, weight)| *weight > 0.0);
    both.map(|(term, weight)| term.times(weight)).collect()
}

/// Labels of these samples, and what the teacher says of them.
fn targets(lesson: &Lesson<'_>, indices: &[usize]) -> (Vec<u32>, Vec<f32>) {
    let classes = lesson.data.classes().len();
    let labels = indices.iter().map(|&at| lesson.data.labels()[at]);
    let taught = indices
        .iter()
        .flat_map(|&at| &lesson.taught[at * classes..][..classes]);
    (labels.collect(), taught.copied().collect())
}

fn errors(learner: &mut Learner, test: &Dataset) -> f64 {
    let evaluation = learner.evaluate(test.samples(), test.labels()).unwrap();
    ((1.0 - evaluation.accuracy) * test.len() as f64).round()
}

/// The recall of the omitted class; and at the bias of its logit at which most samples are right.
fn recalls(student: &mut Learner, test: &Dataset) -> (f64, f64) {
    let logits = student.logits(test.samples()).unwrap();
    let classes = test.classes().len();
    let omitted = OMITTED as usize;
    let at = |bias: f32| {
        let (mut right, mut found, mut all) = (0, 0, 0);
        for (row, &label) in logits.chunks_exact(classes).zip(test.labels()) {
            let value = |class: usize| row[class] + if class == omitted { bias } else { 0.0 };
            let more = |best, class| {
                if value(class) > value(best) {
                    class
                } else {
                    best
                }
            };
            let said = (1..classes).fold(0, more) as u32;
            right += usize::from(said == label);
            all += usize::from(label == OMITTED);
            found += usize::from(label == OMITTED && said == label);
        }
        (right, f64::from(found as u32) / f64::from(all as u32))
    };
    let biases = (0..=100).map(|step| at(step as f32 * 0.1));
    let best = biases.max_by_key(|(right, _)| *right).unwrap();
    (at(0.0).1, best.1)
}

/// How much larger the gradient of a fresh net is at T = 1 than at T = 8.
fn scale(lesson: &Lesson<'_>) -> f64 {
    let indices: Vec<usize> = (0..100).collect();
    let (labels, taught) = targets(lesson, &indices);
    let classes = lesson.data.classes().len();
    let mut net = Learner::new(net(lesson.data, 32, 7));
    let samples = lesson.data.samples().select(&indices);
    let logits = net.logits(&samples).unwrap();
    let norm = |temperature: f32| {
        let terms = terms(0.0, temperature);
        let soft = Soft::new(AnswerKind::Logits, classes, &taught);
        let targets = Targets::hard(&labels).toward(Toward::Knowledge, soft);
        let mut gradient = Vec::new();
        Objective::new(&terms, targets)
            .evaluate(&logits, classes, &mut gradient)
            .unwrap();
        gradient
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    norm(1.0) / norm(8.0)
}
