//! CFD (Sattler et al. 2022): on even data one bit a value is enough, coded and sent as what has changed
//! it is next to nothing; under label skew votes of those that never saw a class drown the others.

use fedistill_learning::Architecture;
use fedistill_program::config::Packing;
use fedistill_simulator::config::Config;
use fedistill_simulator::{Measure, Partition, RoundRow};

use super::{Figures, Finding, Lab, Rule, Runs};

// Students go on from what they were, so that it is bits that are compared, not how much a net learns anew
// in three passes (C7 is about that).
const WHOLE: &str = "cfd,start=0,bits-up=32,bits-down=32,delta=0";
const ONE_BIT: &str = "cfd,start=0,bits-up=1,bits-down=32,delta=0";
const DELTA: &str = "cfd,start=0";
const NO_DELTA: &str = "cfd,start=0,delta=0";

/// So many transfer samples, always the same ones.
fn federation(lab: &Lab, method: &str, partition: Partition, samples: u32) -> Runs {
    lab.run(&Config {
        method: method.to_owned(),
        partition,
        samples,
        ..lab.base()
    })
}

pub(super) fn are_enough_on_even_data(lab: &Lab) -> Vec<Finding> {
    let many = lab.sized(1000, 4000);
    let even = |method| federation(lab, method, Partition::Iid, many);
    let (whole, one) = (even(WHOLE), even(ONE_BIT));
    // The twelfth round.
    let late = 11;
    let (delta, plain) = (even(DELTA), even(NO_DELTA));
    let same = delta.digests().into_iter().zip(plain.digests());
    let mut findings = vec![
        Finding::new(
            format!("32 bits up less 1, iid, N = {many}, points"),
            whole.server().less(&one.server()),
            Rule::AtMost(lab.sized(2.0, 1.0)),
            "CFD: less than 1 % at large N",
        )
        .of(&[("1 bit", &one.server()), ("32 bits", &whole.server())]),
        Finding::new(
            "32 bits up over 1 bit, payload, times",
            whole.raw_up(late).over(&one.packed_up(late)),
            Rule::AtLeast(90.0),
            "32 / log2(10), 96 times",
        ),
        Finding::new(
            format!(
                "1 bit and delta, iid: payload up in round {} over round 1",
                late + 1
            ),
            delta.packed_up(late).over(&delta.packed_up(0)),
            Rule::AtMost(lab.sized(0.4, 0.15)),
            "CFD Fig. 5: decays as a power",
        )
        .digits(3)
        .explained_where(lab.is_beyond_digits()),
        Finding::new(
            "with delta and without, the same students to the bit",
            same.map(|(a, b)| f64::from(u8::from(a == b))).collect(),
            Rule::Exactly(1.0),
            "delta loses nothing",
        )
        .digits(0),
    ];
    let averaged = lab.federation("fedavg", Partition::Iid);
    findings.push(
        Finding::new(
            format!(
                "FedAvg over 1-bit CFD, bytes both ways until {} % are right, iid, times",
                target(lab)
            ),
            until(&averaged, target(lab), |row| {
                row.clients_on_test.first().map(|c| c.share())
            })
            .over(&until(&delta, target(lab), |row| {
                row.server_on_test.map(|server| server.share())
            })),
            Rule::AtLeast(lab.sized(30.0, 50.0)),
            "CFD: two orders of magnitude",
        )
        .digits(0),
    );
    let few = lab.base().samples;
    for samples in lab.sized(vec![few], vec![few, many]) {
        let skewed = |method| federation(lab, method, Partition::Shards(2), samples).server();
        let (whole, one) = (skewed(WHOLE), skewed(ONE_BIT));
        findings.push(
            Finding::new(
                format!("32 bits up less 1, shards:2, N = {samples}, points"),
                whole.less(&one),
                Rule::AtLeast(lab.sized(3.0, 5.0)),
                "negative control: one bit fails under skew",
            )
            .of(&[("32 bits", &whole), ("1 bit", &one)]),
        );
    }
    findings.extend(falls_back(lab, few));
    findings.push(against_averaging(lab));
    findings
}

