//! From the training for a plan to the receipt of its answer.

use std::sync::Arc;
use std::time::Duration;

use fedistill_protocol::{Answers, Receipt, Refusal, RejectReason, Rejected, RoundId};

use super::{Agent, Answered, Done, Job, Output, Stop, Waiting, Work, cut};
use crate::journal::{Begun, Entry};

impl Agent {
    pub(super) fn train(&mut self) {
        let Some(Waiting { plan, got, .. }) = self.work.take_waiting() else {
            return;
        };
        let epoch = self.welcome.as_ref().map(|welcome| welcome.epoch);
        let blobs = plan.knowledge.iter().map(|knowledge| knowledge.blob);
        self.known = blobs.zip(got.iter().cloned()).collect();
        if let Work::Done(done) = &self.work {
            if done.answers_however_packed(&plan, &got) {
                self.asked_in = epoch.unwrap_or(self.asked_in);
                return self.answer_again();
            }
            if self.has_gone_back(plan.id) {
                return;
            }
            self.drop_work();
        }
        self.asked_in = epoch.unwrap_or(self.asked_in);
        let plan = self.as_begun(plan, &got);
        self.begun = plan.identity().ok().map(|identity| Begun {
            id: plan.id,
            plan: identity,
        });
        let job = Job {
            plan: Arc::clone(&plan),
            knowledge: got,
            transfer: self.transfer.as_ref().map(|(_, set)| Arc::clone(set)),
        };
        if self.durable {
            self.put(Output::Keep(Entry::Begun(Arc::clone(&plan))));
        }
        self.work = Work::Training(plan);
        self.put(Output::Train(Box::new(job)));
    }

    pub(super) fn trained(&mut self, id: RoundId, result: Result<Option<Answers>, String>) {
        let Work::Training(plan) = &self.work else {
            return;
        };
        if plan.id != id {
            return;
        }
        let answers = match result {
            Ok(answers) => answers,
            Err(why) => {
                self.work = Work::Idle;
                self.put(Output::Note(format!(
                    "training for round {id} failed: {why}"
                )));
                let why = cut(why);
                return self.put(Output::Send(Refusal { id, why }.into()));
            }
        };
        let done = Done::of(
            self.version,
            plan,
            self.asked_in,
            answers,
            self.given.as_ref(),
        );
        if self.durable {
            // Another answer to the same plan must never be given, so this one is kept first.
            match done.finished() {
                Ok(finished) => self.put(Output::Keep(Entry::Finished(finished))),
                Err(error) => {
                    self.work = Work::Idle;
                    let why = cut(error.to_string());
                    return self.put(Output::Send(Refusal { id, why }.into()));
                }
            }
        }
        self.put(Output::Offer(done.blobs().to_vec()));
        let contribution = *done.contribution();
        self.answered = Some(Answered::new(id, self.asked_in));
        self.work = Work::Done(Box::new(done));
        if self.is_asked() {
            self.put(Output::Send(contribution.into()));
        }
    }

    pub(super) fn counted(&mut self, receipt: Receipt) {
        let Work::Done(done) = &mut self.work else {
            return;
        };
        if !done.is(&receipt) || done.counted() {
            return;
        }
        if let Some(given) = done.given() {
            self.given = Some(given);
        }
        done.count();
        let Receipt { id, blob } = receipt;
        if let Some(answered) = &mut self.answered {
            answered.count(id);
        }
        match self.durable {
            true => self.put(Output::Keep(Entry::Counted { id, blob })),
            false => {
                self.work = Work::Idle;
                self.put(Output::Retract);
            }
        }
        self.put(Output::Counted(id));
    }

    pub(super) fn rejected(&mut self, rejected: Rejected) {
        let Rejected {
            reason,
            detail,
            after_ms,
            id,
        } = rejected;
        match reason {
            RejectReason::OldEpoch => self.put(Output::Leave {
                why: detail,
                after: Duration::from_millis(after_ms.into()),
                outdated: true,
            }),
            RejectReason::WrongFederation | RejectReason::WrongClasses => {
                self.put(Output::Stop(Stop::NotWelcome(detail)));
            }
            _ => {
                self.put(Output::Note(format!(
                    "the coordinator rejects ({reason:?}): {detail}"
                )));
                let current = match &mut self.work {
                    Work::Waiting(waiting) => Some(waiting.plan.id),
                    Work::Training(plan) => Some(plan.id),
                    Work::Done(done) => {
                        // It stays the answer: there is no other, should it be asked for again.
                        if id.is_none_or(|id| id == done.contribution().id) {
                            done.reject();
                        }
                        None
                    }
                    Work::Idle => None,
                };
                // Older versions do not say which round it is about.
                if current.is_some_and(|current| id.unwrap_or(current) == current) {
                    self.drop_work();
                }
            }
        }
    }
}
