//! Clients that lie (Roux et al. 2024; FDLA): they spoil a mean of even data and no median; under label
//! skew nothing helps, and the drift says so.

use fedistill_simulator::Partition;
use fedistill_simulator::config::Config;

use super::{Figures, Finding, Lab, Rule, Runs};

fn federation(lab: &Lab, method: &str, partition: Partition, attack: Option<&str>) -> Runs {
    lab.run(&Config {
        method: method.to_owned(),
        partition,
        byzantine: attack.map(|attack| format!("4:{attack}").parse().unwrap()),
        ..lab.base()
    })
}

const MEAN: &str = "ds-fl:sa";
const MEDIAN: &str = "ds-fl:sa,robust=median";
/// Liars that agree on the class that the honest hold least likely on average.
const KNOWING: &str = "lma:knowing";

pub(super) fn do_not_move_a_median(lab: &Lab) -> Vec<Finding> {
    let even = |method, attack| federation(lab, method, Partition::Iid, attack).server();
    let clean = even(MEAN, None);
    let mut findings = Vec::new();
    let attacks = lab.sized(
        vec!["lma", KNOWING],
        vec!["lma", "cpa", "fdla", KNOWING, "cpa:knowing", "fdla:knowing"],
    );
    for attack in attacks {
        let (mean, median) = (even(MEAN, Some(attack)), even(MEDIAN, Some(attack)));
        let (least, paper) = match attack {
            "lma" => (
                lab.sized(3.0, 4.0),
                "less than where they know the honest mean",
            ),
            _ => (8.0, "8 and more where liars know what the honest say"),
        };
        findings.push(
            Finding::new(
                format!("what 4 of 10 liars ({attack}) cost a mean, iid, points"),
                clean.less(&mean),
                Rule::AtLeast(least),
                paper,
            )
            .of(&[("clean", &clean), ("mean", &mean)])
            // Permuted ranks are no surer than who is lied by.
            .explained_where(attack == "fdla")
            .explained_where(attack == "fdla:knowing" && lab.is_digits()),
        );
        findings.push(
            Finding::new(
                format!("what they ({attack}) cost a median, iid, points"),
                clean.less(&median),
                Rule::AtMost(lab.sized(3.0, 1.5)),
                "within 1.5",
            )
            .of(&[("median", &median), ("mean", &mean)]),
        );
    }
    if !lab.is_quick() {
        let geometric = even("ds-fl:sa,robust=geometric-median", Some("lma"));
        findings.push(Finding::new(
            "what they (lma) cost a geometric median, iid, points",
            clean.less(&geometric),
            Rule::AtMost(1.5),
            "within 1.5",
        ));
    }
    let skew = Partition::Shards(2);
    let honest = federation(lab, MEAN, skew, None);
    let attacked = federation(lab, MEAN, skew, Some("lma"));
    findings.push(
        Finding::new(
            "rounds with an alarm, shards:2 with 4 liars, percent of those from the fourth on",
            alarms(&attacked),
            Rule::AtLeast(lab.sized(60.0, 80.0)),
            "the negative regime is told, not mended",
        )
        .of(&[
            ("attacked", &attacked.server()),
            ("honest", &honest.server()),
        ]),
    );
    findings.push(Finding::new(
        "the same without liars",
        alarms(&honest),
        Rule::AtMost(20.0),
        "-",
    ));
    findings
}

fn alarms(runs: &Runs) -> Figures {
    runs.each(|run| {
        let rounds = run.federated.rounds.iter().skip(3);
        let agreements: Vec<f64> = rounds.filter_map(|row| row.agreement).collect();
        let alarming = agreements.iter().filter(|agreement| **agreement < 0.5);
        100.0 * alarming.count() as f64 / agreements.len().max(1) as f64
    })
}
