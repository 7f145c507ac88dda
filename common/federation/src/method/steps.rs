//! What methods are made of: phases that they have in common, and what they do with rows.

use fedistill_protocol::{
    About, AnswerKind, Answers, Loss, LossTerm, Phase, PhaseData, ProtocolError, Rows, Start,
    Toward,
};

use super::{Centre, MethodError, Setting, Taken, Training};
use crate::{Partial, State};

/// Private training: cross-entropy on the client's own labels.
pub(super) fn private(training: &Training) -> Phase {
    Phase {
        start: Start::Continue,
        data: PhaseData::Private,
        only: None,
        epochs: training.private_epochs,
        batch: training.batch,
        objective: vec![LossTerm::new(
            Loss::CrossEntropy {
                smoothing: training.label_smoothing,
            },
            Toward::Labels,
        )],
        optimiser: training.optimiser,
    }
}

/// Distillation of what came down, by this loss.
pub(super) fn distillation(training: &Training, loss: Loss) -> Phase {
    Phase {
        data: PhaseData::Transfer,
        epochs: training.distillation_epochs,
        objective: vec![LossTerm::new(loss, Toward::Knowledge)],
        ..private(training)
    }
}

/// Distillation of what came down, by KL at the user's temperature.
pub(super) fn distil(training: &Training) -> Phase {
    let temperature = training.distillation_temperature;
    distillation(training, Loss::Kl { temperature })
}

/// Distillation where there is something to distil, then private training.
pub(super) fn distil_then_train(training: &Training, state: &State) -> Vec<Phase> {
    let distil = state.teaches().then(|| distil(training));
    distil.into_iter().chain([private(training)]).collect()
}

/// The same, its distillation weighed by `lambda`.
pub(super) fn distil_by(training: &Training, state: &State, lambda: f32) -> Vec<Phase> {
    let mut phases = distil_then_train(training, state);
    let distilling = phases
        .iter_mut()
        .filter(|phase| phase.data == PhaseData::Transfer);
    for term in distilling.flat_map(|phase| &mut phase.objective) {
        *term = term.times(lambda);
    }
    phases
}

/// Whether a setting makes a difference where classes alone are spoken about: no transfer sample is, so
/// none is distilled.
pub(super) fn matters_without_rows(setting: Setting) -> bool {
    match setting {
        Setting::Packing | Setting::Rounding | Setting::PrivateEpochs => true,
        Setting::Samples | Setting::DistillationEpochs | Setting::DistillationTemperature => false,
    }
}

/// Refuses answers of another kind than the method asked for.
pub(super) fn expect_kind(answers: &Answers, expected: AnswerKind) -> Result<(), ProtocolError> {
    match answers.kind() == expected {
        true => Ok(()),
        false => Err(ProtocolError::WrongKind {
            actual: answers.kind(),
            expected,
        }),
    }
}

/// Logits as this kind of answers.
pub(super) fn as_kind(kind: AnswerKind, logits: Answers) -> Result<Answers, MethodError> {
    expect_kind(&logits, AnswerKind::Logits)?;
    Ok(match kind {
        AnswerKind::Probabilities => by_row(kind, &logits, |row| softmax(row, 1.0))?,
        _ => logits,
    })
}

/// Answers with each row that says something put through `change`; others stay silent.
pub(super) fn by_row(
    kind: AnswerKind,
    answers: &Answers,
    mut change: impl FnMut(&[f32]) -> Vec<f32>,
) -> Result<Answers, ProtocolError> {
    let rows = answers.iter().zip(answers.speaks());
    let values = rows.flat_map(|(row, speaks)| match speaks {
        true => change(row),
        false => row.to_vec(),
    });
    Answers::new(kind, answers.classes(), values.collect())
}

/// The mean of what came up, as answers of this kind; `None` where nothing did.
pub(super) fn mean(taken: Taken<'_>, kind: AnswerKind) -> Result<Option<Answers>, MethodError> {
    let mean = taken.sum.mean();
    let answers = mean.map(|mean| Answers::new(kind, taken.classes, mean));
    Ok(answers.transpose()?)
}

/// `softmax(scale * row)`, stable for any finite row.
pub(super) fn softmax(row: &[f32], scale: f32) -> Vec<f32> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = row
        .iter()
        .map(|value| (f64::from(scale) * f64::from(value - most)).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers
        .into_iter()
        .map(|power| (power / sum) as f32)
        .collect()
}

/// The row with negative values cut off and scaled to sum to 1; silent where nothing is left.
pub(super) fn on_simplex(row: &[f32]) -> Vec<f32> {
    let sum: f64 = row.iter().map(|&value| f64::from(value.max(0.0))).sum();
    match sum > 0.0 {
        true => row
            .iter()
            .map(|&value| (f64::from(value.max(0.0)) / sum) as f32)
            .collect(),
        false => vec![0.0; row.len()],
    }
}

/// Adds probabilities: each row is projected back onto the simplex first, so that nobody counts for
/// more than one.
pub(super) fn take_probabilities(
    sum: &mut Partial,
    weight: u32,
    answers: &Answers,
) -> Result<(), MethodError> {
    expect_kind(answers, AnswerKind::Probabilities)?;
    let values: Vec<f32> = answers.iter().flat_map(on_simplex).collect();
    Ok(sum.add(weight, &values)?)
}

/// A row without its mean, which no softmax notices, and cut off at `clip` either way.
pub(super) fn centred(row: &[f32], clip: f32) -> Vec<f32> {
    let sum: f64 = row.iter().map(|&value| f64::from(value)).sum();
    let mean = sum / row.len().max(1) as f64;
    row.iter()
        .map(|value| ((f64::from(*value) - mean) as f32).clamp(-clip, clip))
        .collect()
}

/// Adds logits: each row is centred and cut off first, so that nobody outweighs all others.
pub(super) fn take_logits(
    sum: &mut Partial,
    weight: u32,
    answers: &Answers,
    clip: f32,
) -> Result<(), MethodError> {
    expect_kind(answers, AnswerKind::Logits)?;
    let clip = clip.clamp(0.0, Partial::BOUND);
    let centred = by_row(AnswerKind::Logits, answers, |row| centred(row, clip))?;
    Ok(sum.add(weight, centred.values())?)
}

/// The teacher learns these labels, and they come down next.
pub(super) fn pass_on(
    rows: &Rows,
    labels: Answers,
    centre: Option<&mut dyn Centre>,
    state: &mut State,
) -> Result<(), MethodError> {
    if let Some(centre) = centre {
        centre.learn(rows, &labels)?;
    }
    state.teach(About::Rows(rows.clone()), labels);
    Ok(())
}

/// The class of the largest value, the first of equals.
pub(super) fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (class, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = class;
        }
    }
    best
}
