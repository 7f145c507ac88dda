use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fedistill_federation::{
    Ask, Centre, Committed, Input, Method, MethodError, Outlook, Output, Partial, Probes, Quorum,
    Round, RoundConfig, State, Taken, Training,
};
use fedistill_learning::Samples;
use fedistill_protocol::{
    Digest, Message, Name, Precision, RoundId, RoundPlan, TransferManifest, TransferSet,
};
use fedistill_transport::{BoxFuture, Listen, Traffic};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::asking::Asking;
use crate::centre::TeacherCentre;
use crate::config::check_classes;
use crate::drift::Drift;
use crate::hub::{Arrival, Hub, encode};
use crate::ledger::Lessons;
use crate::plan::{Planned, Planner, Sent, stream_seed, without_updates};
use crate::probes::Hidden;
use crate::store::OpenRound;
use crate::{CoordinatorError, Saved, Store, StoreError, Teacher, connection};

/// How a federation is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub federation: Name,
    /// Names of the classes, in the order of every model's outputs.
    pub classes: Vec<String>,
    /// The algorithm.
    pub method: Arc<dyn Method>,
    /// How hard clients, and the teacher, train in a round.
    pub training: Training,
    /// Number of rounds.
    pub rounds: u32,
    /// The most clients that a round asks.
    pub cohort: usize,
    /// A round opens once so many clients are connected.
    pub open_with: usize,
    /// When a round has enough.
    pub quorum: Quorum,
    /// Longest silence of a client at work before it is not waited for.
    pub silence: Duration,
    /// Longest wait for enough clients to open a round with; `None` waits for ever.
    pub patience: Option<Duration>,
    /// Tries at a round, after which the run ends if none has met its quorum; `None` tries for ever.
    pub attempts: Option<u32>,
    /// Transfer samples that a round speaks about.
    pub rows: u32,
    /// How answers are packed, both ways.
    pub precision: Precision,
    /// Everything random follows from it.
    pub seed: u64,
    /// Weights of clients in the aggregate; 1 for those not named.
    pub weights: BTreeMap<Name, u32>,
}

/// Sees each round's end, on the coordinator's own thread.
pub trait Observer: Send {
    /// Before the first round: the teacher as it begins, and the round that comes first.
    fn started(&mut self, round: u32, teacher: Option<&mut dyn Teacher>) {
        let _ = (round, teacher);
    }

    /// A round is over, with these contributors, and the teacher has learnt from it.
    fn round_done(
        &mut self,
        id: RoundId,
        contributors: &[Name],
        teacher: Option<&mut dyn Teacher>,
    ) {
        let _ = (id, contributors, teacher);
    }

    /// A round is over and the observer has seen it: the next one opens once this is done.
    ///
    /// # Errors
    /// What the observer keeps of a round cannot be kept, which ends the run.
    fn before_next(&mut self, id: RoundId) -> BoxFuture<'_, Result<(), StoreError>> {
        let _ = id;
        Box::pin(std::future::ready(Ok(())))
    }

    /// A round is over: `traffic` tells what has crossed for each client since the coordinator began;
    /// what is still under way counts for the next round. Comes before [`Self::round_done`].
    fn crossed(&mut self, id: RoundId, traffic: &dyn Fn() -> BTreeMap<Name, Traffic>) {
        let _ = (id, traffic);
    }

    /// What clients said in a round was held against the teacher; [`Self::round_done`] follows.
    fn drifted(&mut self, id: RoundId, drift: Drift) {
        let _ = (id, drift);
    }

    /// A try at a round has not met its quorum.
    fn round_aborted(&mut self, id: RoundId) {
        let _ = id;
    }
}

/// Nobody looks.
impl Observer for () {}

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
    store: Box<dyn Store>,
    observer: Box<dyn Observer>,
    at_once: usize,
    /// Why a client last refused a plan.
    refusal: Option<String>,
}

