//! DS-FL (Itahara et al. 2020): sharpening the mean helps where clients hold few classes each, and
//! does nothing on even data.

use fedistill_simulator::Partition;

use super::{Finding, Lab, Rule};

pub(super) fn helps_under_skew_alone(lab: &Lab) -> Vec<Finding> {
    let mut findings = Vec::new();
    let partitions = match lab.is_quick() {
        true => vec![Partition::Dirichlet(0.1)],
        false => vec![Partition::Shards(2), Partition::Dirichlet(0.1)],
    };
    for partition in partitions {
        let simple = lab.federation("ds-fl:sa", partition).server();
        let sharpened = lab.federation("ds-fl:era", partition).server();
        let gain = sharpened.less(&simple);
        let rule = Rule::AtLeast(lab.sized(1.0, 3.0));
        findings.push(
            Finding::new(
                format!("ERA less SA, {partition}, points"),
                gain,
                rule,
                "DS-FL: ERA above SA on non-IID data",
            )
            .of(&[("ERA", &sharpened), ("SA", &simple)])
            .explained_where(lab.is_beyond_digits()),
        );
        if !lab.is_quick() {
            let power = lab
                .federation("ds-fl:enhanced-era,beta=3", partition)
                .server();
            let gain = power.less(&simple);
            let paper = "SCARLET: a power sharpens where a softmax does not";
            findings.push(
                Finding::new(
                    format!("enhanced ERA at β = 3 less SA, {partition}, points"),
                    gain,
                    Rule::AtLeast(0.0),
                    paper,
                )
                .of(&[("enhanced ERA", &power), ("SA", &simple)]),
            );
        }
    }
    let simple = lab.federation("ds-fl:sa", Partition::Iid).server();
    let sharpened = lab.federation("ds-fl:era", Partition::Iid).server();
    findings.push(
        Finding::new(
            "ERA to SA, iid, points apart",
            sharpened.less(&simple).sizes(),
            Rule::AtMost(lab.sized(2.0, 1.0)),
            "DS-FL: equal on IID data",
        )
        .of(&[("ERA", &sharpened), ("SA", &simple)]),
    );
    // SCARLET's sharpening is the mean itself at 1, whatever else happens.
    let partition = Partition::Dirichlet(0.1);
    let plain = lab.federation("ds-fl:sa", partition);
    let power = lab.federation("ds-fl:enhanced-era,beta=1", partition);
    let equal = plain.digests().into_iter().zip(power.digests());
    findings.push(
        Finding::new(
            "enhanced ERA at β = 1 comes to SA's students, to the bit",
            equal.map(|(a, b)| f64::from(u8::from(a == b))).collect(),
            Rule::Exactly(1.0),
            "SCARLET: SA is its case β = 1",
        )
        .digits(0),
    );
    findings
}
