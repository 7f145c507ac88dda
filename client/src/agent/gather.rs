//! What a plan needs of the transfer set and of its knowledge is got before its training begins.

use fedistill_protocol::{Digest, Refusal, TransferManifest};

use super::{Agent, Output, Stop, cut};
use crate::{Held, Wanted};

impl Agent {
    /// A plan waits: get what is missing of the transfer set and of its knowledge, or begin.
    pub(super) fn prepare(&mut self) {
        let classes = self.classes();
        let (Some(waiting), Some(welcome)) = (self.work.waiting_mut(), &self.welcome) else {
            return;
        };
        if self.transfer.is_none() && waiting.plan.needs_samples() {
            // What a plan before has fetched of it lies ready: it goes on from there.
            let TransferManifest { blob, bytes, .. } = welcome.transfer;
            return self.put(Output::Fetch { blob, bytes });
        }
        waiting.take_from(&self.known);
        match waiting.next(&self.known, classes) {
            Some((blob, bytes, _)) => self.put(Output::Fetch { blob, bytes }),
            None => self.train(),
        }
    }

    pub(super) fn classes(&self) -> u32 {
        self.config.classes.len() as u32
    }

    /// What a blob that is to be fetched has to be; `None` for one that nothing waits for.
    pub fn wanted(&self, blob: Digest) -> Option<Wanted> {
        let manifest = &self.welcome.as_ref()?.transfer;
        if manifest.blob == blob && self.transfer.is_none() {
            return Some(Wanted::Transfer);
        }
        let waiting = self.work.waiting()?;
        let (next, _, wanted) = waiting.next(&self.known, self.classes())?;
        (next == blob).then_some(wanted)
    }

    pub(super) fn held(&mut self, blob: Digest, held: Held) {
        let (Some(wanted), Some(welcome)) = (self.wanted(blob), &self.welcome) else {
            return;
        };
        match (wanted, held) {
            (Wanted::Transfer, Held::Transfer(set)) => {
                let TransferManifest { shape, samples, .. } = &welcome.transfer;
                if set.shape() == shape && set.len() == *samples as usize {
                    self.transfer = Some((blob, set));
                    return self.prepare();
                }
                let why = format!(
                    "it has {} samples of shape {:?}, announced were {samples} of {shape:?}",
                    set.len(),
                    set.shape()
                );
                self.unusable(blob, &why);
            }
            (wanted, Held::Knowledge(answers)) if wanted.fits(&answers) => {
                if let Some(waiting) = self.work.waiting_mut() {
                    waiting.got.push(answers);
                }
                self.prepare();
            }
            _ => self.unusable(blob, "it is held as something else"),
        }
    }

    /// The round that a blob was for is over, and the next one's plan on its way.
    pub(super) fn not_offered(&mut self, blob: Digest) {
        if self
            .wanted(blob)
            .is_some_and(|wanted| wanted != Wanted::Transfer)
        {
            self.work.take_waiting();
        }
    }

    /// A blob is here and cannot be used.
    pub(super) fn unusable(&mut self, blob: Digest, why: &str) {
        match self.wanted(blob) {
            None => {}
            Some(Wanted::Transfer) => {
                let why = format!("the transfer set cannot be used: {why}");
                self.put(Output::Stop(Stop::Unfit(why)));
            }
            Some(Wanted::Update { .. }) => {
                if let Some(waiting) = self.work.waiting_mut() {
                    waiting.whole = true;
                }
                self.prepare();
            }
            Some(Wanted::Knowledge { .. }) => {
                if let Some(waiting) = self.work.take_waiting() {
                    let id = waiting.plan.id;
                    let why = cut(format!("the knowledge cannot be used: {why}"));
                    self.put(Output::Send(Refusal { id, why }.into()));
                }
            }
        }
    }
}
