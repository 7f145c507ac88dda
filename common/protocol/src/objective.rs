//! What a student minimises, as data: terms that add up, each a loss toward something.

use crate::codec::{Decode, Encode};

/// A loss toward something, with its weight.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub struct LossTerm {
    /// Which loss.
    pub loss: Loss,
    /// What it holds the student's outputs against.
    pub toward: Toward,
    /// Its share of the sum; finite, above 0.
    pub weight: f32,
    /// How the weight changes from epoch to epoch of a phase.
    pub ramp: Ramp,
}

impl LossTerm {
    /// A term of weight 1 that does not change.
    pub const fn new(loss: Loss, toward: Toward) -> Self {
        Self {
            loss,
            toward,
            weight: 1.0,
            ramp: Ramp::Constant,
        }
    }

    /// The same with another weight.
    #[must_use]
    pub const fn times(self, weight: f32) -> Self {
        Self { weight, ..self }
    }

    /// The weight in an epoch of a phase, from 0.
    pub fn weight_at(&self, epoch: usize) -> f32 {
        match self.ramp {
            Ramp::Constant => self.weight,
            Ramp::Rise { epochs } => {
                let done = (epoch as f32 + 1.0) / f32::from(epochs.max(1));
                self.weight * done.min(1.0)
            }
            Ramp::Fall { factor } => self.weight * factor.powi(epoch.min(10_000) as i32),
        }
    }
}

/// How a term's weight changes from epoch to epoch of a phase.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub enum Ramp {
    /// Not at all.
    Constant,
    /// In even steps up to its full height in this many epochs, at least 1.
    Rise {
        /// The first epoch of full weight, from 1.
        epochs: u16,
    },
    /// Multiplied by this after each epoch.
    Fall {
        /// Above 0, at most 1.
        factor: f32,
    },
}

/// What a loss holds a student's outputs against.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Toward {
    /// The hard labels of private samples.
    Labels,
    /// What came down about a transfer sample.
    Knowledge,
    /// What came down about the class of a private sample.
    Classes,
    /// What the student itself said of the sample as the phase began.
    Before,
}

/// A loss of a student's outputs. `z` are its logits, `q` their softmax, `p` the target's, `y` the
/// class of the sample: its hard label or, where it has none, the target's most likely class.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub enum Loss {
    /// `-log q` at the hard label; with smoothing, against `1 - smoothing` there and the rest spread
    /// evenly over all classes (Szegedy et al. 2016).
    CrossEntropy {
        /// 0 up to but not 1.
        smoothing: f32,
    },
    /// Cross-entropy of a softmax over the classes that the client holds, of `z + adjust log f` with
    /// its label frequencies `f`: classes that it does not hold are not pushed down. At 0 a restricted
    /// softmax, at 1 a balanced one (Ren et al. 2020).
    HeldCrossEntropy {
        /// 0 to 4.
        adjust: f32,
    },
    /// `-sum p log q`.
    SoftCrossEntropy,
    /// `T^2 KL(p || q)` at temperature T (Hinton et al. 2015).
    Kl {
        /// T, above 0.
        temperature: f32,
    },
    /// `T^2 KL(q || p)`: seeks one mode of the target (Gu et al. 2024).
    ReverseKl {
        /// T, above 0.
        temperature: f32,
    },
    /// Mean absolute difference of logits (FedMD, Li and Wang 2019).
    L1,
    /// Mean squared difference of logits (Ba and Caruana 2014).
    Mse,
    /// Decoupled distillation (Zhao et al. 2022): T^2 times the divergence between y and the rest, and
    /// of the distributions over the rest.
    Decoupled {
        /// T, above 0.
        temperature: f32,
        /// Weight of the first, at least 0; the paper's alpha is 1.
        target: f32,
        /// Weight of the second, at least 0; the paper's beta is 1 to 8.
        others: f32,
    },
    /// T^2 times the divergence of the distributions over all classes but y (FedNTD, Lee et al. 2022).
    NotTrue {
        /// T, above 0; the paper's value is 1.
        temperature: f32,
    },
    /// Mean squared difference of features: hints (FitNets, Romero et al. 2015), prototypes (FedProto,
    /// Tan et al. 2022). Where widths differ, of a linear map of the student's features that is learnt
    /// along with it and forgotten after the phase.
    Features,
    /// Squared distance of features on the unit sphere (Zagoruyko and Komodakis 2017, of vectors).
    Attention,
    /// Squared distance, over a batch, of matrices of similarities between samples, rows normalised
    /// (Tung and Mori 2019).
    Similarity,
    /// Huber loss, over a batch, of distances between samples relative to their mean, and of angles
    /// between three (RKD, Park et al. 2019).
    Relational {
        /// Weight of distances, at least 0; the paper's is 25.
        distance: f32,
        /// Weight of angles, at least 0; the paper's is 50.
        angle: f32,
    },
}

impl Loss {
    /// Whether each sample of a batch is held against all others.
    pub const fn is_of_pairs(&self) -> bool {
        matches!(self, Self::Similarity | Self::Relational { .. })
    }

    /// Whether it is of angles, between each three samples of a batch.
    pub const fn is_of_triples(&self) -> bool {
        matches!(self, Self::Relational { .. })
    }

    /// Whether it is of features rather than of logits.
    pub const fn is_of_features(self) -> bool {
        matches!(
            self,
            Self::Features | Self::Attention | Self::Similarity | Self::Relational { .. }
        )
    }

    /// Whether it is of hard labels alone.
    pub const fn is_of_labels(self) -> bool {
        matches!(
            self,
            Self::CrossEntropy { .. } | Self::HeldCrossEntropy { .. }
        )
    }

    /// Whether its target has to be logits or features: probabilities do not tell them.
    pub const fn compares_values(self) -> bool {
        matches!(self, Self::L1 | Self::Mse) || self.is_of_features()
    }

    /// The temperature, where it has one.
    pub const fn temperature(self) -> Option<f32> {
        match self {
            Self::Kl { temperature }
            | Self::ReverseKl { temperature }
            | Self::Decoupled { temperature, .. }
            | Self::NotTrue { temperature } => Some(temperature),
            _ => None,
        }
    }

    fn fault(self) -> Option<String> {
        if let Some(temperature) = self.temperature()
            && !(temperature.is_finite() && temperature > 0.0)
        {
            return Some(format!("has temperature {temperature}"));
        }
        let weight = |value: f32| value.is_finite() && value >= 0.0;
        let within = match self {
            Self::CrossEntropy { smoothing } => (0.0..1.0).contains(&smoothing),
            Self::HeldCrossEntropy { adjust } => (0.0..=4.0).contains(&adjust),
            Self::Decoupled { target, others, .. } => weight(target) && weight(others),
            Self::Relational { distance, angle } => weight(distance) && weight(angle),
            _ => true,
        };
        (!within).then(|| format!("has {self:?} out of range"))
    }
}

impl LossTerm {
    /// What no student could minimise.
    pub(crate) fn fault(&self) -> Option<String> {
        if !(self.weight.is_finite() && self.weight > 0.0) {
            return Some(format!("has a loss of weight {}", self.weight));
        }
        let ramp = match self.ramp {
            Ramp::Constant => true,
            Ramp::Rise { epochs } => epochs > 0,
            Ramp::Fall { factor } => factor > 0.0 && factor <= 1.0,
        };
        if !ramp {
            return Some(format!("has {:?} out of range", self.ramp));
        }
        if self.loss.is_of_labels() != (self.toward == Toward::Labels) {
            return Some(format!("has {:?} toward {:?}", self.loss, self.toward));
        }
        self.loss.fault()
    }
}
