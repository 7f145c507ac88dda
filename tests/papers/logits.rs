//! FedMD (Li and Wang 2019) averages logits: a client that never saw a class says so by a low logit,
//! which a mean of probabilities cannot hear.

use fedistill_simulator::Partition;

use super::{Finding, Lab, Rule};

/// The digest at a strength that fits a thousand transfer samples: the authors' one pass of 256 a step is
/// of 5,000 samples and pretrained students.
pub(super) const FEDMD: &str = "fedmd,digest-batch=50,digest-epochs=10";

pub(super) fn beat_probabilities_under_skew(lab: &Lab) -> Vec<Finding> {
    let skew = Partition::Shards(2);
    let logits = lab.federation(FEDMD, skew).students();
    let by_kl = lab.federation("logit-mean", skew).server();
    let (probabilities, of_students) = {
        let simple = lab.federation("ds-fl:sa", skew);
        (simple.server(), simple.students())
    };
    let local = lab.federation("local", skew).students();
    let even = lab.federation(FEDMD, Partition::Iid).students();
    // Students of both: a server's model that begins untrained lags behind them.
    let even_probabilities = lab.federation("ds-fl:sa", Partition::Iid).students();
    vec![
        Finding::new(
            "FedMD less SA, shards:2, students, points",
            logits.less(&of_students),
            Rule::AtLeast(lab.sized(2.0, 10.0)),
            "a mean of logits hears low ones",
        )
        .of(&[("FedMD", &logits), ("SA", &of_students)])
        .explained_where(!lab.is_quick()),
        Finding::new(
            "logit mean by KL less SA, shards:2, server, points",
            by_kl.less(&probabilities),
            Rule::AtLeast(lab.sized(5.0, 10.0)),
            "the same",
        )
        .of(&[("logit-mean", &by_kl), ("SA", &probabilities)]),
        Finding::new(
            "FedMD to SA, iid, points apart",
            even.less(&even_probabilities).sizes(),
            Rule::AtMost(lab.sized(4.0, 1.5)),
            "equal on IID data",
        )
        .of(&[("FedMD", &even), ("SA", &even_probabilities)]),
        Finding::new(
            "FedMD less Local, shards:2, points",
            logits.less(&local),
            Rule::AtLeast(20.0),
            "FedMD: about 20 points above no collaboration",
        )
        .of(&[("FedMD", &logits), ("Local", &local)]),
    ]
}
