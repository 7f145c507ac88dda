//! Naturally federated data, from files to results: clients are the people that the data tells of.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use clap::Parser;
use fedistill_learning::idx::{self, Array, Values};
use fedistill_simulator::config::{Args, Config};
use fedistill_simulator::{Data, Experiment, Measure, Progress, SimulationError, experiment};

/// Training windows of each person, by their numbers, which are too large for a byte.
const PEOPLE: [(i32, usize); 5] = [(-4, 30), (7, 41), (300, 22), (70_000, 35), (70_001, 28)];
const TESTED: usize = 6;
const CLASSES: usize = 3;

fn put(folder: &Path, name: &str, shape: &[usize], values: Values) {
    let shape = shape.iter().map(|&side| side as u32).collect();
    idx::write(&folder.join(name), &Array { shape, values }).unwrap();
}

/// Windows of two axes and 16 values: a wave as fast as the class says, as high as the person.
fn windows(of: &[(i32, usize)]) -> (Vec<f32>, Vec<u8>, Vec<i32>) {
    let (mut values, mut labels, mut people) = (Vec::new(), Vec::new(), Vec::new());
    for (person, &(id, count)) in of.iter().enumerate() {
        for window in 0..count {
            let class = window % CLASSES;
            for step in 0..32 {
                let phase = (step % 16 + window) as f32 * (1 + class) as f32 * 0.4;
                values.push(phase.sin() * (0.6 + 0.2 * person as f32));
            }
            labels.push(class as u8);
            people.push(id);
        }
    }
    (values, labels, people)
}

fn write(folder: &Path) {
    let tested = PEOPLE.map(|(id, _)| (id, TESTED));
    for (prefix, of) in [("train", &PEOPLE), ("t10k", &tested)] {
        let (values, labels, people) = windows(of);
        let count = labels.len();
        let put = |name: &str, shape: &[usize], values| {
            put(folder, &format!("{prefix}-{name}.gz"), shape, values);
        };
        put("samples-idx3-float", &[count, 2, 16], Values::F32(values));
        put("labels-idx1-ubyte", &[count], Values::U8(labels));
        put("groups-idx1-int", &[count], Values::I32(people));
    }
}

fn config(folder: &Path, more: &[&str]) -> Result<Config, SimulationError> {
    let data = folder.to_str().unwrap();
    let mut args = vec!["x", "--data", data, "--partition", "natural"];
    args.extend(["--transport", "memory", "--rounds", "2", "--no-baselines"]);
    if !more.contains(&"--teacher") {
        args.extend(["--teacher", "train:12"]);
    }
    args.extend(more);
    Config::from_args(Args::parse_from(args))
}

async fn run(config: &Config) -> Experiment {
    let done = experiment::run(config, None, |_, _| Progress::silent());
    done.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_people_and_one_seed_gives_one_result() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    for (models, method) in [
        ("mlp-s,sensor-conv", "logit-mean"),
        ("sensor-conv", "fedavg"),
    ] {
        let more = ["--models", models, "--method", method];
        let one = config(folder.path(), &more).unwrap();
        // Three tenths of five people are two, rounded.
        assert_eq!(one.clients, 3);
        let done = run(&one).await;
        let held: Vec<usize> = done
            .labels
            .iter()
            .map(|labels| labels.iter().sum())
            .collect();
        assert_eq!(held.len(), 3);
        let mut people = PEOPLE.iter().map(|(_, count)| *count);
        // In the order of their numbers, none twice.
        assert!(
            held.iter().all(|held| people.any(|count| count == *held)),
            "{held:?}"
        );
        assert_eq!(done.federated.test_samples, 3 * TESTED);
        // Personal accuracy is of so many samples of a client's own.
        for client in &done.federated.clients {
            let right = client.on_own.unwrap().share() * TESTED as f64;
            assert!((right - right.round()).abs() < 1e-9, "{right}");
        }
        let again = run(&Config {
            threads: 1,
            ..one.clone()
        })
        .await;
        assert_eq!(again.federated.digest, done.federated.digest);
        let other = run(&Config { seed: 2, ..one }).await;
        assert_ne!(other.federated.digest, done.federated.digest);
    }
}

#[test]
fn what_is_public_is_of_nobody_who_is_a_client() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let config = config(folder.path(), &[]).unwrap();
    let data = Data::read(&config.data).unwrap();
    let world = data.clone().share_out(&config).unwrap();
    let (_, _, people) = windows(&PEOPLE);
    let whose: Vec<i32> = world
        .private
        .iter()
        .map(|view| {
            let mut whose: Vec<i32> = view.places().map(|place| people[place]).collect();
            whose.dedup();
            assert_eq!(whose.len(), 1, "{whose:?}");
            whose[0]
        })
        .collect();
    let tested = PEOPLE.map(|(id, _)| (id, TESTED));
    let (values, _, ids) = windows(&tested);
    for (id, own) in whose.iter().zip(&world.held_out) {
        let of_client = values.chunks(32).zip(&ids).filter(|(_, of)| *of == id);
        let of_client: Vec<f32> = of_client.flat_map(|(values, _)| values.to_vec()).collect();
        assert_eq!(own.to_dataset().samples().to_vec(), of_client);
    }
    let public = world.labelled.len() + world.transfer.len();
    assert_eq!(world.labelled.len(), 12);
    let private = people.iter().filter(|id| whose.contains(id)).count();
    assert_eq!(public + private, people.len());
    // A window is told by its values: no two are alike here, and none that is public is private.
    let key = |values: &[f32]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    let rows = |values: Vec<f32>| values.chunks(32).map(key).collect::<Vec<_>>();
    let own = world
        .private
        .iter()
        .flat_map(|view| rows(view.to_dataset().samples().to_vec()));
    let own: Vec<_> = own.collect();
    for row in [world.labelled.samples(), &world.transfer]
        .map(|set| rows(set.to_vec()))
        .concat()
    {
        assert!(!own.contains(&row));
    }
}

#[test]
fn what_makes_no_clients_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let refused = |more: &[&str]| {
        let config = config(folder.path(), more)?;
        Data::read(&config.data)?.share_out(&config)
    };
    let error = refused(&["--clients", "4"]).unwrap_err().to_string();
    assert!(error.contains("take 3 clients"), "{error}");
    let file = folder.path().join("run.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "clients = 5").unwrap();
    let error = refused(&["--config", path]).unwrap_err().to_string();
    assert!(error.contains("take 3 clients"), "{error}");
    // A file that says nothing of it is no reason to ask.
    std::fs::write(&file, "public = 0.8").unwrap();
    assert_eq!(refused(&["--config", path]).unwrap().private.len(), 1);
    let error = refused(&["--teacher", "train:99"]).unwrap_err().to_string();
    assert!(error.contains("no transfer set is left"), "{error}");
    for name in ["train-groups-idx1-int.gz", "t10k-groups-idx1-int.gz"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    for more in [&[][..], &["--clients", "3"]] {
        let error = refused(more).unwrap_err().to_string();
        assert!(error.contains("add train-groups-idx1-ubyte"), "{error}");
    }
}

#[tokio::test]
async fn a_net_of_images_is_refused_windows() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let config = config(folder.path(), &["--models", "conv-s"]).unwrap();
    let done = experiment::run(&config, None, |_, _| Progress::silent());
    let error = done.await.unwrap_err().to_string();
    assert!(
        error.contains("conv-s needs images") && error.contains("[2, 16]"),
        "{error}"
    );
}
