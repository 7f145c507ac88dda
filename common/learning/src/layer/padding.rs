use std::sync::{Arc, Mutex, PoisonError};

/// Which tokens of the batch under way are padding: an embedding notes it, attention layers above
/// it look it up. A net has one, which its layers share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Padding(Arc<Mutex<Vec<bool>>>);

impl Padding {
    /// Notes for each token of a batch whether it is padding.
    pub(crate) fn note(&self, tokens: &[f32], is_padding: impl Fn(f32) -> bool) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.clear();
        noted.extend(tokens.iter().map(|token| is_padding(*token)));
    }

    /// Runs `work` with what is noted.
    pub(super) fn with<T>(&self, work: impl FnOnce(&[bool]) -> T) -> T {
        work(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
