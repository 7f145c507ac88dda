//! Settings that make no difference: what is refused, and what is only told of.

use fedistill_federation::{AtCentre, Method, Setting, Training, method};
use fedistill_program::config::Rounding;
use fedistill_protocol::Precision;

use super::Config;
use crate::{Averaging, SimulationError, TeacherSource};

impl Config {
    /// Refuses what would be without effect on the method. Where several are compared it is for others.
    pub(super) fn suits_its_method(&self) -> Result<(), SimulationError> {
        let setting = Setting::DistillationTemperature;
        let is_given = self.distillation_temperature != Training::TEMPERATURE;
        match is_given && !heeds(&self.method, setting) {
            true => Err(SimulationError::Settings(setting.is_lost_on(&self.method))),
            false => Ok(()),
        }
    }

    /// What of these settings is without effect on the method, or of little, a line each. One file may serve many methods, so it is
    /// only told of.
    pub(crate) fn without_effect(&self, transfer: usize) -> Vec<String> {
        let usual = Self::default();
        let given = [
            (Setting::Packing, self.packing != usual.packing),
            (Setting::Rounding, self.rounding != Rounding::default()),
            (Setting::Samples, self.samples != usual.samples),
            (
                Setting::PrivateEpochs,
                self.private_epochs != usual.private_epochs,
            ),
            (
                Setting::DistillationEpochs,
                self.distillation_epochs != usual.distillation_epochs,
            ),
        ];
        let lost = given
            .into_iter()
            .filter(|(setting, is_given)| *is_given && !heeds(&self.method, *setting));
        let lost = lost.map(|(setting, _)| setting.is_lost_on(&self.method));
        lost.chain(self.idle_keys())
            .chain(self.idle_packed())
            .chain(self.rounds_nothing())
            .chain(self.cut(transfer))
            .chain(self.remark(transfer))
            .collect()
    }

    /// What the method's own keys are likely to disappoint by, where a transfer set has so many samples.
    pub(crate) fn remark(&self, transfer: usize) -> Option<String> {
        let samples = self.samples.min(transfer.try_into().unwrap_or(u32::MAX));
        // A method that nobody knows is refused elsewhere; others than ours have no such keys.
        method::by_name(&self.method).ok()?.remark(samples)
    }

    /// Which of the method's own keys are without effect beside such a teacher, a line each.
    pub(crate) fn idle_keys(&self) -> Vec<String> {
        match Averaging::by_name(&self.method) {
            Ok(Some(averaging)) => averaging.idle(&self.teacher).into_iter().collect(),
            // A method that nobody knows is refused elsewhere.
            _ => method::by_name(&self.method)
                .map_or_else(|_| Vec::new(), |method| self.at_centre().idle(&*method)),
        }
    }

    /// The method and how its answers are packed; `None` where there are none, or of a method that nobody knows, which is
    /// refused elsewhere.
    fn packed(&self) -> Option<(Box<dyn Method>, Precision)> {
        if Averaging::is(&self.method) {
            return None;
        }
        let method = method::by_name(&self.method).ok()?;
        let usual = method.usual_precision();
        Some((method, self.packing.map_or(usual, Into::into)))
    }

    /// Which of the method's own keys are without effect where answers are packed as they are, a line each.
    pub(crate) fn idle_packed(&self) -> Vec<String> {
        let packed = self.packed();
        packed.map_or_else(Vec::new, |(method, precision)| {
            method::idle_packed(&*method, precision)
        })
    }

    /// That clients round by chance where there is nothing to round.
    pub(crate) fn rounds_nothing(&self) -> Option<String> {
        let (method, precision) = self.packed()?;
        method::rounds_nothing(&*method, precision, self.rounding.into())
    }

    fn at_centre(&self) -> AtCentre {
        match self.teacher {
            TeacherSource::None => AtCentre::Nobody,
            TeacherSource::Untrained => AtCentre::Untrained,
            TeacherSource::File(_) => AtCentre::Trained,
            TeacherSource::Train(_) => AtCentre::Measured,
        }
    }

    /// That rounds speak about fewer samples than `samples` says, where a transfer set has only so many
    /// and the method speaks about it.
    pub(crate) fn cut(&self, transfer: usize) -> Option<String> {
        let transfer = transfer.try_into().unwrap_or(u32::MAX);
        let why = fedistill_coordinator::config::cut(self.samples, transfer);
        why.filter(|_| heeds(&self.method, Setting::Samples))
    }
}

