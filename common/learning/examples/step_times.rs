//! Times training steps and forward passes on one thread: `step_times [--json] NAME [REPEATS]`.
//!
//! Prints the median CPU time of a step and the arithmetic that it comes to. Training is forward,
//! backward and an update (AdamW for `tinybert-4`, else SGD) on a batch of 64; inference a batch of 256.
#![allow(
    clippy::unwrap_used,
    reason = "an example that fails may say so by panicking"
)]

use std::time::Duration;

use fedistill_learning::{Architecture, Learner, Model, Net, Objective, Samples, Targets, seed};
use fedistill_protocol::{AnswerKind, Elements, Loss, LossTerm, Optimiser, Toward};
use rand::RngExt;

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn random(count: usize) -> Vec<f32> {
    let mut rng = seed::stream(1, "values");
    (0..count).map(|_| rng.random::<f32>() - 0.5).collect()
}

/// What samples of a net are made of: ids of tokens, or values around 0.
fn values(name: &str, count: usize) -> Vec<f32> {
    let mut values = random(count);
    if tokens(name).is_some() {
        let ids = values.iter_mut();
        ids.for_each(|value| *value = ((*value + 0.5) * 30_522.0).floor());
    }
    values
}

/// How long a net's texts are, where it takes texts.
fn tokens(name: &str) -> Option<u32> {
    let length = name.strip_prefix("tinybert-4")?.strip_prefix('/');
    Some(length.map_or(64, |length| length.parse().unwrap()))
}

fn net(name: &str) -> Net {
    let image = &[3, 32, 32];
    if let Some(length) = tokens(name) {
        return Architecture::TinyBert4.build(&[length], 2, 1).unwrap();
    }
    match name {
        "mlp" => Net::mlp(&[784], &[256, 128], 10, 1).unwrap(),
        "fedavg-cnn" => Architecture::FedavgCnn.build(&[1, 28, 28], 10, 1).unwrap(),
        other => other
            .parse::<Architecture>()
            .unwrap()
            .build(image, 10, 1)
            .unwrap(),
    }
}

/// Median of `repeats` measurements, each of as many rounds of `work` as make the clock's grain of 4 ms small.
fn median(mut work: impl FnMut(), repeats: usize) -> f64 {
    let mut rounds = 1;
    let mut measure = |rounds: u32| {
        let begun = cpu();
        (0..rounds).for_each(|_| work());
        cpu() - begun
    };
    while measure(rounds) < Duration::from_millis(400) {
        rounds *= 2;
    }
    let mut times: Vec<f64> = (0..repeats)
        .map(|_| measure(rounds).as_secs_f64() * 1e3 / f64::from(rounds))
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// One step, as often as it is called, and the arithmetic that it takes.
type Work = (Box<dyn FnMut()>, f64);

fn training(name: &str, batch: usize) -> Work {
    let net = net(name);
    let operations = 3.0 * net.operations() as f64 * batch as f64;
    let width: u32 = net.input().iter().product();
    let x = values(name, batch * width as usize);
    let classes = net.classes() as u32;
    let labels: Vec<u32> = (0..batch as u32).map(|sample| sample % classes).collect();
    let mut learner = Learner::new(net);
    learner.begin(match tokens(name) {
        Some(_) => Optimiser::AdamW {
            learning_rate: 1e-4,
            weight_decay: 0.01,
        },
        None => Optimiser::Sgd {
            learning_rate: 0.01,
            momentum: 0.0,
        },
    });
    let terms = [LossTerm::new(
        Loss::CrossEntropy { smoothing: 0.0 },
        Toward::Labels,
    )];
    let mut rng = seed::stream(1, "dropout");
    let step = move || {
        let objective = Objective::new(&terms, Targets::hard(&labels));
        learner.step(&x, &objective, &mut rng).unwrap();
    };
    (Box::new(step), operations)
}

fn inference(name: &str, batch: usize) -> Work {
    let net = net(name);
    let operations = net.operations() as f64 * batch as f64;
    let shape = net.input().to_vec();
    let width: u32 = shape.iter().product();
    let samples = Samples::new(shape, Elements::F32(values(name, batch * width as usize))).unwrap();
    let mut learner = Learner::new(net);
    let pass = move || drop(learner.logits(&samples).unwrap());
    (Box::new(pass), operations)
}

fn kd_loss(batch: usize) -> Work {
    let (logits, target) = (random(batch * 100), random(batch * 100));
    let terms = [LossTerm::new(
        Loss::Kl { temperature: 4.0 },
        Toward::Knowledge,
    )];
    let mut gradient = Vec::new();
    let loss = move || {
        let targets = Targets::soft(AnswerKind::Logits, 100, &target);
        let objective = Objective::new(&terms, targets);
        objective.evaluate(&logits, 100, &mut gradient).unwrap();
    };
    (Box::new(loss), 0.0)
}

/// What `name` stands for, on a batch of `batch` or of the usual size.
fn work(name: &str, batch: Option<usize>) -> Work {
    match name.strip_suffix("-inference") {
        _ if name == "kd-loss" => kd_loss(batch.unwrap_or(1024)),
        Some(name) => inference(name, batch.unwrap_or(256)),
        None => training(name, batch.unwrap_or(64)),
    }
}

/// One step with a name that a profiler finds.
#[inline(never)]
fn counted(step: &mut dyn FnMut()) {
    step();
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if let [counting, batch, name] = &args[..]
        && counting == "--counted"
    {
        let (mut step, _) = work(name, Some(batch.parse().unwrap()));
        // The first one allocates.
        step();
        return counted(&mut step);
    }
    let json = args.first().is_some_and(|arg| arg == "--json");
    if json {
        args.remove(0);
    }
    let name = args.first().map_or("mlp", String::as_str);
    let repeats = args.get(1).map_or(21, |text| text.parse().unwrap());
    let (step, operations) = work(name, None);
    let time = median(step, repeats);
    let rate = operations / time / 1e6;
    match json {
        true => println!(r#"{{"name":"{name}","cpu_ms_median":{time:.4},"gflops":{rate:.1}}}"#),
        false => println!("{name}: {time:.3} ms, {rate:.1} GFLOP/s"),
    }
}
