//! What crosses, to the byte: FD's class means (Jeong et al. 2018, table 1) and DS-FL's answers
//! (Itahara et al. 2020), which do not grow with the model. Papers count values of 4 bytes, which is held to the byte;
//! what crosses is those, coded.

use fedistill_learning::Architecture;
use fedistill_protocol::Answers;
use fedistill_simulator::config::Config;
use fedistill_simulator::{Entries, Ledger, Partition, Transport};

use super::{Figures, Finding, Lab, Rule, Runs};

/// Bytes of a message that are no payload, at most.
const FRAMING: f64 = 60.0;
/// What goes up in a round beside heartbeats, of which so short a one has none: the request of the lesson (40 bytes), the
/// announcement of what the client gives back (44), and that in a chunk (a header of 12).
const MESSAGES_UP: f64 = 3.0;
/// What comes down: the plan, the lesson in a chunk (12), the request of what the client gives back (40) and its receipt
/// (40). The plan says all that is asked, with transfer set and lesson by their digests, in more than `FRAMING`: it
/// has the room of two, and what the others leave of theirs.
const MESSAGES_DOWN: f64 = 3.0 + 2.0;

pub(super) fn class_means_are_exact(lab: &Lab) -> Vec<Finding> {
    let rounds = 16;
    // On even data every client holds every class, so each contribution is a whole table.
    let runs = lab.run(&Config {
        method: "fd".to_owned(),
        rounds: rounds as u32,
        ..lab.base()
    });
    // The same over a network, which adds no byte to streams.
    let quic = lab.run(&Config {
        method: "fd".to_owned(),
        rounds: rounds as u32,
        transport: Transport::Quic,
        ..lab.base()
    });
    let all = |bytes: f64| lab.seeds().iter().map(|_| bytes).collect::<Figures>();
    // Those that are not as they should be, of all rounds; in the first nothing comes down yet.
    let wrong = |values: &dyn Fn(usize) -> Figures, from: usize| {
        let each = (from..rounds).map(|round| values(round).less(&all(400.0)).sizes());
        each.fold(all(0.0), |sum, off| sum.less(&all(0.0).less(&off)))
    };
    let (up, down) = (|round| runs.raw_up(round), |round| runs.raw_down(round));
    let last = rounds - 1;
    // Table 1 of the paper: 16 rounds, up and down; parameters of its CNN.
    let ours = up(1).0.into_iter().zip(down(1).0);
    let ours: Figures = ours.map(|(up, down)| 16.0 * (up + down)).collect();
    let theirs = all(2.0 * 16.0 * 4.0 * 1_199_648.0);
    vec![
        Finding::new(
            "FD: bytes by which values up differ from 400, over 16 rounds",
            wrong(&up, 0),
            Rule::Exactly(0.0),
            "FD T1: 100 values a round",
        )
        .digits(0),
        Finding::new(
            "FD: bytes by which values down differ from 400, from the second round on",
            wrong(&down, 1),
            Rule::Exactly(0.0),
            "FD T1: 100 values a round",
        )
        .digits(0),
        Finding::new(
            "FD: values of 16 rounds, both ways, bytes",
            ours.clone(),
            Rule::Exactly(12_800.0),
            "FD T1: 102,400 bit",
        )
        .digits(0),
        Finding::new(
            "FedAvg of the paper's CNN over that, times",
            theirs.over(&ours),
            Rule::Between(11_990.0, 12_000.0),
            "FD T1: 153.6 MB, some 12,000 times",
        )
        .digits(0),
        Finding::new(
            "FD: what values up take coded, with their header, of 400 bytes",
            runs.packed_up(last).over(&all(400.0)),
            Rule::AtMost((400 + Answers::HEADER_BYTES) as f64 / 400.0),
            "-",
        )
        .digits(2),
        Finding::new(
            "FD: what values down take coded, with their header, of 400 bytes",
            runs.packed_down(last).over(&all(400.0)),
            Rule::AtMost((400 + Answers::HEADER_BYTES) as f64 / 400.0),
            "-",
        )
        .digits(2),
        Finding::new(
            "FD: bytes up beside the payload, a round",
            runs.up(last).less(&runs.packed_up(last)),
            Rule::Between(0.0, FRAMING * MESSAGES_UP),
            "-",
        )
        .digits(0),
        Finding::new(
            "FD: bytes down beside the payload, a round",
            runs.down(last).less(&runs.packed_down(last)),
            Rule::Between(0.0, FRAMING * MESSAGES_DOWN),
            "-",
        )
        .digits(0),
        Finding::new(
            "FD over QUIC: bytes on streams that differ from those in memory, all rounds both ways",
            crossed(&quic).less(&crossed(&runs)).sizes(),
            Rule::Exactly(0.0),
            "-",
        )
        .digits(0),
        Finding::new(
            "FD over QUIC: UDP payload up beside what streams carry, a round",
            around(&quic, |ledger| &ledger.up),
            Rule::Told,
            "-",
        )
        .digits(0),
        Finding::new(
            "FD over QUIC: UDP payload down beside what streams carry, a round",
            around(&quic, |ledger| &ledger.down),
            Rule::Told,
            "-",
        )
        .digits(0),
    ]
}

