//! A federation from its first round to its last.

mod attempt;
mod awake;
mod between;
mod counted;
mod late;
mod missed;
mod pause;
mod saved;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fedistill_federation::{Ask, Probes, State};
use fedistill_learning::Samples;
use fedistill_protocol::{Digest, Goodbye, Name, RoundId, TransferManifest, TransferSet};
use fedistill_transport::Listen;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::attempt::{Opened, Topic};
use self::between::Work;
use self::counted::Counted;
use self::late::Behind;
use self::pause::Pause;
use crate::hub::{Arrival, Hub};
use crate::plan::Planner;
use crate::probes::Hidden;
use crate::store::Writer;
use crate::{
    CoordinatorError, Observer, Outcome, Saved, Settings, Store, Teacher, connection, pace,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// All rounds are done.
    Finished,
    /// It was told to stop, and goes on from there when started again.
    Stopped,
}

/// Runs one federation.
pub struct Coordinator {
    settings: Settings,
    transfer: Arc<Samples>,
    set: Arc<[u8]>,
    planner: Planner,
    manifest: TransferManifest,
    teacher: Option<Box<dyn Teacher>>,
    writer: Writer,
    observer: Box<dyn Observer>,
    at_once: usize,
    behind: Behind,
    counted: Counted,
    /// Why a client last refused a plan.
    refusal: Option<String>,
}

impl Coordinator {
    /// A coordinator of a federation with this transfer set, teacher and store.
    ///
    /// # Errors
    /// Settings that contradict each other, or a system that has no thread left for the store.
    pub fn new(
        settings: Settings,
        transfer: TransferSet,
        teacher: Option<Box<dyn Teacher>>,
        store: Box<dyn Store>,
    ) -> Result<Self, CoordinatorError> {
        settings.check(transfer.samples(), teacher.as_deref())?;
        let set: Arc<[u8]> = transfer.pack().into();
        let manifest = TransferManifest {
            blob: Digest::of(&set),
            bytes: set.len() as u64,
            samples: transfer.samples(),
            shape: transfer.shape().to_vec(),
            classes: settings.classes.clone(),
        };
        let planner = Planner {
            federation: settings.federation.clone(),
            transfer: manifest.blob,
            samples: manifest.samples,
            classes: settings.classes.len() as u32,
            rows: settings.rows,
            precision: settings.precision,
            rounding: settings.rounding,
            training: settings.training,
            seed: settings.seed,
            deadline_ms: settings.quorum.most_time().as_millis() as u64,
            hidden: None,
        };
        Ok(Self {
            settings,
            transfer: Arc::new(transfer.into()),
            set,
            planner,
            manifest,
            teacher,
            writer: Writer::start(store)?,
            observer: Box::new(()),
            at_once: usize::MAX,
            behind: Behind::default(),
            counted: Counted::default(),
            refusal: None,
        })
    }

    /// Lets the method measure by labelled samples that lie in the transfer set; see
    /// [`crate::Labelled`].
    ///
    /// # Errors
    /// Fewer other samples than a round speaks about.
    pub fn probing(mut self, probes: Probes) -> Result<Self, CoordinatorError> {
        let hidden = Hidden::new(probes, self.planner.samples);
        let others = hidden.others.len();
        if self.settings.rows as usize > others {
            return Err(CoordinatorError::Settings(format!(
                "round.samples is {}, the transfer set has {others} samples beside labelled ones",
                self.settings.rows
            )));
        }
        self.planner.hidden = Some(Arc::new(hidden));
        Ok(self)
    }

    /// Lets `observer` see each round's end.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Asks only so many clients of a cohort at a time; each one that is done makes room for the
    /// next. What the coordinator, or a simulation, holds of contributions under way is bounded by
    /// this. A client's silence counts from the opening of the round, so leave that long enough.
    #[must_use]
    pub fn asking(mut self, at_once: usize) -> Self {
        self.at_once = at_once.max(1);
        self
    }

