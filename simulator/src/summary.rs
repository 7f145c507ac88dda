use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) use fedistill_program::size;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::decided::decisions;
use crate::ledger::LedgerMeans;
use crate::metrics::{Measure, Metrics, OverClients};
use crate::{Averaging, Experiment, Outcome, Partition, ServerScore, Transport};

/// What came of a run: `summary.json`. Its keys stay.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// What was run.
    pub config: Config,
    /// How good everyone is, on the global test set.
    pub accuracy: Accuracy,
    /// The three measures of the federation and of what it is compared with.
    #[serde(default)]
    pub metrics: Scores,
    /// Expected calibration errors, 0 to 1.
    pub ece: Ece,
    /// What the method has decided by itself, by name, as it was after the last round.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decided: BTreeMap<String, f64>,
    /// What crossed.
    pub bytes: Bytes,
    /// What of it is for what.
    #[serde(default)]
    pub ledger: LedgerMeans,
    /// How long it took.
    pub seconds: Seconds,
    /// Everything random followed from it.
    pub seed: u64,
    /// blake3 of all final students' parameters, in the order of clients.
    pub digest: String,
}

/// The measures of each federation that was run.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Scores {
    /// Of the federation.
    pub federated: Metrics,
    /// Of students that learn alone.
    pub local: Option<Metrics>,
    /// Of students that only the teacher teaches.
    pub teacher_only: Option<Metrics>,
}

/// Shares of the global test set's samples that are classified rightly, 0 to 1.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Accuracy {
    /// The teacher as it began.
    pub teacher_before: Option<f64>,
    /// The teacher at the end.
    pub teacher_after: Option<f64>,
    /// Students that learn alone.
    pub local_mean: Option<f64>,
    /// Students that only the teacher teaches.
    pub teacher_only_mean: Option<f64>,
    /// The federation's students.
    pub students_mean: f64,
    /// The worst of them.
    pub students_min: f64,
    /// The best of them.
    pub students_max: f64,
    /// One student with all private data in one place.
    pub pooled: Option<f64>,
}

/// Expected calibration errors.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Ece {
    /// Mean over the federation's students.
    pub students_mean: f64,
    /// The teacher at the end.
    pub teacher_after: Option<f64>,
}

/// Bytes; means over clients and rounds are of all streams, frames and headers included.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Bytes {
    /// From a client, a round.
    pub up_per_client_round: f64,
    /// To a client, a round; a round's share of the transfer set is in it.
    pub down_per_client_round: f64,
    /// What federated averaging sends of the same models, each way: 4 bytes a parameter.
    pub fedavg_per_client_round: f64,
    /// The transfer set, which each client that needs it fetches once.
    pub transfer_set: u64,
    /// All UDP payload of all clients, both ways; none in memory.
    pub quic_total: Option<u64>,
}

/// Wall-clock times.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Seconds {
    /// Of all.
    pub total: f64,
    /// Of the federation alone, without what it is compared with.
    pub federation: f64,
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    sum / count.max(1) as f64
}