/// Bytes of all clients in all rounds, both ways.
fn crossed(runs: &Runs) -> Figures {
    let sum = |bytes: &[u64]| bytes.iter().sum::<u64>() as f64;
    runs.each(|run| {
        let rounds = run.federated.rounds.iter();
        rounds.map(|row| sum(&row.up) + sum(&row.down)).sum()
    })
}

/// What QUIC adds one way to what streams carry, for a client in a round: the mean over all but the first round,
/// in which connections are made and the transfer set comes down.
fn around(runs: &Runs, way: impl Fn(&Ledger) -> &Entries) -> Figures {
    runs.each(|run| {
        let rounds = || run.federated.rounds.iter().skip(1);
        let clients: usize = rounds().map(|row| row.up.len()).sum();
        let over = rounds().map(|row| {
            let flow = way(&row.ledger).total();
            flow.quic.unwrap_or(0) as f64 - flow.application() as f64
        });
        over.sum::<f64>() / clients.max(1) as f64
    })
}

pub(super) fn answers_do_not_know_the_model(lab: &Lab) -> Vec<Finding> {
    let samples = lab.base().samples;
    let of = |method: &str, model| {
        lab.run(&Config {
            method: method.to_owned(),
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
        of("ds-fl:sa", Architecture::MlpS),
        of(
            "ds-fl:sa",
            lab.sized(Architecture::ConvM, Architecture::FedavgCnn),
        ),
    );
    let averaged = of("fedavg", Architecture::MlpS);
    let payload = f64::from(4 * samples * 10);
    let all = |value: f64| lab.seeds().iter().map(|_| value).collect::<Figures>();
    let beside = small.up(1).less(&small.packed_up(1));
    let grown = large.raw_up(1).less(&small.raw_up(1));
    let parameters = large.parameters() / small.parameters();
    // K clients and one broadcast, as the paper counts: (K + 1) times what one sends, of 1,000 samples.
    let round = |bytes: &f64| (101.0 * bytes / 1e5).round() / 10.0;
    let each = small.raw_up(1).0.into_iter();
    let labels: Vec<f64> = each
        .map(|bytes| bytes * 1000.0 / f64::from(samples))
        .collect();
    // The paper's net is none of ours: bytes a parameter are measured.
    let parameter = |bytes: &f64| bytes / averaged.parameters();
    let weights = averaged.up(1).0;
    let weights: Vec<f64> = weights.iter().map(|up| 583_242.0 * parameter(up)).collect();
    vec![
        Finding::new(
            format!("DS-FL: bytes of values up that a model {parameters:.0} times as large adds"),
            grown,
            Rule::Exactly(0.0),
            "DS-FL: cost independent of the model",
        )
        .digits(0),
        Finding::new(
            format!("DS-FL: what values up take coded, of 4NC = {payload} bytes"),
            small.packed_up(1).over(&all(payload)),
            Rule::AtMost(1.0),
            "-",
        )
        .of(&[(
            "of the large model's",
            &large.packed_up(1).over(&all(payload)),
        )])
        .digits(2),
        Finding::new(
            "DS-FL: bytes up beside those, a round, percent of 4NC",
            beside.over(&all(payload / 100.0)),
            Rule::Between(0.0, 10.0),
            "-",
        )
        .digits(2),
        Finding::new(
            "DS-FL: a round of 100 clients, MB",
            labels.iter().map(round).collect(),
            Rule::Exactly(4.0),
            "DS-FL: 4.0 MB",
        ),
        Finding::new(
            "FedAvg: a round of 100 clients with 583,242 parameters, MB",
            weights.iter().map(round).collect(),
            Rule::Between(233.7, 238.5),
            "DS-FL: 236.1 MB",
        ),
    ]
}
