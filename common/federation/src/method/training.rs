use fedistill_protocol::Optimiser;

/// How hard clients train in a round, and what they minimise, as far as every method leaves it to the
/// user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Passes over private data.
    pub private_epochs: u16,
    /// Passes over the round's transfer samples.
    pub distillation_epochs: u16,
    /// Samples a step.
    pub batch: u16,
    /// How steps are taken.
    pub optimiser: Optimiser,
    /// T of `T^2 KL` to what came down, 0.01 to 1000: the higher, the more what is said of unlikely
    /// classes counts (Hinton et al. 2015). 1 by default.
    pub distillation_temperature: f32,
    /// Share of a private label that is spread evenly over all classes, 0 up to but not 1 (Szegedy et
    /// al. 2016). 0 by default.
    pub label_smoothing: f32,
}

impl Training {
    /// The temperature where none is given.
    pub const TEMPERATURE: f32 = 1.0;
    /// The smoothing where none is given.
    pub const SMOOTHING: f32 = 0.0;

    /// Checks that such training leads anywhere.
    ///
    /// # Errors
    /// The key and what to write there, as one line.
    pub fn check(&self) -> Result<(), String> {
        let (temperature, smoothing) = (self.distillation_temperature, self.label_smoothing);
        let counts = [
            ("private-epochs", self.private_epochs),
            ("distillation-epochs", self.distillation_epochs),
            ("batch", self.batch),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(format!("{key} is 0: write a whole number from 1 on"));
        }
        if !(0.01..=1000.0).contains(&temperature) {
            return Err(format!(
                "distillation-temperature is {temperature}: write a number from 0.01 to 1000"
            ));
        }
        match (0.0..1.0).contains(&smoothing) {
            true => Ok(()),
            false => Err(format!(
                "label-smoothing is {smoothing}: write a number from 0 to below 1"
            )),
        }
    }
}
