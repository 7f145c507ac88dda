//! A method whose aggregate is a mean, with a centre in its place that a few liars cannot move far.

use fedistill_protocol::{AnswerKind, Answers, Precision};

use super::{Ask, AtCentre, Centre, Method, MethodError, Outlook, Setting, Taken, on_simplex};
use crate::{Partial, Robust, State};

/// A method and what stands for its mean.
#[derive(Debug)]
pub(super) struct Robustly {
    method: Box<dyn Method>,
    robust: Robust,
}

/// The key that asks for it, in the name of a method.
pub(super) const KEY: &str = "robust";

/// `method` as `setting`, `robust=NAME`, has it.
///
/// # Errors
/// No centre of that name, or a method that has no mean.
pub(super) fn wrap(method: Box<dyn Method>, setting: &str) -> Result<Box<dyn Method>, MethodError> {
    let name = setting.split_once('=').map_or("", |(_, name)| name);
    let robust = Robust::by_name(name).ok_or_else(|| {
        let names = Robust::ALL.map(|(name, _)| name).join(", ");
        MethodError::Parameter {
            method: method.name(),
            why: format!("{KEY} is {name:?}, it must be one of {names}"),
        }
    })?;
    Ok(Box::new(Robustly::new(method, robust)?))
}

impl Robustly {
    /// `method`, with this centre in place of a mean.
    ///
    /// # Errors
    /// A method that needs each contribution by itself, or takes none.
    pub(super) fn new(method: Box<dyn Method>, robust: Robust) -> Result<Self, MethodError> {
        let wrong = |why: &str| {
            Err(MethodError::Parameter {
                method: method.name(),
                why: why.to_owned(),
            })
        };
        if method.keeps_each() {
            return wrong("it takes no robust=...: what comes down is no mean of what comes up");
        }
        let nothing = Answers::new(AnswerKind::Logits, 1, Vec::new())?;
        let taken = method.take(&mut Partial::new(0, 1), 1, &nothing);
        match taken {
            Err(MethodError::TakesNothing(_)) => {
                wrong("it takes no robust=...: nothing comes up from clients")
            }
            _ => Ok(Self { method, robust }),
        }
    }

    /// The centre of all contributions, in the place and with the weight of their sum.
    fn centre(&self, taken: Taken<'_>) -> Result<Partial, MethodError> {
        let mut means = Vec::new();
        let (mut rows, mut width, mut kind) = (0, 0, AnswerKind::Logits);
        for answers in taken.each.values() {
            (rows, width) = (answers.rows() as usize, answers.classes() as usize);
            kind = answers.kind();
            // What the method makes of one contribution: cut off, centred, on the simplex.
            let mut one = Partial::new(rows, width);
            self.method.take(&mut one, 1, answers)?;
            means.extend(one.mean());
        }
        let mut values = Vec::with_capacity(rows * width);
        for row in 0..rows {
            let said = means.iter().map(|mean| &mean[row * width..][..width]);
            let said: Vec<&[f32]> = said.filter(|row| row.iter().any(|v| *v != 0.0)).collect();
            let centre = self.robust.centre(&said, width);
            match kind {
                // Medians of probabilities need not sum to 1.
                AnswerKind::Probabilities => values.extend(on_simplex(&centre)),
                _ => values.extend(centre),
            }
        }
        // Each who said something of a row has said its centre: the sum knows still who spoke about what.
        let mut sum = Partial::new(rows, width);
        for mean in &mut means {
            let said = mean.chunks_exact_mut(width.max(1));
            for (said, centre) in said.zip(values.chunks_exact(width.max(1))) {
                if said.iter().any(|value| *value != 0.0) {
                    said.copy_from_slice(centre);
                }
            }
            sum.add(1, mean)?;
        }
        Ok(sum)
    }
}

impl Method for Robustly {
    fn name(&self) -> String {
        format!("{},{KEY}={}", self.method.name(), self.robust)
    }

    fn begin(
        &self,
        outlook: &Outlook<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        self.method.begin(outlook, centre, state)
    }

    fn teaches(&self) -> Option<AnswerKind> {
        self.method.teaches()
    }