/// Ours takes as few bits as its labels bear: under skew more than the one that fails there, and not for nothing.
fn falls_back(lab: &Lab, samples: u32) -> Vec<Finding> {
    let skewed = |method: &str, packing| {
        lab.run(&Config {
            method: method.to_owned(),
            partition: Partition::Shards(2),
            packing: Some(packing),
            samples,
            ..lab.base()
        })
    };
    let whole = skewed("adaptive", Packing::F32);
    let told = skewed("adaptive", Packing::U1);
    let held = skewed("adaptive,tolerance=10", Packing::U1);
    let bits = told.each(|run| {
        let rows = run.federated.rounds.iter().rev();
        let mut decided = rows.filter_map(|row| row.decided.get("bits"));
        decided.next().copied().unwrap_or(f64::NAN)
    });
    vec![
        Finding::new(
            format!("adaptive told 1 bit, shards:2, N = {samples}: bits that it takes at the end"),
            bits,
            Rule::AtLeast(2.0),
            "who tunes bits must notice",
        ),
        Finding::new(
            "32 bits less those, students, points",
            whole.students().less(&told.students()),
            Rule::AtMost(lab.sized(2.0, 1.0)),
            "nothing is lost by it",
        )
        .of(&[
            ("32 bits", &whole.students()),
            ("told 1 bit", &told.students()),
            ("held to 1 bit", &held.students()),
        ]),
        Finding::new(
            "payload up of 32 bits over theirs, round 10, times",
            whole.packed_up(9).over(&told.packed_up(9)),
            Rule::AtLeast(2.0),
            "-",
        ),
    ]
}

/// Percent right that both sides of a comparison of bytes are to reach.
fn target(lab: &Lab) -> f64 {
    match (lab.is_digits(), lab.is_quick()) {
        (true, _) => 80.0,
        (_, true) => 60.0,
        _ => 70.0,
    }
}

/// Bytes up and down of a client until so many percent are right; infinitely many where that is never.
fn until(runs: &Runs, percent: f64, accuracy: impl Fn(&RoundRow) -> Option<f64>) -> Figures {
    runs.each(|run| {
        let mut bytes = 0.0;
        for row in &run.federated.rounds {
            let up = row.up.iter().sum::<u64>() as f64 / row.up.len().max(1) as f64;
            let down = row.down.iter().sum::<u64>() as f64 / row.down.len().max(1) as f64;
            bytes += up + down;
            if accuracy(row).is_some_and(|share| 100.0 * share >= percent) {
                // The transfer set is fetched once, and is not counted: DS-FL and CFD do not either.
                return bytes - run.federated.transfer_bytes as f64;
            }
        }
        f64::INFINITY
    })
}

/// The net of McMahan et al. 2017, at the tenth round.
fn against_averaging(lab: &Lab) -> Finding {
    let model = lab.sized(Architecture::MlpS, Architecture::FedavgCnn);
    let runs = match lab.is_quick() {
        true => lab.federation(DELTA, Partition::Iid),
        // Few and short: the net takes half a minute a pass over all samples.
        false => lab.run(&Config {
            method: DELTA.to_owned(),
            clients: 4,
            rounds: 10,
            models: vec![model],
            private_epochs: 1,
            distillation_epochs: 1,
            ..lab.base()
        }),
    };
    // Its parameters, 4 bytes each, both ways.
    let averaging = lab.seeds().iter().map(|_| 2.0 * 4.0 * 1_663_370.0);
    let both = runs.up(9).0.into_iter().zip(runs.down(9).0);
    let both: Figures = both.map(|(up, down)| up + down).collect();
    Finding::new(
        format!(
            "FedAvg of the FedAvg CNN over 1 bit and delta of {model}, both ways, round 10, times"
        ),
        averaging.collect::<Figures>().over(&both),
        Rule::AtLeast(500.0),
        "-",
    )
    .digits(0)
}
