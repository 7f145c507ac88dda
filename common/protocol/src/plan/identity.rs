use crate::{Digest, ProtocolError, RoundPlan, codec};

impl RoundPlan {
    /// The plan without its short ways, which depend on what was sent and given before by these very
    /// processes: what is left is what it asks.
    #[must_use]
    pub fn without_updates(&self) -> Self {
        let mut plan = self.clone();
        plan.knowledge.iter_mut().for_each(|k| k.update = None);
        plan
    }

    /// Tells what a plan asks from all else that may be asked, whichever way it is sent.
    ///
    /// # Errors
    /// A plan that cannot be written.
    pub fn identity(&self) -> Result<Digest, ProtocolError> {
        Ok(Digest::of(&codec::encode("Plan", &self.without_updates())?))
    }
}
