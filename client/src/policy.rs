use fedistill_protocol::{About, AnswerKind, Phase, RoundPlan, Toward};
use serde::Deserialize;

/// What this device allows a coordinator to ask of it. A plan that asks for more is refused, with
/// the reason.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Whether logits may leave.
    pub logits: bool,
    /// Whether probabilities may leave.
    pub probabilities: bool,
    /// Whether features may leave: means over a class's private samples, of a layer within the student.
    pub features: bool,
    /// Whether means over the private samples of each class may leave: they tell which classes a client
    /// holds.
    pub class_means: bool,
    /// Whether a client may be asked to stay silent about what is unlike its own samples: what it speaks of tells what it
    /// holds.
    pub silence: bool,
    /// Whether logits may be corrected by a client's own label frequencies: two such answers tell them.
    pub adjust: bool,
    /// The most samples that one round may ask answers on.
    pub most_rows: u32,
    /// The fewest clients that a round may ask, so that an aggregate hides one among them.
    pub smallest_cohort: u32,
    /// The most passes over samples that one round may ask for, those that only look at them included.
    pub most_epochs: u32,
    /// The most samples a step: what a device holds of a net as it learns grows with them.
    pub most_batch: u16,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            logits: true,
            probabilities: true,
            features: true,
            class_means: true,
            silence: true,
            adjust: true,
            most_rows: 100_000,
            smallest_cohort: 1,
            most_epochs: 100,
            most_batch: 4096,
        }
    }
}

impl Policy {
    /// Holds a plan against this policy.
    ///
    /// # Errors
    /// The first thing that is not allowed, as one line.
    pub fn check(&self, plan: &RoundPlan) -> Result<(), String> {
        let refuse = |why: String| Err(format!("this device's policy: {why}"));
        if let Some(report) = &plan.report {
            let allowed = match report.kind {
                AnswerKind::Logits => self.logits,
                AnswerKind::Probabilities => self.probabilities,
                AnswerKind::Features => self.features,
            };
            if !allowed {
                return refuse(format!("{:?} must not leave", report.kind));
            }
            if report.about == About::Classes && !self.class_means {
                return refuse("means of classes must not leave".to_owned());
            }
            if report.silence.tells_own() && !self.silence {
                return refuse("no silence must tell what it holds".to_owned());
            }
            if report.adjust != 0.0 && !self.adjust {
                return refuse("label frequencies must not leave".to_owned());
            }
            let rows = match &report.about {
                About::Rows(rows) => rows.count(),
                About::Classes => 0,
            };
            let most = self.most_rows;
            if rows > most {
                return refuse(format!(
                    "answers on {rows} samples are asked, at most {most} may leave"
                ));
            }
            let (cohort, smallest) = (plan.cohort, self.smallest_cohort);
            if cohort < smallest {
                return refuse(format!(
                    "{cohort} clients take part, at least {smallest} must"
                ));
            }
        }
        let widest = plan.phases.iter().map(|phase| phase.batch).max();
        if let Some(batch) = widest.filter(|batch| *batch > self.most_batch) {
            return refuse(format!(
                "batches of {batch} are asked, of at most {} may be",
                self.most_batch
            ));
        }
        let looks = |phase: &Phase| {
            let mut terms = phase.objective.iter();
            terms.any(|term| term.toward == Toward::Before)
        };
        let epochs: u32 = plan
            .phases
            .iter()
            .map(|phase| u32::from(phase.epochs) + u32::from(looks(phase)))
            .sum();
        match epochs > self.most_epochs {
            true => refuse(format!(
                "{epochs} epochs are asked, at most {} may be",
                self.most_epochs
            )),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::{Loss, LossTerm, Silence};

    use super::*;
    use crate::agent::tests::plan;

    #[test]
    fn what_is_not_allowed_is_refused_with_the_reason() {
        let open = Policy::default();
        assert_eq!(open.check(&plan(0)), Ok(()));
        let cases = [
            (
                Policy {
                    logits: false,
                    ..open.clone()
                },
                "Logits must not leave",
            ),
            (
                Policy {
                    most_rows: 1,
                    ..open.clone()
                },
                "2 samples",
            ),
            (
                Policy {
                    smallest_cohort: 4,
                    ..open.clone()
                },
                "3 clients",
            ),
            (
                Policy {
                    most_epochs: 2,
                    ..open
                },
                "3 epochs",
            ),
        ];
        for (policy, part) in cases {
            let why = policy.check(&plan(0)).unwrap_err();
            assert!(why.contains(part) && why.contains("policy"), "{why}");
        }
    }

    #[test]
    fn what_tells_of_own_labels_and_samples_has_keys_of_its_own() {
        let mut plan = plan(0);
        let mut told = |silence, adjust| {
            let report = plan.report.as_mut().unwrap();
            (report.silence, report.adjust) = (silence, adjust);
            plan.clone()
        };
        let open = Policy::default();
        let closed = Policy {
            silence: false,
            adjust: false,
            ..open.clone()
        };
        let far = Silence::Far { quantile: 0.75 };
        for (asked, part) in [
            (told(far, 0.0), "silence"),
            (told(Silence::Foreign, 0.0), "silence"),
            (told(Silence::Never, 1.0), "label frequencies"),
        ] {
            assert_eq!(open.check(&asked), Ok(()));
            let why = closed.check(&asked).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        // What a student is sure of is in what it says.
        let unsure = told(Silence::Unsure { least: 0.5 }, 0.0);
        assert_eq!(closed.check(&unsure), Ok(()));
    }

    #[test]
    fn looking_at_samples_counts_as_a_pass_and_steps_have_a_size() {
        let mut plan = plan(0);
        let most_epochs = 3;
        let policy = Policy {
            most_epochs,
            most_batch: plan.phases[0].batch,
            ..Policy::default()
        };
        assert_eq!(policy.check(&plan), Ok(()));
        plan.phases[0].batch += 1;
        let why = policy.check(&plan).unwrap_err();
        assert!(why.contains("batches of"), "{why}");
        plan.phases[0].batch -= 1;
        let before = LossTerm::new(Loss::SoftCrossEntropy, Toward::Before);
        plan.phases[0].objective.push(before);
        let why = policy.check(&plan).unwrap_err();
        assert!(why.contains("4 epochs"), "{why}");
    }

    #[test]
    fn features_and_means_of_classes_have_keys_of_their_own() {
        let mut plan = plan(0);
        if let Some(report) = &mut plan.report {
            report.kind = AnswerKind::Features;
            report.about = About::Classes;
        }
        let open = Policy::default();
        assert_eq!(open.check(&plan), Ok(()));
        for (features, class_means, part) in [
            (false, true, "Features must not leave"),
            (true, false, "means of classes must not leave"),
        ] {
            let policy = Policy {
                features,
                class_means,
                ..open.clone()
            };
            let why = policy.check(&plan).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
