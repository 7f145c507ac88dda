//! What is seen of students, teacher and bytes while a federation runs, put together round by round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fedistill_client::{Event, Student, Watcher};
use fedistill_coordinator::{
    Closed, Drift, Epoch, Observer, Outcome, Saved, Store, StoreError, Teacher,
};
use fedistill_protocol::{Name, Phase, PhaseData, RoundId, RoundPlan};
use fedistill_transport::{BoxFuture, Traffic};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::journal::Stage;
use crate::metrics::{ClientScore, Measure, OverClients, ServerScore};
use crate::students::Students;
use crate::yardstick::Yardstick;
use crate::{Progress, RoundRow};

/// Seen from many threads.
#[derive(Default)]
pub(crate) struct Board {
    seen: Mutex<Seen>,
    /// A contribution counts.
    counted: Notify,
}

/// What has been seen so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Rounds that are over; the next one is under way.
    pub(crate) rows: Vec<RoundRow>,
    /// The model of each client that has taken part, as it was when it did so last.
    pub(crate) clients: BTreeMap<usize, ClientScore>,
    /// The teacher as it began.
    pub(crate) server_before: Option<ServerScore>,
    /// The server's model after the last round.
    pub(crate) server: Option<ServerScore>,
    /// Bytes on the network.
    pub(crate) network: Option<u64>,
    /// How far clients agree with the teacher in the round that is under way.
    agreement: Option<f64>,
    /// Students of the round that is under way.
    current: BTreeMap<usize, ClientScore>,
    /// What had crossed once a client's contribution to this round counted.
    crossed: BTreeMap<usize, Traffic>,
    /// The same of the last round in which it took part.
    before: BTreeMap<usize, Traffic>,
    /// What a round of federated averaging of its model costs each client, both ways, where that is
    /// known.
    pub(crate) fedavg: Vec<u64>,
    /// Clients that had joined before this process began, and have not come back.
    returning: BTreeSet<usize>,
}

impl Seen {
    /// Goes on after these rounds of so many clients.
    pub(crate) fn after(rows: Vec<RoundRow>, clients: usize) -> Self {
        let took_part = |row: &RoundRow| match &row.clients {
            Some(clients) => clients.clone(),
            None => (0..clients).collect(),
        };
        Self {
            returning: rows.iter().flat_map(took_part).collect(),
            rows,
            ..Self::default()
        }
    }

    /// Whether a client has taken part before.
    pub(crate) fn knows(&self, client: usize) -> bool {
        self.returning.contains(&client) || self.before.contains_key(&client)
    }

    /// Whether this is about the round that is under way.
    fn is_current(&self, id: RoundId) -> bool {
        id.round as usize == self.rows.len()
    }

    /// Whether it has been heard from all of so many.
    fn is_complete(&self, contributors: usize) -> bool {
        self.crossed.len() >= contributors
    }

    fn hear(&mut self, client: usize, event: &Event) {
        match *event {
            // What it takes to come back is no round's.
            Event::Connected { traffic } if self.returning.remove(&client) => {
                self.before.insert(client, traffic);
            }
            Event::Counted { id, traffic } if self.is_current(id) => {
                self.crossed.insert(client, traffic);
            }
            Event::Closed {
                network: Some(bytes),
            } => self.network = Some(self.network.unwrap_or(0) + bytes.total()),
            _ => {}
        }
    }

    /// The round that was under way is over; it took so long.
    fn close(
        &mut self,
        server: Option<ServerScore>,
        decided: BTreeMap<String, f64>,
        clients: usize,
        seconds: f64,
    ) {
        let current = std::mem::take(&mut self.current);
        let crossed = std::mem::take(&mut self.crossed);
        let mut row = RoundRow {
            round: self.rows.len() as u32,
            server_on_test: server.map(|server| server.on_test),
            decided,
            seconds,
            agreement: self.agreement.take(),
            ..RoundRow::default()
        };
        row.score(current.values());
        for client in current.keys() {
            let before = self.before.entry(*client).or_default();
            let now = crossed.get(client).copied().unwrap_or(*before);
            row.enter(now.since(before), self.fedavg.get(*client).copied());
            *before = now;
        }
        let took_part = || current.keys().copied().collect();
        row.clients = (current.len() < clients).then(took_part);
        self.rows.push(row);
        self.clients.extend(current);
        self.server = server.or(self.server);
    }
}

impl Board {
    /// Goes on from what has been seen.
    pub(crate) fn new(seen: Seen) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::new(seen),
            counted: Notify::new(),
        })
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hear(&self, client: usize, event: &Event) {
        self.seen().hear(client, event);
        if let Event::Counted { .. } = event {
            self.counted.notify_one();
        }
    }
}

/// Looks over a student's shoulder.
pub(crate) struct StudentWatch {
    pub(crate) client: usize,
    pub(crate) yardstick: Arc<Yardstick>,
    pub(crate) board: Arc<Board>,
}

