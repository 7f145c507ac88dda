//! What a checkpoint says about an optimiser, beside the values of its state.

use fedistill_protocol::Optimiser;
use serde::{Deserialize, Serialize};

use crate::OptimiserState;

#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) struct SavedOptimiser {
    pub(super) steps: u64,
    learning_rate: f32,
    momentum: Option<f32>,
    weight_decay: Option<f32>,
}

impl From<&OptimiserState> for SavedOptimiser {
    fn from(state: &OptimiserState) -> Self {
        let (learning_rate, momentum, weight_decay) = match state.optimiser {
            Optimiser::Sgd {
                learning_rate,
                momentum,
            } => (learning_rate, Some(momentum), None),
            Optimiser::AdamW {
                learning_rate,
                weight_decay,
            } => (learning_rate, None, Some(weight_decay)),
        };
        Self {
            steps: state.steps,
            learning_rate,
            momentum,
            weight_decay,
        }
    }
}

impl From<SavedOptimiser> for Optimiser {
    fn from(saved: SavedOptimiser) -> Self {
        match saved.weight_decay {
            Some(weight_decay) => Self::AdamW {
                learning_rate: saved.learning_rate,
                weight_decay,
            },
            None => Self::Sgd {
                learning_rate: saved.learning_rate,
                momentum: saved.momentum.unwrap_or(0.0),
            },
        }
    }
}
