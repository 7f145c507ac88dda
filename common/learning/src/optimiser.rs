use fedistill_protocol::Optimiser;

use crate::kernels::{self, AdamW};

/// An optimiser and all that it remembers, so that it can be saved and go on.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimiserState {
    pub(crate) optimiser: Optimiser,
    pub(crate) steps: u64,
    /// Velocity of SGD, first moment of AdamW.
    pub(crate) first: Vec<f32>,
    /// Second moment of AdamW; empty for SGD.
    pub(crate) second: Vec<f32>,
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

impl OptimiserState {
    /// An optimiser that has not yet taken a step, for `parameters` values.
    pub fn new(optimiser: Optimiser, parameters: usize) -> Self {
        let (first, second) = match optimiser {
            Optimiser::Sgd { momentum, .. } => (usize::from(momentum > 0.0) * parameters, 0),
            Optimiser::AdamW { .. } => (parameters, parameters),
        };
        Self {
            optimiser,
            steps: 0,
            first: vec![0.0; first],
            second: vec![0.0; second],
        }
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes later steps at this learning rate, for schedules of one's own; what the optimiser remembers stays.
    pub fn pace(&mut self, rate: f32) {
        match &mut self.optimiser {
            Optimiser::Sgd { learning_rate, .. } | Optimiser::AdamW { learning_rate, .. } => {
                *learning_rate = rate;
            }
        }
    }

    /// Takes a step, in place.
    ///
    /// SGD as PyTorch has it: `v = momentum v + g; w -= rate v`. AdamW after Loshchilov and Hutter
    /// (2019), with betas 0.9 and 0.999 and epsilon 1e-8.
    ///
    /// # Panics
    /// Weights of another length than the state was made for.
    pub fn step(&mut self, weights: &mut [f32], gradients: &[f32]) {
        self.steps += 1;
        match self.optimiser {
            Optimiser::Sgd {
                learning_rate,
                momentum,
            } if momentum > 0.0 => {
                assert_eq!(self.first.len(), weights.len());
                kernels::momentum(weights, gradients, &mut self.first, learning_rate, momentum);
            }
            Optimiser::Sgd { learning_rate, .. } => {
                kernels::descend(weights, gradients, learning_rate);
            }
            Optimiser::AdamW {
                learning_rate,
                weight_decay,
            } => {
                assert_eq!(self.first.len(), weights.len());
                let steps = self.steps.min(1 << 30) as i32;
                let correction = |beta: f32| (1.0 - f64::from(beta).powi(steps)).recip() as f32;
                let numbers = AdamW {
                    rate: learning_rate,
                    decay: weight_decay,
                    beta1: BETA1,
                    beta2: BETA2,
                    epsilon: EPSILON,
                    first_scale: correction(BETA1),
                    second_scale: correction(BETA2),
                };
                kernels::adamw(
                    weights,
                    gradients,
                    &mut self.first,
                    &mut self.second,
                    numbers,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SGD: Optimiser = Optimiser::Sgd {
        learning_rate: 0.1,
        momentum: 0.9,
    };
    const ADAMW: Optimiser = Optimiser::AdamW {
        learning_rate: 0.01,
        weight_decay: 0.1,
    };

    fn walk(state: &mut OptimiserState, weights: &mut [f32], steps: usize) {
        for _ in 0..steps {
            let gradients: Vec<f32> = weights.iter().map(|w| 2.0 * (w - 3.0)).collect();
            state.step(weights, &gradients);
        }
    }

    #[test]
    fn two_steps_are_those_of_the_formulas() {
        // w = 1, then g = -4: v = -4, w = 1.4; g = -3.2: v = -6.8, w = 2.08.
        let mut weights = [1.0];
        walk(&mut OptimiserState::new(SGD, 1), &mut weights, 2);
        assert!((weights[0] - 2.08).abs() < 1e-6);
        // Decay takes 0.001 off 1, the first step of Adam is the learning rate; likewise again,
        // where both moments still agree to four digits.
        let mut weights = [1.0];
        walk(&mut OptimiserState::new(ADAMW, 1), &mut weights, 1);
        assert!((weights[0] - 1.009).abs() < 1e-6, "{weights:?}");
    }

    #[test]
    fn a_step_is_as_long_as_the_rate_says_by_then() {
        // The first two steps of Adam toward one bottom are the learning rate, each its own.
        for (rate, decay) in [(0.01, 0.1), (0.0025, 0.0)] {
            let adam = Optimiser::AdamW {
                learning_rate: 0.5,
                weight_decay: decay,
            };
            let mut state = OptimiserState::new(adam, 1);
            let mut weights = [1.0];
            state.pace(rate);
            walk(&mut state, &mut weights, 1);
            let expected = 1.0 - rate * decay + rate;
            assert!((weights[0] - expected).abs() < 1e-6, "{weights:?}");
            state.pace(0.0);
            walk(&mut state, &mut weights, 1);
            assert!((weights[0] - expected).abs() < 1e-6, "{weights:?}");
        }
        let mut weights = [1.0];
        let mut state = OptimiserState::new(SGD, 1);
        state.pace(0.2);
        walk(&mut state, &mut weights, 1);
        assert!((weights[0] - 1.8).abs() < 1e-6, "{weights:?}");
    }

    #[test]
    fn a_state_put_down_goes_on_as_if_it_never_was() {
        for optimiser in [SGD, ADAMW] {
            let mut whole = [1.0, -2.0];
            walk(&mut OptimiserState::new(optimiser, 2), &mut whole, 20);
            let mut state = OptimiserState::new(optimiser, 2);
            let mut weights = [1.0, -2.0];
            walk(&mut state, &mut weights, 8);
            let mut resumed = state.clone();
            walk(&mut resumed, &mut weights, 12);
            assert_eq!(weights, whole);
            assert_eq!(resumed.steps(), 20);
        }
    }

    #[test]
    fn both_find_the_bottom() {
        for (optimiser, bottom) in [(SGD, 3.0), (ADAMW, 2.85)] {
            let mut weights = [1.0];
            walk(&mut OptimiserState::new(optimiser, 1), &mut weights, 3000);
            assert!((weights[0] - bottom).abs() < 0.1, "{weights:?}");
        }
    }
}
