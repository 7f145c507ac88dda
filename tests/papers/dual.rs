//! CFD, table II: where only some clients take part in a round, students do best that begin it from
//! parameters that all share, and learn from the server's model rather than from the mean itself. Ours differ, and
//! `docs/papers.md` says why: the rules of the quick size are about what ours do.

use fedistill_simulator::config::Config;

use super::{Figures, Finding, Lab, Rule};

pub(super) fn distillation_from_common_parameters(lab: &Lab) -> Vec<Finding> {
    // A net that begins anew in each round takes many samples and passes to learn what it is told.
    let few = Learnt {
        samples: lab.sized(500, 1000),
        passes: 10,
    };
    let mut findings = few.compared(lab);
    if !lab.is_quick() {
        let much = Learnt {
            samples: 3000,
            passes: 20,
        };
        findings.extend(much.compared(lab));
    }
    findings
}

/// How much of the public data a round teaches.
struct Learnt {
    samples: u32,
    passes: u16,
}

impl Learnt {
    fn server(&self, lab: &Lab, settings: &str) -> Figures {
        lab.run(&Config {
            method: format!("cfd,bits-up=32,bits-down=32,{settings}"),
            clients: 20,
            per_round: Some(8),
            rounds: lab.sized(6, lab.base().rounds),
            samples: self.samples,
            distillation_epochs: self.passes,
            ..lab.base()
        })
        .server()
    }

    fn compared(&self, lab: &Lab) -> Vec<Finding> {
        let common = self.server(lab, "start=1,dual=1");
        let random = self.server(lab, "start=2,dual=0");
        let previous = self.server(lab, "start=0,dual=1");
        let of = format!("{} samples in {} passes", self.samples, self.passes);
        vec![
            Finding::new(
                format!(
                    "common start and dual distillation less own start without it, {of}, points"
                ),
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
                format!("common start less the state before, both dual, {of}, points"),
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
}