fn accuracies(outcome: &Outcome) -> Vec<f64> {
    let clients = outcome.clients.iter();
    clients.map(|client| client.on_test.share()).collect()
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

impl From<&Experiment> for Summary {
    fn from(experiment: &Experiment) -> Self {
        let Experiment {
            config, federated, ..
        } = experiment;
        let students = accuracies(federated);
        let teacher_after = teacher_after(experiment);
        let metrics = |outcome: &Option<Outcome>| outcome.as_ref().map(Metrics::from);
        let of = |outcome: &Option<Outcome>| outcome.as_ref().map(|o| mean(accuracies(o)));
        let asked = config.per_round.unwrap_or(config.clients);
        let shares = (asked * config.rounds as usize) as f64;
        let fedavg = mean(federated.parameters.iter().map(|&p| 4.0 * p as f64));
        let all = |bytes: fn(&crate::RoundRow) -> &Vec<u64>| {
            let rounds = federated.rounds.iter();
            rounds.flat_map(bytes).sum::<u64>() as f64 / shares
        };
        Self {
            accuracy: Accuracy {
                teacher_before: federated.server_before.map(|s| s.on_test.share()),
                teacher_after: teacher_after.map(|s| s.on_test.share()),
                local_mean: of(&experiment.local),
                teacher_only_mean: of(&experiment.teacher_only),
                students_mean: mean(students.iter().copied()),
                students_min: least(&students),
                students_max: most(&students),
                pooled: experiment.pooled.map(|e| e.accuracy),
            },
            metrics: Scores {
                federated: federated.into(),
                local: metrics(&experiment.local),
                teacher_only: metrics(&experiment.teacher_only),
            },
            ece: Ece {
                students_mean: mean(federated.clients.iter().map(|client| client.ece)),
                teacher_after: teacher_after.map(|server| server.ece),
            },
            decided: federated
                .rounds
                .last()
                .map_or_else(BTreeMap::new, |row| row.decided.clone()),
            bytes: Bytes {
                up_per_client_round: all(|row| &row.up),
                down_per_client_round: all(|row| &row.down),
                fedavg_per_client_round: fedavg,
                transfer_set: federated.transfer_bytes,
                quic_total: federated.network,
            },
            ledger: LedgerMeans::of(&federated.rounds, shares, 2.0 * fedavg),
            seconds: Seconds {
                total: experiment.seconds,
                federation: federated.seconds,
            },
            seed: config.seed,
            digest: federated.digest.clone(),
            config: config.clone(),
        }
    }
}

/// The teacher at the end: what the server has of a method that averages parameters is none.
fn teacher_after(experiment: &Experiment) -> Option<ServerScore> {
    match Averaging::is(&experiment.config.method) {
        true => None,
        false => experiment.federated.server_after,
    }
}

/// One line of the table: who, and mean, worst and best accuracy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) who: String,
    pub(crate) mean: f64,
    pub(crate) range: Option<(f64, f64)>,
}

/// The federations of students that were run, from what is compared with to what is asked about.
fn federations(experiment: &Experiment) -> Vec<(String, &Outcome)> {
    let of = |who: &str, outcome| Some((who.to_owned(), Option::as_ref(outcome)?));
    let Experiment {
        config, federated, ..
    } = experiment;
    let all = [
        of("students alone (local)", &experiment.local),
        of("students, teacher-only", &experiment.teacher_only),
        Some((format!("students federated ({})", config.method), federated)),
    ];
    all.into_iter().flatten().collect()
}

/// Everyone's accuracy on the global test set, from the least to the most that is known.
pub(crate) fn lines(experiment: &Experiment) -> Vec<Line> {
    let one = |who: &str, share: Option<f64>| {
        share.map(|mean| Line {
            who: who.to_owned(),
            mean,
            range: None,
        })
    };
    let many = federations(experiment).into_iter().map(|(who, outcome)| {
        let all = accuracies(outcome);
        Line {
            who,
            mean: mean(all.iter().copied()),
            range: Some((least(&all), most(&all))),
        }
    });
    let before = experiment.federated.server_before;
    let server = experiment.federated.server_after;
    let after = match teacher_after(experiment) {
        Some(_) => "teacher after",
        None => "averaged model",
    };
    let share = |server: ServerScore| server.on_test.share();
    let mut lines: Vec<Line> = one("teacher alone", before.map(share))
        .into_iter()
        .collect();
    lines.extend(many);
    lines.extend(one(after, server.map(share)));
    let pooled = experiment.pooled.map(|evaluation| evaluation.accuracy);
    lines.extend(one("one student, all data pooled", pooled));
    lines
}

/// One line of the table of personal accuracies: who, and mean, standard deviation and worst tenth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PersonalLine {
    pub(crate) who: String,
    pub(crate) on_own: OverClients<crate::ClientOnOwn>,
}

/// How good students are each for its own client.
pub(crate) fn personal_lines(experiment: &Experiment) -> Vec<PersonalLine> {
    let federations = federations(experiment).into_iter();
    let lines = federations.filter_map(|(who, outcome)| {
        let on_own = Metrics::from(outcome).clients_on_own?;
        Some(PersonalLine { who, on_own })
    });
    lines.collect()
}