    fn ask(&self, outlook: &Outlook<'_>, state: &State) -> Ask {
        self.method.ask(outlook, state)
    }

    fn closing(&self, outlook: &Outlook<'_>, state: &State) -> Option<Ask> {
        self.method.closing(outlook, state)
    }

    fn keeps_each(&self) -> bool {
        true
    }

    fn take(&self, sum: &mut Partial, weight: u32, answers: &Answers) -> Result<(), MethodError> {
        self.method.take(sum, weight, answers)
    }

    fn conclude(
        &self,
        outlook: &Outlook<'_>,
        taken: Taken<'_>,
        centre: Option<&mut dyn Centre>,
        state: &mut State,
    ) -> Result<(), MethodError> {
        let sum = match taken.each.is_empty() {
            true => taken.sum.clone(),
            false => self.centre(taken)?,
        };
        let taken = Taken { sum: &sum, ..taken };
        self.method.conclude(outlook, taken, centre, state)
    }

    fn heeds(&self, setting: Setting) -> bool {
        self.method.heeds(setting)
    }

    fn idle(&self, at: AtCentre) -> Vec<&'static str> {
        self.method.idle(at)
    }

    fn idle_packed(&self, precision: Precision) -> Vec<&'static str> {
        self.method.idle_packed(precision)
    }

    fn wants_probes(&self) -> bool {
        self.method.wants_probes()
    }

    fn uses_teacher(&self) -> bool {
        self.method.uses_teacher()
    }

    fn needs_teacher(&self) -> bool {
        self.method.needs_teacher()
    }

    fn features(&self) -> Option<u32> {
        self.method.features()
    }

    fn remark(&self, samples: u32) -> Option<String> {
        self.method.remark(samples)
    }

    fn usual_precision(&self) -> Precision {
        self.method.usual_precision()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{aggregate, answers};
    use crate::method::by_name;

    use super::*;

    /// What comes down after clients have said so much of one sample of three classes.
    fn centre(name: &str, kind: AnswerKind, said: &[[f32; 3]]) -> Vec<f32> {
        let said: Vec<Answers> = said.iter().map(|row| answers(kind, row)).collect();
        aggregate(&*by_name(name).unwrap(), &said, None)
    }

    #[test]
    fn liars_that_move_a_mean_do_not_move_a_median() {
        let honest = [0.8, 0.1, 0.1];
        let said = [honest, honest, honest, [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]];
        let kind = AnswerKind::Probabilities;
        let mean = centre("ds-fl:sa", kind, &said);
        assert!((mean[1] - 0.46).abs() < 1e-6, "{mean:?}");
        for robust in ["median", "geometric-median"] {
            let centre = centre(&format!("ds-fl:sa,robust={robust}"), kind, &said);
            let off = centre.iter().zip(honest).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) < 1e-3, "{robust}: {centre:?}");
            let sum: f32 = centre.iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{robust}: {centre:?}");
        }
        // Logits go through the method's own centring first.
        let said = [[2.0, 0.0, 1.0], [3.0, 1.0, 2.0], [-1e3, 1e3, 0.0]];
        let centre = centre("logit-mean,robust=median", AnswerKind::Logits, &said);
        assert_eq!(centre, [1.0, -1.0, 0.0]);
    }

    #[test]
    fn who_is_silent_has_no_say() {
        let kind = AnswerKind::Probabilities;
        let said = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.2, 0.3, 0.5]];
        let centre = centre("ds-fl:sa,robust=median", kind, &said);
        let off = centre.iter().zip(said[2]).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6, "{centre:?}");
    }

    #[test]
    fn it_has_a_name_and_is_refused_where_there_is_no_mean() {
        let name = "ds-fl:era,temperature=0.2,robust=geometric-median";
        assert_eq!(by_name(name).unwrap().name(), name);
        for (name, part) in [
            ("fd,robust=median", "no mean of what comes up"),
            ("local,robust=median", "nothing comes up"),
            ("ds-fl:sa,robust=mean", "median, geometric-median"),
            ("ds-fl:sa,robust=median,robust=median", "robust"),
        ] {
            let error = by_name(name).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