impl Coordinator {
    /// A coordinator of a federation with this transfer set, teacher and store.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn new(
        settings: Settings,
        transfer: TransferSet,
        teacher: Option<Box<dyn Teacher>>,
        store: Box<dyn Store>,
    ) -> Result<Self, CoordinatorError> {
        let wrong = |why: String| Err(CoordinatorError::Settings(why));
        let least = settings.quorum.least();
        if least > settings.cohort {
            return wrong(format!(
                "round.least asks for {least} contributions, but round.cohort has only {} clients: lower the one or raise the other",
                settings.cohort
            ));
        }
        if settings.rows == 0 || settings.rows > transfer.samples() {
            return wrong(format!(
                "round.samples is {}, the transfer set has {} samples",
                settings.rows,
                transfer.samples()
            ));
        }
        let knows = teacher.as_ref().is_some_and(|teacher| teacher.is_trained());
        if settings.method.needs_teacher() && !knows {
            let name = settings.method.name();
            return wrong(format!(
                "method {name} needs a teacher{}: add one, or choose another method",
                if teacher.is_some() {
                    " that knows something"
                } else {
                    ""
                }
            ));
        }
        check_classes(&settings.classes)?;
        let most = heaviest(&settings);
        if most > Partial::MOST_WEIGHT {
            return wrong(format!(
                "weights of a cohort add up to {most}, at most {} can be added up: make them smaller",
                Partial::MOST_WEIGHT
            ));
        }
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
            store,
            observer: Box::new(()),
            at_once: usize::MAX,
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
            arrivals,
        ));
        hub.offer([Arc::clone(&self.set)]);
        let door = tokio::spawn(let_in(Arc::clone(&listener), Arc::clone(&hub)));
        let result = tokio::select! {
            result = self.rounds(&hub, &mut incoming) => result.map(|()| Ended::Finished),
            () = stop.cancelled() => Ok(Ended::Stopped),
        };
        hub.open(None);
        door.abort();
        match &result {
            Ok(Ended::Finished) => hub.goodbye("the federation is over", false),
            _ => hub.goodbye("the coordinator stops", true),
        }
        hub.emptied(&mut incoming, QUIET, ENDING).await;
        listener.shut().await;
        result
    }

    async fn rounds(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
    ) -> Result<(), CoordinatorError> {
        let Saved {
            mut round,
            over: _,
            mut state,
            mut exchange,
            teacher,
            mut open,
        } = self.store.load()?;
        if let (Some(teacher), Some(snapshot)) = (&mut self.teacher, &teacher) {
            teacher
                .restore(snapshot)
                .map_err(CoordinatorError::Teacher)?;
        }
        hub.remember(std::mem::take(&mut exchange.given));
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
        while let Some(ask) = self.ask(round, &state) {
            let mut attempt = open.as_ref().map_or(0, |open| open.plan.id.attempt);
            if let Some(saved) = &open
                && !self.goes_on(saved, &ask, &state)
            {
                tracing::warn!(
                    "round {} was begun under other settings: it opens again",
                    saved.plan.id
                );
                open = None;
                attempt += 1;
            }
            let mut tries = 0;
            let (planned, committed) = loop {
                let id = RoundId { round, attempt };
                let resumed = open.take();
                let (planned, committed) = self
                    .attempt(hub, incoming, id, &ask, &state, &exchange.sent, resumed)
                    .await?;
                match committed {
                    Some(committed) => break (planned, committed),
                    None => {
                        self.observer.round_aborted(id);
                        attempt += 1;
                        tries += 1;
                        self.again(incoming, id, tries).await?;
                    }
                }
            };
            let id = committed.id;
            let contributors = committed.contributors.clone();
            if round < self.settings.rounds {
                state = self.learn(state, &planned.plan, committed).await?;
            }
            round += 1;
            exchange.sent = planned.sent;
            exchange.given = hub.remembered();
            self.store.close(&Saved {
                round,
                over: self.ask(round, &state).is_none(),
                state: state.clone(),
                exchange: exchange.clone(),
                teacher: self.teacher.as_ref().map(|teacher| teacher.snapshot()),
                open: None,
            })?;
            tracing::info!(
                "round {id} is over, with {} contributions",
                contributors.len()
            );
            self.observer.crossed(id, &|| hub.traffic());
            let teacher = self.teacher.as_deref_mut().map(|t| t as &mut dyn Teacher);
            self.observer.round_done(id, &contributors, teacher);
            self.observer.before_next(id).await?;
        }
        Ok(())
    }

    /// A try at a round has failed: ends the run if it was the last one, or lets a while pass, so
    /// that clients that refuse at once are not asked again at once.
    async fn again(
        &mut self,
        incoming: &mut mpsc::Receiver<Arrival>,
        id: RoundId,
        tries: u32,
    ) -> Result<(), CoordinatorError> {
        let why = self.refusal.take();
        let why = why.unwrap_or_else(|| "too few answered in time".to_owned());
        if self.settings.attempts.is_some_and(|most| tries >= most) {
            return Err(CoordinatorError::NoQuorum { id, tries, why });
        }
        let pause = Duration::from_secs(1 << tries.min(6));
        let seconds = pause.as_secs();
        tracing::warn!("round {id} has missed its quorum ({why}): it opens again in {seconds} s");
        let end = tokio::time::Instant::now() + pause;
        while let Ok(Some(_)) = tokio::time::timeout_at(end, incoming.recv()).await {}
        Ok(())
    }

    /// Whether an interrupted round is what would be asked now: settings may have changed since.
    fn goes_on(&self, saved: &OpenRound, ask: &Ask, state: &State) -> bool {
        let planned = self
            .planner
            .plan(saved.plan.id, ask.clone(), state, &saved.cohort, &[]);
        planned.plan == without_updates(&saved.plan)
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

    /// One try at a round; `None` where it misses its quorum.
    #[allow(
        clippy::too_many_arguments,
        reason = "all of it is what one try is about"
    )]
    async fn attempt(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
        id: RoundId,
        ask: &Ask,
        state: &State,
        before: &[Sent],
        resumed: Option<OpenRound>,
    ) -> Result<(Planned, Option<Committed>), CoordinatorError> {
        let (cohort, events) = match resumed {
            Some(open) => (open.cohort, open.events),
            None => {
                self.gather(hub, incoming).await?;
                let candidates = hub.connected();
                let chosen = self
                    .planner
                    .cohort(id.round, &candidates, self.settings.cohort);
                let weight = |name: Name| {
                    let weight = self.settings.weights.get(&name).copied().unwrap_or(1);
                    (name, weight)
                };
                (chosen.into_iter().map(weight).collect(), Vec::new())
            }
        };
        let planned = self.planner.plan(id, ask.clone(), state, &cohort, before);
        let plan = &planned.plan;
        let classes = self.settings.classes.len() as u32;
        let config = RoundConfig {
            id,
            cohort: cohort.clone(),
            quorum: self.settings.quorum,
            silence: self.settings.silence,
            answers: plan
                .report
                .as_ref()
                .map(|report| (report.about.count(classes), report.width)),
            method: Arc::clone(&self.settings.method),
        };
        let blobs = planned
            .blobs
            .iter()
            .map(|bytes| Arc::from(bytes.as_slice()));
        hub.offer(std::iter::once(Arc::clone(&self.set)).chain(blobs));
        let now = Instant::now();
        let mut machine = match events.is_empty() {
            true => {
                self.store.open(plan, &cohort)?;
                Round::open(config, now)
            }
            false => {
                tracing::info!("round {id} goes on from its log of {} events", events.len());
                Round::restore(config, now, events)?
            }
        };
        hub.teach(Lessons::of(&planned, classes));
        hub.open(Some(Arc::new(plan.clone())));
        let frame = |plan: RoundPlan| {
            let why = "a plan is longer than its frame may be: lower round.samples";
            let error = || CoordinatorError::Settings(why.to_owned());
            encode(&Message::Plan(plan)).ok_or_else(error)
        };
        let particular = planned.particular();
        let particular = particular.map(|name| Ok((name.clone(), frame(planned.of(name))?)));
        let particular: BTreeMap<_, _> = particular.collect::<Result<_, CoordinatorError>>()?;
        let common = frame(plan.clone())?;
        let mut asking = Asking::new(&cohort, common, particular, self.at_once);
        asking.go_on(hub, &machine, id);
        let outcome = loop {
            if let Some(outcome) = self.settle(hub, &mut machine, id)? {
                break outcome;
            }
            asking.go_on(hub, &machine, id);
            let timeout = machine.poll_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                arrival = incoming.recv() => {
                    let Some(arrival) = arrival else {
                        return Err(CoordinatorError::Settings("nobody listens".to_owned()));
                    };
                    asking.heard(&arrival, id);
                    if let Arrival::Refused(name, _, why) = &arrival {
                        self.refusal = Some(format!("{name}: {why}"));
                    }
                    if let Some(input) = input(arrival, id) {
                        machine.handle(Instant::now(), input)?;
                    }
                }
                () = tokio::time::sleep_until(timeout.into()) => {
                    machine.handle_timeout(Instant::now());
                }
            }
        };
        hub.open(None);
        Ok((planned, outcome))
    }

    /// Does what the machine asks for; its outcome once there is one.
    fn settle(
        &mut self,
        hub: &Hub,
        machine: &mut Round,
        id: RoundId,
    ) -> Result<Option<Option<Committed>>, CoordinatorError> {
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Persist(ticket, event) => {
                    self.store.append(id, &event)?;
                    machine.handle(Instant::now(), Input::Stored(ticket))?;
                }
                Output::Send { to, message } => {
                    if let Message::Rejected(rejected) = &message {
                        tracing::warn!(client = %to, "contribution rejected: {}", rejected.detail);
                    }
                    hub.send(&to, &message);
                }
                Output::Committed(committed) => return Ok(Some(Some(committed))),
                Output::Aborted => return Ok(Some(None)),
            }
        }
        Ok(None)
    }

    /// Waits until enough clients are connected.
    async fn gather(
        &mut self,
        hub: &Hub,
        incoming: &mut mpsc::Receiver<Arrival>,
    ) -> Result<(), CoordinatorError> {
        let needed = self.settings.open_with.max(self.settings.quorum.least());
        let begun = Instant::now();
        loop {
            let connected = hub.count();
            if connected >= needed {
                return Ok(());
            }
            tracing::info!("{connected} of {needed} clients that a round needs are connected");
            let patience = self.settings.patience;
            let left = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
            let wait = left
                .unwrap_or(Duration::from_secs(60))
                .min(Duration::from_secs(60));
            let arrival = tokio::time::timeout(wait, incoming.recv()).await;
            if let Ok(Some(Arrival::Contributed { client, id, .. })) = arrival {
                // Too late, and no machine is there to say so.
                use fedistill_protocol::{RejectReason, Rejected};
                let detail = format!("round {id} is over: await the next one");
                let reason = RejectReason::TooLate;
                hub.send(&client, &Rejected { reason, detail }.into());
            }
            if patience.is_some_and(|patience| begun.elapsed() >= patience) {
                return Err(CoordinatorError::TooFewClients {
                    connected: hub.count(),
                    needed,
                    seconds: begun.elapsed().as_secs(),
                });
            }
        }
    }

    /// What comes of a round: what the next one begins with, and what the teacher learns.
    async fn learn(
        &mut self,
        state: State,
        plan: &RoundPlan,
        committed: Committed,
    ) -> Result<State, CoordinatorError> {
        let about = plan.report.as_ref().map(|report| report.about.clone());
        let kind = plan.report.as_ref().map(|report| report.kind);
        let classes = self.settings.classes.len() as u32;
        let id = plan.id;
        // One that has learnt nothing yet has nothing to say.
        let knows = |teacher: &dyn Teacher| teacher.is_trained() || id.round > 0;
        let watches = self.teacher.as_deref().is_some_and(|t| knows(t));
        let drift = Arc::new(OnceLock::new());
        let seen = Arc::clone(&drift);
        let conclude = move |work: Work<'_>| {
            let taken = Taken {
                sum: &committed.sum,
                each: &committed.each,
                about: about.as_ref(),
                classes,
            };
            let Work {
                method,
                outlook,
                mut centre,
                state,
            } = work;
            if watches && let Some(centre) = centre.as_deref_mut() {
                // Nobody else writes it.
                let _ = seen.set(Drift::of(id.round, &taken, kind, centre)?);
            }
            method.conclude(&outlook, taken, centre, state)
        };
        let state = self.between(id.round, state, conclude).await?;
        if let Some(drift) = drift.get().copied().flatten() {
            if drift.is_alarming() {
                let percent = 100.0 * drift.agreement;
                tracing::warn!(
                    "round {id}: what clients say agrees with the teacher on {percent:.0} % of samples only: some lie, have other data, or know too little of each other's classes for a mean"
                );
            }
            self.observer.drifted(id, drift);
        }
        Ok(state)
    }

    /// Lets the method work with the teacher between two rounds.
    async fn between(
        &mut self,
        round: u32,
        mut state: State,
        work: impl FnOnce(Work<'_>) -> Result<(), MethodError> + Send + 'static,
    ) -> Result<State, CoordinatorError> {
        let (planner, transfer) = (self.planner.clone(), Arc::clone(&self.transfer));
        let method = Arc::clone(&self.settings.method);
        let mut teacher = self.teacher.take();
        let before = state.decided.clone();
        let work = move || {
            let chosen = planner.chosen(round);
            let mut centre = teacher.as_deref_mut().map(|teacher| TeacherCentre {
                teacher,
                transfer,
                classes: planner.classes,
                training: planner.training,
                seed: stream_seed(planner.seed, round),
            });
            let done = work(Work {
                method: method.as_ref(),
                outlook: planner.outlook(&chosen),
                centre: centre.as_mut().map(|centre| centre as &mut dyn Centre),
                state: &mut state,
            });
            (teacher, done.map(|()| state))
        };
        // Training takes seconds: not on a thread that serves connections.
        let done = tokio::task::spawn_blocking(work).await;
        let (teacher, state) = done.map_err(|error| CoordinatorError::Teacher(error.into()))?;
        self.teacher = teacher;
        let state = state?;
        for (what, value) in &state.decided {
            if before.get(what) != Some(value) {
                let method = self.settings.method.name();
                tracing::info!("{method} decides: {what} {value:.3}");
            }
        }
        Ok(state)
    }
}

