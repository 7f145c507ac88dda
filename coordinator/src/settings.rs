//! How a federation is run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fedistill_federation::{Late, Method, Missed, Partial, Quorum, Training};
use fedistill_protocol::{Name, Precision, Rounding};

use crate::config::check_classes;
use crate::{CoordinatorError, Teacher};

/// How a federation is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub federation: Name,
    /// Names of the classes, in the order of every model's outputs.
    pub classes: Vec<String>,
    /// The algorithm.
    pub method: Arc<dyn Method>,
    /// How hard clients, and the teacher, train in a round.
    pub training: Training,
    /// Number of rounds.
    pub rounds: u32,
    /// The most clients that a round asks. Where that is more than the most contributions of its
    /// quorum, it does not wait for the slowest.
    pub asked: usize,
    /// A round opens once so many clients are connected.
    pub open_with: usize,
    /// When a round has enough.
    pub quorum: Quorum,
    /// What becomes of a round that has missed it.
    pub missed: Missed,
    /// What becomes of contributions whose round has closed without them.
    pub late: Late,
    /// Longest silence of a client at work before it is not waited for.
    pub silence: Duration,
    /// Longest wait for enough clients to open a round with; `None` waits for ever.
    pub patience: Option<Duration>,
    /// Time between the end of a round and the opening of the next, in which clients need not be connected; a month at most.
    pub pause: Duration,
    /// How long the coordinator stays once all rounds are done, to tell who comes that the federation is over.
    pub farewell: Duration,
    /// Tries at a round, after which the run ends if none has met its quorum; `None` tries for ever.
    pub attempts: Option<u32>,
    /// Transfer samples that a round speaks about.
    pub rows: u32,
    /// How answers are packed, both ways.
    pub precision: Precision,
    /// How clients round what they pack. What comes down is rounded to nearest: there is no mean of it.
    pub rounding: Rounding,
    /// Everything random follows from it.
    pub seed: u64,
    /// Weights of clients in the aggregate; 1 for those not named.
    pub weights: BTreeMap<Name, u32>,
}

/// One round late, a weight is then a thousandth.
const MOST_EXPONENT: f64 = 10.0;

impl Settings {
    /// Holds them against each other, a transfer set of so many samples, and the teacher, if there is one.
    ///
    /// # Errors
    /// What contradicts what.
    pub(crate) fn check(
        &self,
        samples: u32,
        teacher: Option<&dyn Teacher>,
    ) -> Result<(), CoordinatorError> {
        let wrong = |why: String| Err(CoordinatorError::Settings(why));
        let least = self.quorum.least();
        if least > self.asked {
            return wrong(format!(
                "round.least asks for {least} contributions, but only {} clients are asked: lower the one or raise the other",
                self.asked
            ));
        }
        if self.rows == 0 || self.rows > samples {
            return wrong(format!(
                "round.samples is {}, the transfer set has {} samples",
                self.rows, samples
            ));
        }
        let knows = teacher.is_some_and(Teacher::is_trained);
        if self.method.needs_teacher() && !knows {
            let name = self.method.name();
            return wrong(format!(
                "method {name} needs a teacher{}: add one, or choose another method",
                if teacher.is_some() {
                    " that knows something"
                } else {
                    ""
                }
            ));
        }
        if self.attempts == Some(0) {
            return wrong("round.attempts is 0, and a round needs one: write at least 1, or take it out to try for ever".to_owned());
        }
        check_classes(&self.classes)?;
        let mut room = Partial::MOST_WEIGHT;
        if let Late::Fold { exponent } = self.late {
            if !(0.0..=MOST_EXPONENT).contains(&exponent) {
                return wrong(format!(
                    "round.staleness-exponent is {exponent}: write 0 to {MOST_EXPONENT}"
                ));
            }
            if self.method.keeps_each() {
                let name = self.method.name();
                return wrong(format!(
                    "method {name} looks at each contribution to a round by itself, and has no place for late ones to the round before: take round.late = \"fold\" out, or choose another method"
                ));
            }
            // Of one cohort all, and of the one before all, in parts.
            room /= 2 * u64::from(Late::PARTS);
        }
        let most = self.heaviest();
        if most > room {
            return wrong(format!(
                "weights of a cohort add up to {most}, at most {room} can be added up: make them smaller"
            ));
        }
        Ok(())
    }

    /// The most that the weights of a cohort and the teacher's can add up to.
    fn heaviest(&self) -> u64 {
        let mut weights: Vec<u64> = self.weights.values().map(|&w| w.into()).collect();
        weights.sort_unstable_by(|a, b| b.cmp(a));
        weights.truncate(self.asked);
        let others = self.asked.saturating_sub(weights.len()) as u64;
        // The teacher votes as one client does.
        let sum: u64 = weights.iter().map(|&weight| weight.max(1)).sum();
        sum.saturating_add(others).saturating_add(1)
    }
}
