//! What a client begins with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedistill_learning::Samples;
use fedistill_protocol::{Answers, Digest, Name};
use fedistill_transport::{Dial, Meter, NetworkBytes};
use tokio::sync::{Semaphore, mpsc};

use super::work::lock;
use super::{Client, ClientError};
use crate::agent::{Agent, AgentConfig};
use crate::journal::{Journal, Kept};
use crate::train::{Bench, Journaled, Likeness, Watcher};
use crate::{Backoff, BlobFolder, Blobs, Policy, PrivateData, Student, StudentError};

impl Client {
    /// A client called `name` in `federation`, with a student and the private data it learns from.
    ///
    /// # Errors
    /// Data without a sample.
    pub fn new(
        federation: Name,
        name: Name,
        student: impl Student + 'static,
        private: impl PrivateData + 'static,
        policy: Policy,
        dial: impl Dial + 'static,
    ) -> Result<Self, ClientError> {
        if private.is_empty() {
            return Err(ClientError::NoData(name));
        }
        let mut agent = Agent::new(AgentConfig {
            federation,
            classes: private.classes().to_vec(),
            shape: private.shape().to_vec(),
            policy,
        });
        agent.of_size(student.parameters().len() as u64);
        let bench = Bench {
            name: name.clone(),
            student: Box::new(student),
            private: Box::new(private),
            watcher: Box::new(()),
            checkpoints: Box::new(()),
            likeness: Likeness::default(),
        };
        Ok(Self {
            name,
            agent,
            bench: Arc::new(Mutex::new(bench)),
            dial: Box::new(dial),
            meter: Arc::default(),
            before: NetworkBytes::default(),
            backoff: Backoff::default(),
            permits: None,
            blobs: None,
            folder: None,
            parking: Arc::default(),
            journal: None,
            away: Duration::ZERO,
            events: None,
            results: mpsc::unbounded_channel(),
            cancel: Arc::default(),
            leaving: Arc::default(),
        })
    }

    /// Lets `watcher` see the student after each phase of a plan.
    #[must_use]
    pub fn watched_by(self, watcher: impl Watcher + 'static) -> Self {
        lock(&self.bench).watcher = Box::new(watcher);
        self
    }

    /// Counts what crosses on `meter`.
    #[must_use]
    pub fn metered(mut self, meter: Arc<Meter>) -> Self {
        self.meter = meter;
        self
    }

    /// Trains only with a permit, so that many clients of one process share its cores.
    #[must_use]
    pub fn with_permits(mut self, permits: Arc<Semaphore>) -> Self {
        self.permits = Some(permits);
        self
    }

    /// Waits between connections as `backoff` says.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Holds blobs together with the other clients of this process.
    #[must_use]
    pub fn sharing(mut self, blobs: Arc<Blobs>) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// Keeps the transfer set in `folder`, so that it is fetched once and not at each start.
    #[must_use]
    pub fn caching(mut self, folder: BlobFolder) -> Self {
        self.folder = Some(Arc::new(folder));
        self
    }

    /// Keeps in a journal what has to outlive the process, and goes on from what is in it. A training
    /// that is under way is kept after a pass over its samples, at most once in `every`.
    ///
    /// # Errors
    /// A student that cannot go on from what was kept of it.
    pub fn journaled(
        mut self,
        journal: Journal,
        kept: Kept,
        every: Duration,
    ) -> Result<Self, StudentError> {
        let journal = Arc::new(journal);
        {
            let mut bench = lock(&self.bench);
            // Where a plan goes on and none was kept before it, it began with the student as it is here.
            let before = match kept.begun {
                Some(_) => kept.before.or_else(|| bench.student.snapshot()),
                None => None,
            };
            if let Some(student) = &kept.student {
                bench.student.restore(student)?;
            }
            let checkpoints =
                Journaled::new(Arc::clone(&journal), every, Arc::clone(&self.leaving));
            bench.checkpoints = Box::new(checkpoints.since(before));
        }
        self.agent.restore(kept.epoch, kept.finished);
        if let Some(begun) = kept.begun {
            self.agent.go_on(begun);
        }
        self.journal = Some(journal);
        Ok(self)
    }

    /// Begins with the transfer set of this digest in hand, as one who was here before.
    #[must_use]
    pub fn holding(mut self, blob: Digest, transfer: Arc<Samples>) -> Self {
        self.agent.hold(blob, transfer);
        self
    }

    /// Begins with this in hand of what came down last, as one who was here before.
    #[must_use]
    pub fn knowing(mut self, blob: Digest, answers: Arc<Answers>) -> Self {
        self.agent.know(blob, answers);
        self
    }

    /// Begins with this as what it gave back last, as one who was here before.
    #[must_use]
    pub fn having_given(mut self, blob: Digest, answers: Arc<Answers>) -> Self {
        self.agent.gave(blob, answers);
        self
    }
}
