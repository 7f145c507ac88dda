use fedistill_learning::{Architecture, Evaluation};
use serde::{Deserialize, Serialize};

/// What a saved student is and how good it is, beside its parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ModelCard {
    /// The client whose student it is.
    pub client: String,
    /// The federation in which it learnt.
    pub federation: String,
    /// Which net it is.
    pub architecture: Architecture,
    /// Its number of parameters.
    pub parameters: usize,
    /// Plans that it has carried out.
    pub rounds: u32,
    /// Private samples that it learnt from; how many, and nothing else about them.
    pub private_samples: usize,
    /// On the device's own held-out samples, where it has some.
    pub evaluation: Option<Evaluation>,
}

impl ModelCard {
    /// The card of a new student.
    pub fn new(
        client: &str,
        federation: &str,
        architecture: Architecture,
        private_samples: usize,
    ) -> Self {
        Self {
            client: client.to_owned(),
            federation: federation.to_owned(),
            architecture,
            parameters: 0,
            rounds: 0,
            private_samples,
            evaluation: None,
        }
    }
}