/// Whether a setting makes a difference to the algorithm of this name; one that nobody knows is refused
/// elsewhere.
pub(crate) fn heeds(method: &str, setting: Setting) -> bool {
    match Averaging::by_name(method) {
        Ok(Some(which)) => which.heeds(setting),
        Ok(None) => method::by_name(method).map_or(true, |method| method.heeds(setting)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use fedistill_program::config::Packing;

    use super::*;

    fn lines(method: &str, teacher: TeacherSource) -> Vec<String> {
        let config = Config {
            method: method.to_owned(),
            teacher,
            ..Config::default()
        };
        config.without_effect(2000)
    }

    #[test]
    fn what_a_method_makes_nothing_of_is_told() {
        let config = |method: &str| Config {
            method: method.to_owned(),
            packing: Some(Packing::U4),
            rounding: Rounding::Stochastic,
            samples: 500,
            private_epochs: 2,
            distillation_epochs: 5,
            ..Config::default()
        };
        let lost = |method: &str, keys: &[&str]| {
            let told = config(method).without_effect(2000);
            let expected = keys
                .iter()
                .map(|key| format!("{key} changes nothing with {method}: leave it out"));
            let expected: Vec<String> = expected.collect();
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for (line, part) in told.iter().zip(&expected) {
                assert!(line.starts_with(part), "{line}");
            }
        };
        lost("adaptive", &[]);
        for method in ["vote", "cfd", "adaptive,votes=0.75"] {
            lost(method, &["packing"]);
        }
        lost(
            "fedavg",
            &["packing", "rounding", "samples", "distillation-epochs"],
        );
        lost("feddf", &["packing", "rounding", "distillation-epochs"]);
        lost("fd", &["samples", "distillation-epochs"]);
        // Nobody who says nothing hears of it.
        for method in [
            "vote",
            "cfd",
            "fd",
            "local",
            "fedavg",
            "feddf",
            "teacher-only",
        ] {
            let told = lines(method, TeacherSource::Train(100));
            assert!(told.is_empty(), "{method}: {told:?}");
        }
        // More samples than there are, of a method that speaks about them.
        let cut = |method: &str| config(method).without_effect(499).len();
        assert_eq!((cut("adaptive"), cut("fd")), (1, 2));
    }

    #[test]
    fn what_packing_leaves_without_effect_is_told() {
        let told = |method: &str, packing, rounding| {
            let config = Config {
                method: method.to_owned(),
                packing,
                rounding,
                ..Config::default()
            };
            config.without_effect(2000)
        };
        let tolerance = "adaptive,tolerance=5";
        let one = |lines: Vec<String>, part: &str| {
            assert!(lines.len() == 1 && lines[0].contains(part), "{lines:?}");
        };
        one(
            told(tolerance, Some(Packing::F16), Rounding::Nearest),
            "tolerance of adaptive,tolerance=5 changes nothing where values are packed in 16 bits",
        );
        let chance = Rounding::Stochastic;
        one(told("logit-mean", None, chance), "rounding changes nothing");
        for (method, packing, rounding) in [
            (tolerance, None, Rounding::Nearest),
            (tolerance, Some(Packing::U1), Rounding::Nearest),
            ("adaptive", None, chance),
            ("logit-mean", Some(Packing::U8), chance),
            ("cfd", None, chance),
        ] {
            assert_eq!(
                told(method, packing, rounding),
                Vec::<String>::new(),
                "{method}"
            );
        }
    }

    #[test]
    fn a_digest_of_few_steps_is_told() {
        let told = lines("fedmd", TeacherSource::Train(100));
        assert!(
            told.len() == 1 && told[0].contains("4 steps a round, 1 pass of 1000 samples"),
            "{told:?}"
        );
        let long = "fedmd,digest-batch=50,digest-epochs=10";
        assert!(lines(long, TeacherSource::Train(100)).is_empty());
        // Rounds speak about no more than there are.
        let all = Config {
            method: "fedmd".to_owned(),
            samples: 9000,
            ..Config::default()
        };
        assert!(all.remark(8000).is_none());
        assert!(all.remark(300).is_some_and(|why| why.contains("2 steps")));
    }

    #[test]
    fn keys_that_wait_for_another_teacher_are_told() {
        use TeacherSource::{None, Train, Untrained};
        let one = |method: &str, teacher: TeacherSource, part: &str| {
            let told = lines(method, teacher);
            assert!(told.len() == 1 && told[0].contains(part), "{told:?}");
        };
        let file = || TeacherSource::File("teacher.safetensors".into());
        let caution = "adaptive,caution=2";
        one(
            caution,
            None,
            "caution of adaptive,caution=2 changes nothing where there is no teacher",
        );
        one(caution, Untrained, "where the teacher begins untrained");
        one(caution, file(), "without labelled samples");
        one("cfd,dual=0", None, "dual of cfd,dual=0");
        one("feddf,validation=50", Train(100), "validation of feddf");
        let unmeasured = "feddf,validation=0,patience=500";
        one(unmeasured, None, "patience of feddf");
        let idle = Averaging::by_name("feddf,steps=100,patience=200").unwrap_err();
        assert!(idle.to_string().contains("patience changes nothing"));
        assert!(Averaging::by_name("feddf,steps=100").is_ok());
        for (method, teacher) in [
            (caution, Train(100)),
            ("adaptive,trust=1", file()),
            ("cfd,dual=0", Untrained),
            ("feddf,validation=50", None),
            ("feddf,patience=500", None),
            ("feddf,steps=50", Train(100)),
        ] {
            assert!(lines(method, teacher).is_empty(), "{method}");
        }
    }
}
