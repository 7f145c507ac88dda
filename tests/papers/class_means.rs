//! FD (Jeong et al. 2018) exchanges mean outputs of classes: it costs hardly any bytes, and teaches a
//! client next to nothing of classes that it does not hold.

use fedistill_simulator::Partition;

use super::{Finding, Lab, Rule};

pub(super) fn hardly_help_beyond_a_client(lab: &Lab) -> Vec<Finding> {
    let partition = Partition::Shards(2);
    let local = lab.federation("local", partition).students();
    let exchanged = lab.federation("fd", partition).students();
    let averaged = lab.federation("fedavg", partition).students();
    vec![
        Finding::new(
            "FD to Local, shards:2, points apart",
            exchanged.less(&local).sizes(),
            Rule::AtMost(2.0),
            "FedTGP T1: FD near Local",
        )
        .of(&[("FD", &exchanged), ("Local", &local)]),
        Finding::new(
            "FedAvg less FD, shards:2, points",
            averaged.less(&exchanged),
            Rule::AtLeast(lab.sized(20.0, 30.0)),
            "FedGen T1: FedDistill far below FedAvg",
        )
        .of(&[("FedAvg", &averaged), ("FD", &exchanged)]),
    ]
    .into_iter()
    .chain(keep_what_is_personal(lab))
    .collect()
}

/// On data such as a client's own, a student that learnt there beats one model for all.
fn keep_what_is_personal(lab: &Lab) -> Vec<Finding> {
    let partition = Partition::Dirichlet(0.1);
    let personal = |method| lab.federation(method, partition).personal();
    let (local, exchanged, averaged) = (personal("local"), personal("fd"), personal("fedavg"));
    vec![
        Finding::new(
            "FD less Local, dirichlet:0.1, personal, points",
            exchanged.less(&local),
            Rule::AtLeast(-0.5),
            "FedTGP T1: FD not below Local",
        )
        .of(&[("FD", &exchanged), ("Local", &local)]),
        Finding::new(
            "Local less FedAvg, dirichlet:0.1, personal, points",
            local.less(&averaged),
            Rule::AtLeast(5.0),
            "FedTGP T1: one model for all is the worst on each client's own",
        )
        .of(&[("Local", &local), ("FedAvg", &averaged)]),
    ]
}