/// What a method has in hand between two rounds.
struct Work<'a> {
    method: &'a dyn Method,
    outlook: Outlook<'a>,
    centre: Option<&'a mut dyn Centre>,
    state: &'a mut State,
}

/// The most that the weights of a cohort and the teacher's can add up to.
fn heaviest(settings: &Settings) -> u64 {
    let mut weights: Vec<u64> = settings.weights.values().map(|&w| w.into()).collect();
    weights.sort_unstable_by(|a, b| b.cmp(a));
    weights.truncate(settings.cohort);
    let others = settings.cohort.saturating_sub(weights.len()) as u64;
    // The teacher votes as one client does.
    let sum: u64 = weights.iter().map(|&weight| weight.max(1)).sum();
    sum.saturating_add(others).saturating_add(1)
}

fn input(arrival: Arrival, open: RoundId) -> Option<Input> {
    match arrival {
        Arrival::Joined(name) => Some(Input::Joined(name)),
        Arrival::Left(name) => Some(Input::Left(name)),
        Arrival::Heartbeat(name) => Some(Input::Heartbeat(name)),
        Arrival::Refused(name, id, why) => {
            tracing::warn!(client = %name, "refuses round {id}: {why}");
            (id == open).then_some(Input::Refused(name))
        }
        Arrival::Malformed(name, id) => (id == open).then_some(Input::Refused(name)),
        Arrival::Contributed {
            client,
            id,
            blob,
            answers,
        } => Some(Input::Contributed {
            client,
            id,
            blob,
            answers,
        }),
    }
}

/// At the end: longest wait for one more client to hang up, and for all of them.
const QUIET: Duration = Duration::from_secs(3);
const ENDING: Duration = Duration::from_secs(8);

async fn let_in(listener: Arc<dyn Listen>, hub: Arc<Hub>) {
    while let Some(connection) = listener.accept().await {
        tokio::spawn(connection::serve(Arc::clone(&hub), connection));
    }
}