/// What personal accuracy is measured on, under these partitions.
pub(crate) fn measured_on(config: &Config, partitions: &[Partition]) -> String {
    const CLASSES: &str = "the test set's classes, as often as each client has them";
    match (config.personal_held_out, partitions) {
        (share, _) if share > 0.0 => format!(
            "held-out {:.0} % of each client's own samples",
            100.0 * share
        ),
        (_, [Partition::Natural]) => {
            format!("its own test samples or, if the data tells of none, on {CLASSES}")
        }
        (_, partitions) if partitions.contains(&Partition::Natural) => {
            format!(
                "{CLASSES}; naturally federated, on its own test samples if the data tells of them"
            )
        }
        _ => CLASSES.to_owned(),
    }
}

/// What was run, in one line.
pub(crate) fn title(config: &Config) -> String {
    let models: Vec<String> = config.models.iter().map(ToString::to_string).collect();
    let how = match (Averaging::is(&config.method), config.transport) {
        (true, _) => "parameters averaged in this process".to_owned(),
        (false, Transport::Quic) => format!("over QUIC, teacher {}", config.teacher),
        (false, Transport::Memory) => format!("over memory, teacher {}", config.teacher),
    };
    let lies = config.byzantine.map_or_else(String::new, |byzantine| {
        format!(", {} OF THEM LIE ({})", byzantine.liars, byzantine.how())
    });
    format!(
        "{}: {} clients ({}){lies}, {}, {} rounds of {}, {how}, seed {}",
        config.data,
        config.clients,
        models.join(", "),
        config.partition,
        config.rounds,
        config.method,
        config.seed
    )
}

/// The table that a run ends with.
pub fn table(experiment: &Experiment) -> String {
    let summary = Summary::from(experiment);
    let samples = experiment.federated.test_samples;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut text = format!("{}\n\n", title(&experiment.config));
    let head = format!("accuracy on {samples} test samples");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{head:<36} {:>8} {:>8} {:>8}",
        "mean", "worst", "best"
    );
    for Line { who, mean, range } in lines(experiment) {
        let (worst, best) = range.map_or_else(Default::default, |(l, m)| (percent(l), percent(m)));
        let _ = writeln!(text, "{who:<36} {:>8} {worst:>8} {best:>8}", percent(mean));
    }
    let decided = decisions(&experiment.federated.rounds);
    if !decided.is_empty() {
        let method = &experiment.config.method;
        let _ = writeln!(text, "{method} decided: {}", decided.join("; "));
    }
    let _ = writeln!(
        text,
        "\n{:<36} {:>8} {:>8} {:>8}",
        "personal accuracy", "mean", "std", "worst tenth"
    );
    for PersonalLine { who, on_own } in personal_lines(experiment) {
        let (mean, worst) = (on_own.mean.share(), on_own.worst_decile.share());
        let (mean, std, worst) = (percent(mean), percent(on_own.std), percent(worst));
        let _ = writeln!(text, "{who:<36} {mean:>8} {std:>8} {worst:>11}");
    }
    let _ = writeln!(
        text,
        "(on {})",
        measured_on(&experiment.config, &[experiment.config.partition])
    );
    let Bytes {
        up_per_client_round: up,
        down_per_client_round: down,
        fedavg_per_client_round: fedavg,
        transfer_set,
        quic_total,
    } = summary.bytes;
    let _ = writeln!(
        text,
        "\n{:<36} {:>8} {:>8}",
        "bytes per client and round", "up", "down"
    );
    let averaged = Averaging::is(&experiment.config.method);
    if !averaged {
        let _ = writeln!(
            text,
            "{:<36} {:>8} {:>8}",
            "fedistill",
            size(up),
            size(down)
        );
    }
    let _ = writeln!(
        text,
        "{:<36} {:>8} {:>8}",
        "FedAvg of the same models",
        size(fedavg),
        size(fedavg)
    );
    if summary.ledger.down.transfer_set > 0.0 {
        let _ = writeln!(
            text,
            "(down: with a round's share of the transfer set, {} fetched once)",
            size(transfer_set as f64)
        );
    }
    if let Some(total) = quic_total {
        let _ = writeln!(text, "all QUIC traffic: {}", size(total as f64));
    }
    let _ = writeln!(
        text,
        "{:.1} s, digest {}",
        summary.seconds.total,
        &summary.digest[..16.min(summary.digest.len())]
    );
    text
}
