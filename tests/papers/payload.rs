//! What crosses, to the byte: FD's class means (Jeong et al. 2018, table 1) and DS-FL's answers
//! (Itahara et al. 2020), which do not grow with the model.

use fedistill_learning::Architecture;
use fedistill_protocol::{AnswerKind, Answers, Precision};
use fedistill_simulator::Partition;
use fedistill_simulator::config::Config;

use super::{Figures, Finding, Lab, Rule};

/// Frames of a contribution or a plan, requests and headers of chunks: bytes that are no payload.
const MESSAGES: f64 = 3.0;

pub(super) fn class_means_are_exact(lab: &Lab) -> Vec<Finding> {
    let rounds = 16;
    let runs = lab.run(&Config {
        method: "fd".to_owned(),
        rounds: rounds as u32,
        ..lab.base()
    });
    // Every client holds every class, so each contribution is a whole table.
    let table = Answers::new(AnswerKind::Probabilities, 10, vec![0.1; 100]).unwrap();
    let payload = table.pack(Precision::F32).len() - Answers::HEADER_BYTES;
    // Table 1 of the paper: 16 rounds, up and down; parameters of its CNN.
    let ours = (2 * rounds * payload) as f64;
    let theirs = (2 * rounds * 4 * 1_199_648) as f64;
    let all = |bytes: f64| lab.seeds().iter().map(|_| bytes).collect::<Figures>();
    let frames = |bytes: Figures| bytes.less(&all(payload as f64));
    vec![
        Finding::new(
            "FD: payload of a client in 16 rounds, both ways, bytes",
            all(ours),
            Rule::Exactly(12_800.0),
            "FD T1: 102,400 bit",
        )
        .digits(0),
        Finding::new(
            "FedAvg of the paper's CNN over that",
            all(theirs / ours),
            Rule::Between(11_990.0, 12_000.0),
            "FD T1: 153.6 MB, some 12,000 times",
        )
        .digits(0),
        Finding::new(
            "FD: bytes up beside the payload, a round",
            frames(runs.up(rounds - 1)),
            Rule::Between(0.0, 60.0 * MESSAGES),
            "-",
        )
        .digits(0),
        Finding::new(
            "FD: bytes down beside the payload, a round",
            frames(runs.down(rounds - 1)),
            Rule::Between(0.0, 60.0 * (MESSAGES + 2.0)),
            "-",
        )
        .digits(0),
    ]
}

pub(super) fn answers_do_not_know_the_model(lab: &Lab) -> Vec<Finding> {
    let samples = lab.base().samples;
    let of = |model| {
        lab.run(&Config {
            method: "ds-fl:sa".to_owned(),
            models: vec![model],
            teacher: fedistill_simulator::TeacherSource::None,
            clients: 2,
            rounds: 2,
            private_epochs: 1,
            distillation_epochs: 1,
            partition: Partition::Iid,
            ..lab.base()
        })
    };
    let (small, large) = (
        of(Architecture::MlpS),
        of(lab.sized(Architecture::ConvM, Architecture::FedavgCnn)),
    );
    let payload = f64::from(4 * samples * 10);
    let beside = small
        .up(1)
        .0
        .iter()
        .map(|up| 100.0 * (up - payload) / payload)
        .collect();
    let grown = large.up(1).less(&small.up(1));
    let parameters = large.parameters() / small.parameters();
    // K clients and one broadcast: (K + 1) times what one sends, of 1,000 samples and 10 classes.
    let round = |bytes: f64| (101.0 * bytes / 1e5).round() / 10.0;
    let once = |value: f64| Figures(vec![value]);
    vec![
        Finding::new(
            format!("DS-FL: bytes up that a model {parameters:.0} times as large adds"),
            grown,
            Rule::Exactly(0.0),
            "DS-FL: cost independent of the model",
        )
        .digits(0),
        Finding::new(
            format!("DS-FL: bytes beside 4NC = {payload}, percent of it"),
            beside,
            Rule::Between(0.0, 10.0),
            "-",
        )
        .digits(2),
        Finding::new(
            "DS-FL: a round of 100 clients, MB",
            once(round(40_000.0)),
            Rule::Exactly(4.0),
            "DS-FL: 4.0 MB",
        ),
        Finding::new(
            "FedAvg: a round of 100 clients with 583,242 parameters, MB",
            once(round(4.0 * 583_242.0)),
            Rule::Between(233.7, 238.5),
            "DS-FL: 236.1 MB",
        ),
    ]
}