    /// Runs the rounds that are left, with the clients that come through `listener`, until the
    /// last or until `stop`. Either way clients are told, and the door is shut.
    ///
    /// # Errors
    /// Too few clients for too long, or a store or teacher that fails.
    pub async fn run(
        mut self,
        listener: Arc<dyn Listen>,
        stop: CancellationToken,
    ) -> Result<Ended, CoordinatorError> {
        let (arrivals, mut incoming) = mpsc::channel(256);
        let silence = self.settings.silence.as_millis();
        let hub = Arc::new(Hub::new(
            self.settings.federation.clone(),
            self.manifest.clone(),
            silence.try_into().unwrap_or(u32::MAX),
            self.writer.epoch(),
            arrivals,
        ));
        hub.offer([Arc::clone(&self.set)]);
        let mut door = None;
        let run = async {
            // Nobody is let in before it is known that rounds go on: who hears of other classes takes its leave for good.
            let saved = self.load().await?;
            door = Some(tokio::spawn(let_in(
                Arc::clone(&listener),
                Arc::clone(&hub),
            )));
            self.rounds(&hub, &mut incoming, saved).await
        };
        let result = tokio::select! {
            result = run => result.map(|()| Ended::Finished),
            () = stop.cancelled() => Ok(Ended::Stopped),
        };
        let shut = || door.iter().for_each(JoinHandle::abort);
        hub.open(None);
        let goodbye = match &result {
            Ok(Ended::Finished) => Goodbye {
                why: "the federation is over".to_owned(),
                back: false,
                after_ms: 0,
            },
            _ => {
                shut();
                let away = pace::of_a_stop(hub.count()).as_millis();
                Goodbye {
                    why: "the coordinator stops".to_owned(),
                    back: true,
                    after_ms: away.try_into().unwrap_or(u32::MAX),
                }
            }
        };
        let farewell = self.settings.farewell;
        if matches!(result, Ok(Ended::Finished)) && !farewell.is_zero() {
            self.observer.finished();
            let seconds = farewell.as_secs_f64();
            tracing::info!("all rounds are done: for {seconds} s whoever comes is told so");
            tokio::select! {
                () = hub.farewell(&mut incoming, &goodbye, farewell) => {}
                () = stop.cancelled() => {}
            }
        }
        hub.empty(&mut incoming, goodbye, QUIET, ENDING).await;
        shut();
        listener.shut().await;
        if !matches!(result, Ok(Ended::Finished)) {
            // What has crossed of the open round would be forgotten with this process.
            self.observer.broken_off(&|| hub.traffic());
        }
        result
    }