impl Watcher for StudentWatch {
    /// Of a round counts how good the student is once it has distilled, if it does; private training
    /// then makes it its own again.
    fn phase_done(&mut self, id: RoundId, phase: &Phase, last: bool, student: &mut dyn Student) {
        let is_seen = || self.board.seen().current.contains_key(&self.client);
        if phase.data != PhaseData::Transfer && (!last || is_seen()) {
            return;
        }
        // A student of ours that has learnt can also answer.
        if let Ok(score) = self.yardstick.student(self.client, student) {
            let mut seen = self.board.seen();
            if seen.is_current(id) {
                seen.current.insert(self.client, score);
            }
        }
    }
}

/// Sees each round's end at the centre.
pub(crate) struct Centre {
    pub(crate) yardstick: Arc<Yardstick>,
    pub(crate) board: Arc<Board>,
    pub(crate) clients: usize,
    pub(crate) progress: Progress,
    /// When the round that is under way began.
    pub(crate) since: Instant,
    /// What the next round begins with.
    pub(crate) between: Between,
    /// Where that is kept, and with it the students.
    pub(crate) keep: Option<(Stage, Arc<Students>)>,
    /// Of the round that has just ended.
    pub(crate) ended: Ended,
}

/// What a round came to at the centre.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ended {
    contributors: usize,
    server: Option<ServerScore>,
    seconds: f64,
}

/// Longest wait for clients to hear that their contributions count: one that has just lost its
/// connection never does.
const HEARING: Duration = Duration::from_secs(10);

impl Centre {
    fn evaluate(&self, teacher: Option<&mut dyn Teacher>) -> Option<ServerScore> {
        let logits = teacher?.logits(self.yardstick.samples()).ok()?;
        Some(self.yardstick.tested(&logits).server())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        let Ended {
            contributors,
            server,
            seconds,
        } = self.ended;
        let deadline = tokio::time::Instant::now() + HEARING;
        while !self.board.seen().is_complete(contributors) {
            let counted = self.board.counted.notified();
            if timeout_at(deadline, counted).await.is_err() {
                break;
            }
        }
        let decided = self.between.saved().state.decided.clone();
        let mut seen = self.board.seen();
        seen.close(server, decided, self.clients, seconds);
        drop(seen);
        if let Some((stage, students)) = &mut self.keep
            && stage.is_due()
        {
            stage.keep(&self.between.saved(), &self.board.seen(), students)?;
        }
        Ok(())
    }
}

impl Observer for Centre {
    fn started(&mut self, round: u32, teacher: Option<&mut dyn Teacher>) {
        if round == 0 {
            // One that knows nothing is not worth a line.
            let server = self.evaluate(teacher.filter(|teacher| teacher.is_trained()));
            self.board.seen().server_before = server;
        }
        self.since = Instant::now();
    }

    fn round_done(&mut self, id: RoundId, done: &[Name], teacher: Option<&mut dyn Teacher>) {
        let server = self.evaluate(teacher);
        let now = Instant::now();
        self.ended = Ended {
            contributors: done.len(),
            server,
            seconds: (now - self.since).as_secs_f64(),
        };
        self.since = now;
        let seen = self.board.seen();
        let clients = OverClients::of(seen.current.values().map(|client| client.on_test));
        drop(seen);
        let mean = clients.map_or(0.0, |clients| clients.mean.share());
        self.progress
            .round(id.round, mean, server.map(|server| server.on_test.share()));
    }

    fn drifted(&mut self, id: RoundId, drift: Drift) {
        let seen = &mut self.board.seen();
        seen.agreement = seen.is_current(id).then_some(drift.agreement);
        if drift.is_alarming() {
            self.progress.note(&format!(
                "round {}: clients agree with the teacher on {:.0} % of samples only",
                id.round,
                100.0 * drift.agreement
            ));
        }
    }

    fn before_next(&mut self, _: RoundId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.settle())
    }
}

/// A store that knows what the next round begins with, and nothing of the one under way: a simulation
/// that stops in a round begins it again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Between(Arc<Mutex<Saved>>);

impl Between {
    pub(crate) fn new(saved: Saved) -> Self {
        Self(Arc::new(Mutex::new(saved)))
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Between {
    fn load(&mut self) -> Result<Saved, StoreError> {
        Ok(self.saved().clone())
    }

    fn open(&mut self, _: &RoundPlan, _: &BTreeMap<Name, u32>) -> Result<(), StoreError> {
        Ok(())
    }

    fn append(&mut self, _: RoundId, _: &[fedistill_federation::Event]) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn epoch(&self) -> Epoch {
        Epoch {
            number: 1,
            first: 1,
            rolled_back: 0,
        }
    }

    fn history(&mut self) -> Result<Vec<Closed>, StoreError> {
        Ok(Vec::new())
    }

    fn close(&mut self, next: &Saved, _: &Outcome) -> Result<(), StoreError> {
        *self.saved() = next.clone();
        Ok(())
    }
}
