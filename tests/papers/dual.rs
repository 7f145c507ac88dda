//! CFD, table II: where only some clients take part in a round, students do best that begin it from
//! parameters that all share, and learn from the server's model rather than from the mean itself. Ours differ, and
//! `docs/papers.md` says why: the rules of the quick size are about what ours do.

use fedistill_simulator::config::Config;

use super::{Finding, Lab, Rule};

pub(super) fn distillation_from_common_parameters(lab: &Lab) -> Vec<Finding> {
    let of = |settings: &str| {
        lab.run(&Config {
            method: format!("cfd,bits-up=32,bits-down=32,{settings}"),
            clients: 20,
            per_round: Some(8),
            rounds: lab.sized(6, lab.base().rounds),
            samples: lab.sized(500, 1000),
            // A net that begins anew in each round takes many passes to learn what it is told.
            distillation_epochs: 10,
            ..lab.base()
        })
        .server()
    };
    let common = of("start=1,dual=1");
    let random = of("start=2,dual=0");
    let previous = of("start=0,dual=1");
    vec![
        Finding::new(
            "common start and dual distillation less own start without it, points",
            common.less(&random),
            match lab.is_quick() {
                true => Rule::Between(-3.0, 3.0),
                false => Rule::AtLeast(1.0),
            },
            "CFD T2",
        )
        .of(&[("common, dual", &common), ("own, single", &random)])
        .explained(),
        Finding::new(
            "common start less the state before, both dual, points",
            common.less(&previous),
            match lab.is_quick() {
                true => Rule::Between(-6.0, -1.0),
                false => Rule::AtLeast(-1.5),
            },
            "CFD T2",
        )
        .of(&[("common", &common), ("before", &previous)])
        .explained(),
    ]
}