    async fn rounds(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        saved: Saved,
    ) -> Result<(), CoordinatorError> {
        let Saved {
            mut round,
            over: _,
            subject: _,
            mut state,
            mut exchange,
            teacher,
            opens,
            mut open,
        } = saved;
        let subject = self.subject();
        if let (Some(teacher), Some(snapshot)) = (&mut self.teacher, &teacher) {
            teacher
                .restore(snapshot)
                .map_err(CoordinatorError::Teacher)?;
        }
        hub.remember(std::mem::take(&mut exchange.given));
        let last = self.writer.last().await.map_err(CoordinatorError::State)?;
        self.counted = last.map(Counted::from).unwrap_or_default();
        self.observer.decided(&state.decided);
        self.observer.started(
            round,
            self.teacher.as_deref_mut().map(|t| t as &mut dyn Teacher),
        );
        if !state.teaches() {
            let begin = |work: Work<'_>| {
                let Work {
                    method,
                    outlook,
                    centre,
                    state,
                } = work;
                method.begin(&outlook, centre, state)
            };
            state = self.between(u32::MAX, state, begin).await?;
        }
        let mut ahead = None;
        let opens = opens.filter(|_| open.is_none());
        let length = self.settings.pause;
        let mut pause = opens.and_then(|opens| Pause::goes_on(length, opens, SystemTime::now()));
        while let Some(ask) = self.ask(round, &state) {
            if let Some(pause) = pause.take() {
                self.pause(hub, incoming, &pause).await;
            }
            let mut attempt = open.as_ref().map_or(0, |open| open.plan.id.attempt);
            let mut begun = None;
            if let Some(saved) = open.take() {
                match self.words_of(&saved, &ask, &state) {
                    Some(words) => begun = Some((saved, words)),
                    None => {
                        let id = saved.plan.id;
                        tracing::warn!("round {id} was begun under other settings: it opens again");
                        attempt += 1;
                    }
                }
            }
            let mut tries = 0;
            let (planned, committed) = loop {
                let id = RoundId { round, attempt };
                let topic = Topic {
                    id,
                    ask: &ask,
                    state: &state,
                    before: &exchange,
                };
                let opened = match (ahead.take(), begun.take()) {
                    (Some(opened), _) => opened,
                    (None, Some((saved, words))) => self.reopen(hub, saved, topic, words),
                    (None, None) => self.open(hub, incoming, topic).await?,
                };
                let (planned, committed) = self.attempt(hub, incoming, opened).await?;
                match committed {
                    Some(committed) => break (planned, committed),
                    None => {
                        self.observer.round_aborted(id);
                        attempt += 1;
                        tries += 1;
                        self.again(hub, incoming, id, tries).await?;
                    }
                }
            };
            let id = committed.id;
            let (contributors, aggregate) =
                (committed.contributors.clone(), committed.sum.digest());
            let late: BTreeSet<Name> = committed.late.keys().cloned().collect();
            let fetched = hub.who_fetched(&planned.last_blobs());
            let held_by = contributors.iter().cloned().chain(fetched).collect();
            if round < self.settings.rounds {
                state = self.learn(state, &planned.plan, committed).await?;
            }
            round += 1;
            exchange.held_late(late);
            exchange.turn(planned.sent, held_by);
            exchange.given = hub.remembered();
            let teacher = self.teacher.as_ref().map(|teacher| teacher.snapshot());
            let outcome = Outcome {
                contributors: contributors.clone(),
                aggregate,
                teacher: teacher.as_deref().map(digest_of),
            };
            let ask = self.ask(round, &state);
            let over = ask.is_none();
            ahead = ask.and_then(|ask| {
                let topic = Topic {
                    id: RoundId { round, attempt: 0 },
                    ask: &ask,
                    state: &state,
                    before: &exchange,
                };
                self.ahead(hub, incoming, topic)
            });
            pause = Pause::begin(length).filter(|_| !over);
            let next = Saved {
                round,
                over,
                subject: Some(subject.clone()),
                opens: pause.as_ref().map(Pause::opens),
                state: state.clone(),
                exchange: exchange.clone(),
                teacher,
                open: ahead.as_ref().map(Opened::record),
            };
            self.writer.close(next, outcome).await?;
            tracing::info!(
                "round {id} is over, with {} contributions",
                contributors.len()
            );
            self.observer.models(&hub.parameters());
            self.observer.crossed(id, &|| hub.traffic());
            self.observer.decided(&state.decided);
            let teacher = self.teacher.as_deref_mut().map(|t| t as &mut dyn Teacher);
            self.observer.round_done(id, &contributors, teacher);
            self.observer.before_next(id).await?;
        }
        Ok(())
    }

    /// Whether `round` only tells clients what the last one came to.
    fn closes(&self, round: u32) -> bool {
        round >= self.settings.rounds
    }

    /// What round `round` asks; `None` after the last one.
    fn ask(&self, round: u32, state: &State) -> Option<Ask> {
        let Settings { method, rounds, .. } = &self.settings;
        let chosen = self.planner.chosen(round);
        let outlook = self.planner.outlook(&chosen);
        match round.cmp(rounds) {
            std::cmp::Ordering::Less => Some(method.ask(&outlook, state)),
            std::cmp::Ordering::Equal => method.closing(&outlook, state),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// At the end: longest wait for one more client to hang up, and for all of them.
const QUIET: Duration = Duration::from_secs(3);
const ENDING: Duration = Duration::from_secs(8);

/// Of a model's parameters.
fn digest_of(parameters: &[f32]) -> Digest {
    let bytes: Vec<u8> = parameters.iter().flat_map(|v| v.to_le_bytes()).collect();
    Digest::of(&bytes)
}

async fn let_in(listener: Arc<dyn Listen>, hub: Arc<Hub>) {
    while let Some(connection) = listener.accept().await {
        tokio::spawn(connection::serve(Arc::clone(&hub), connection));
    }
}
