//! Whether students have what a method asks of them, before any of them is trained.

use fedistill_federation::method;
use fedistill_learning::{Architecture, Model};

use super::Config;
use crate::{Averaging, SimulationError};

impl Config {
    /// Refuses nets whose features are not as wide as those that the method asks for, where it asks for some.
    pub(crate) fn has_features(
        &self,
        shape: &[u32],
        classes: usize,
    ) -> Result<(), SimulationError> {
        if Averaging::is(&self.method) {
            return Ok(());
        }
        let Some(asked) = method::by_name(&self.method)?.features() else {
            return Ok(());
        };
        let mut widths: Vec<(Architecture, usize)> = Vec::new();
        for &model in &self.models {
            if !widths.iter().any(|(known, _)| *known == model) {
                // A net that tells no features has none that are wide enough.
                let width = model.build(shape, classes, 0)?.features();
                widths.push((model, width.unwrap_or(0)));
            }
        }
        let fits = |width: usize| width == asked as usize;
        if widths.iter().all(|(_, width)| fits(*width)) {
            return Ok(());
        }
        let told = widths
            .iter()
            .map(|(model, width)| format!("{width} of {model}"));
        let told: Vec<String> = told.collect();
        let first = widths.first().map_or(0, |(_, width)| *width);
        let what_to_do = match widths.iter().all(|(_, width)| *width == first) {
            true => format!("write width={first} among the method's keys"),
            false => {
                "give all clients nets whose features are equally wide, and the method that width"
                    .to_owned()
            }
        };
        Err(SimulationError::Settings(format!(
            "{} asks all students for features of width {asked}, theirs are {} wide: {what_to_do}",
            self.method,
            told.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_another_width_are_refused() {
        use Architecture::{ConvM, ConvS, MlpM, MlpS};
        let fits = |method: &str, models: &[Architecture]| {
            let config = Config {
                method: method.to_owned(),
                models: models.to_vec(),
                ..Config::default()
            };
            let done = config.has_features(&[1, 28, 28], 10);
            done.map_err(|error| error.to_string())
        };
        for (method, models) in [
            ("fedproto", &[MlpS, ConvM][..]),
            ("fedtgp,width=256", &[MlpM]),
            ("fedproto,width=784,robust=median", &[ConvS]),
            // Who asks for none is asked nothing.
            ("adaptive", &[MlpS, MlpM, ConvS]),
            ("fedavg", &[MlpM]),
        ] {
            assert_eq!(fits(method, models), Ok(()), "{method}");
        }
        let why = "fedtgp asks all students for features of width 64, theirs are 256 of mlp-m wide: write width=256 among the method's keys";
        assert_eq!(fits("fedtgp", &[MlpM, MlpM]), Err(why.to_owned()));
        let why = "fedproto asks all students for features of width 64, theirs are 64 of mlp-s, 256 of mlp-m wide: give all clients nets whose features are equally wide, and the method that width";
        assert_eq!(fits("fedproto", &[MlpS, MlpM, MlpS]), Err(why.to_owned()));
    }
}
