//! What crosses where clients vote: a class a sample, or nothing.

use fedistill_protocol::{AnswerKind, Answers, Loss, Phase, ProtocolError, Silence};

use crate::State;
use crate::method::{Setting, Training, by_row, centred, distillation, private};

/// Where clients that vote on this share of their own samples stay silent.
pub(super) fn silence(quantile: f32) -> Silence {
    match quantile > 0.0 {
        true => Silence::Far { quantile },
        false => Silence::Never,
    }
}

/// What clients train: the class that came down, where one did, then their own labels.
pub(super) fn phases(training: &Training, state: &State) -> Vec<Phase> {
    let distil = distillation(training, Loss::SoftCrossEntropy);
    let distil = state.teaches().then_some(distil).into_iter();
    distil.chain([private(training)]).collect()
}

/// What is left for the user to say.
pub(super) fn heeds(setting: Setting) -> bool {
    ![Setting::Packing, Setting::DistillationTemperature].contains(&setting)
}

/// Share of all votes that a class has beside those that it was given, so that none is impossible.
const BESIDE: f32 = 0.05;

/// Shares of votes as centred logits; samples that nobody votes on stay silent.
pub(super) fn logits(shares: &Answers) -> Result<Answers, ProtocolError> {
    by_row(AnswerKind::Logits, shares, |row| {
        let logits: Vec<f32> = row.iter().map(|share| (share + BESIDE).ln()).collect();
        centred(&logits, f32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_votes_are_more_and_none_are_silence() {
        let shares = vec![0.7, 0.2, 0.1, 0.0, 0.0, 0.0];
        let shares = Answers::new(AnswerKind::Probabilities, 3, shares).unwrap();
        let logits = logits(&shares).unwrap();
        let speaks: Vec<bool> = logits.speaks().collect();
        assert_eq!(speaks, [true, false]);
        let row = logits.iter().next().unwrap();
        assert!(row[0] > row[1] && row[1] > row[2]);
        assert!((row.iter().sum::<f32>()).abs() < 1e-5);
    }
}
