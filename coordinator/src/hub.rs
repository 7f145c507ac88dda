//! Who is connected, and what they say.

mod goodbye;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{
    Answers, Digest, Message, Name, RoundId, RoundPlan, TransferManifest, Version, frame,
};
use fedistill_transport::{CloseCode, Connection, Meter, Metered, Traffic};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Epoch;
use crate::ledger::{Books, Lessons, traffic};
use crate::parked::Parked;

/// What the connections of a federation share.
pub(crate) struct Hub {
    pub(crate) federation: Name,
    pub(crate) manifest: TransferManifest,
    pub(crate) heartbeat_ms: u32,
    pub(crate) epoch: Epoch,
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<Name, Member>,
    /// Who was asked to come back later, and has not yet.
    away: BTreeSet<Name>,
    /// Whose connection broke off, and when: they come back, unless they are gone for good.
    lost: BTreeMap<Name, Instant>,
    serial: u64,
    /// What clients may fetch.
    blobs: BTreeMap<Digest, Arc<[u8]>>,
    /// The plan of the open round: what a contribution has to be.
    plan: Option<Arc<RoundPlan>>,
    /// The plan of the round before, where contributions to it may still come.
    before: Option<Arc<RoundPlan>>,
    /// What has come of contributions to either.
    parked: Parked,
    /// What each client fetched last, to its end.
    fetched: BTreeMap<Name, Digest>,
    /// What each client gave back last, where that may be updated.
    given: BTreeMap<Name, (Digest, Arc<[u8]>)>,
    books: Books,
    /// Of each client's student, as it says; 0 where it does not.
    parameters: BTreeMap<Name, u64>,
}

impl State {
    /// Of rounds to which contributions may come.
    fn plans(&self) -> impl Iterator<Item = &Arc<RoundPlan>> {
        [&self.plan, &self.before].into_iter().flatten()
    }

    fn sweep(&mut self) {
        let rounds: Vec<RoundId> = self.plans().map(|plan| plan.id).collect();
        self.parked.keep_only(&rounds);
        self.books.keep_only(&rounds);
    }
}

struct Member {
    serial: u64,
    /// Frames, ready to be written: one that many clients get is encoded once.
    outbox: mpsc::Sender<Arc<[u8]>>,
    connection: Arc<Metered>,
    /// The last round that it was told of on this connection.
    greeted: Option<RoundId>,
}

impl Member {
    /// Sends; who does not take its messages is cut off.
    fn send(&self, frame: Arc<[u8]>) {
        if self.outbox.try_send(frame).is_err() {
            let why = "messages are not taken";
            self.connection.close(CloseCode::Violation, why);
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// On purpose, by either side.
    Meant,
    /// By a crash or the network.
    Lost,
}

/// What comes from clients.
#[derive(Debug)]
pub(crate) enum Arrival {
    Joined(Name),
    Left(Name),
    Heartbeat(Name),
    Refused(Name, RoundId, String),
    Contributed {
        client: Name,
        id: RoundId,
        blob: Digest,
        answers: Option<Answers>,
    },
    /// A contribution that cannot be used; the client has been told why.
    Malformed(Name, RoundId),
}

/// Messages that may wait for one client before it counts as stuck.
const OUTBOX: usize = 16;

impl Hub {
    pub(crate) fn new(
        federation: Name,
        manifest: TransferManifest,
        heartbeat_ms: u32,
        epoch: Epoch,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Self {
        Self {
            federation,
            manifest,
            heartbeat_ms,
            epoch,
            arrivals,
            state: Mutex::default(),
        }
    }

    /// Every change below is whole when the lock is given back.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a client in; an older connection of the same client is closed.
    pub(crate) fn join(
        &self,
        name: &Name,
        connection: Arc<Metered>,
        parameters: u64,
    ) -> (u64, mpsc::Receiver<Arc<[u8]>>) {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let mut state = self.state();
        state.away.remove(name);
        state.lost.remove(name);
        state.parameters.insert(name.clone(), parameters);
        state.serial += 1;
        let serial = state.serial;
        let member = Member {
            serial,
            outbox,
            connection,
            greeted: None,
        };
        if let Some(older) = state.members.insert(name.clone(), member) {
            let why = "the same client has opened a newer connection";
            older.connection.close(CloseCode::Superseded, why);
            // Who serves it has yet to notice: a round that ends until then must not miss what has crossed on it.
            let Member {
                serial, connection, ..
            } = older;
            state.books.supersede(name, serial, connection);
        }
        (serial, messages)
    }

    /// A connection is over; whether it was the client's current one.
    pub(crate) fn leave(&self, name: &Name, serial: u64, parting: Parting) -> bool {
        let mut state = self.state();
        state.books.let_go(serial);
        let current = state.members.get(name);
        if current.is_none_or(|member| member.serial != serial) {
            return false;
        }
        if let Some(member) = state.members.remove(name) {
            state.books.close(name, &member.connection);
        }
        if parting == Parting::Lost {
            state.lost.insert(name.clone(), Instant::now());
        }
        true
    }

    pub(crate) fn connected(&self) -> Vec<Name> {
        self.state().members.keys().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.state().members.len()
    }

    /// Sends, if the client is connected; one that does not take its messages is cut off.
    pub(crate) fn send(&self, to: &Name, message: &Message) {
        if let Some(frame) = encode(message) {
            self.send_frame(to, frame);
        }
    }

    fn send_frame(&self, to: &Name, frame: Arc<[u8]>) {
        if let Some(member) = self.state().members.get(to) {
            member.send(frame);
        }
    }

    /// The version that a client speaks, if it is connected.
    pub(crate) fn speaks(&self, client: &Name) -> Option<Version> {
        let state = self.state();
        let member = state.members.get(client)?;
        Some(member.connection.version())
    }

    /// Sends what a client has to know of round `id`, in the words of its version, once on each connection; whether it
    /// did.
    pub(crate) fn greet(
        &self,
        to: &Name,
        id: RoundId,
        frame: impl FnOnce(Version) -> Arc<[u8]>,
    ) -> bool {
        let mut state = self.state();
        let Some(member) = state.members.get_mut(to) else {
            return false;
        };
        let is_new = member.greeted.replace(id) != Some(id);
        if is_new {
            member.send(frame(member.connection.version()));
        }
        is_new
    }

    /// What a client was told of a round may not have reached it as it was meant, where its version of the
    /// protocol does not say which round a rejection is about: [`Self::greet`] says it once more. Whether
    /// that is so.
    pub(crate) fn forget_greeting(&self, of: &Name) -> bool {
        match self.state().members.get_mut(of) {
            Some(member) if member.connection.version() < Version::LATEST => {
                member.greeted = None;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn offer(&self, blobs: impl IntoIterator<Item = Arc<[u8]>>) {
        let blobs = blobs.into_iter().map(|bytes| (Digest::of(&bytes), bytes));
        self.state().blobs = blobs.collect();
    }

    pub(crate) fn blob(&self, digest: Digest) -> Option<Arc<[u8]>> {
        self.state().blobs.get(&digest).cloned()
    }

    /// A client has fetched a blob to its end.
    pub(crate) fn has_fetched(&self, client: &Name, blob: Digest) {
        self.state().fetched.insert(client.clone(), blob);
    }

    /// Who has fetched one of these, and nothing since.
    pub(crate) fn who_fetched(&self, blobs: &BTreeSet<Digest>) -> Vec<Name> {
        let state = self.state();
        let fetched = state.fetched.iter();
        let fetched = fetched.filter(|(_, blob)| blobs.contains(blob));
        fetched.map(|(client, _)| client.clone()).collect()
    }

    pub(crate) fn open(&self, plan: Option<Arc<RoundPlan>>) {
        let mut state = self.state();
        // Where none follows yet, it may turn out that late ones are waited for.
        let follows = plan.is_some();
        state.plan = plan;
        if follows {
            state.sweep();
        }
    }

    pub(crate) fn leave_behind(&self, plan: Option<Arc<RoundPlan>>) {
        let mut state = self.state();
        state.before = plan;
        state.sweep();
    }

    /// What a contribution to this round has to be, if one may come.
    pub(crate) fn plan(&self, id: RoundId) -> Option<Arc<RoundPlan>> {
        let state = self.state();
        state.plans().find(|plan| plan.id == id).cloned()
    }

    /// Keeps what has come of a contribution whose transfer broke off, as long as its round may still have it.
    pub(crate) fn park(&self, client: &Name, id: RoundId, came: Assembler) {
        let mut state = self.state();
        if state.plans().any(|plan| plan.id == id) {
            state.parked.put(client, id, came);
        }
    }

    /// What has come of a contribution before.
    pub(crate) fn unpark(
        &self,
        client: &Name,
        id: RoundId,
        blob: Digest,
        bytes: u64,
    ) -> Option<Assembler> {
        self.state().parked.take(client, id, blob, bytes)
    }

    /// What lessons of the round that opens, or `goes_on` from its log, take uncoded.
    pub(crate) fn teach(&self, id: RoundId, lessons: Lessons, goes_on: bool) {
        self.state().books.open(id, lessons, goes_on);
    }

    /// Another process has had these clients' answers to these rounds.
    pub(crate) fn recall(&self, answers: impl Iterator<Item = (Name, RoundId)>) {
        let mut state = self.state();
        answers.for_each(|(client, id)| state.books.is_booked(&client, id));
    }

    /// A client fetches a lesson from this offset on, on a connection with this meter.
    pub(crate) fn fetched(&self, client: &Name, offset: u64, meter: &Meter) {
        self.state().books.fetched(client, offset, meter);
    }

    /// A client has answered a plan, on a connection with this meter.
    pub(crate) fn book(&self, client: &Name, plan: &RoundPlan, meter: &Meter) {
        let classes = self.manifest.classes.len() as u32;
        self.state().books.answered(client, plan, classes, meter);
    }

    /// What has crossed for each client that has been here.
    pub(crate) fn traffic(&self) -> BTreeMap<Name, Traffic> {
        let state = self.state();
        let members = state.members.iter();
        let open = members.map(|(name, member)| (name, traffic(&member.connection)));
        state.books.sum(open)
    }

    /// How many parameters each client's student has, where it says so.
    pub(crate) fn parameters(&self) -> BTreeMap<Name, u64> {
        self.state().parameters.clone()
    }

    /// What clients gave back before this process began.
    pub(crate) fn remember(&self, given: BTreeMap<Name, (Digest, Arc<[u8]>)>) {
        self.state().given = given;
    }

    pub(crate) fn remembered(&self) -> BTreeMap<Name, (Digest, Arc<[u8]>)> {
        self.state().given.clone()
    }

    /// What a client gave back last, if it is this.
    pub(crate) fn given(&self, client: &Name, blob: Digest) -> Option<Arc<[u8]>> {
        let state = self.state();
        let (digest, packed) = state.given.get(client)?;
        (*digest == blob).then(|| Arc::clone(packed))
    }

    pub(crate) fn gave(&self, client: &Name, blob: Digest, packed: Arc<[u8]>) {
        self.state().given.insert(client.clone(), (blob, packed));
    }
}

/// The frame of a message; one over its limit is a plan that the coordinator should not have made.
pub(crate) fn encode(message: &Message) -> Option<Arc<[u8]>> {
    match frame::encode(message) {
        Ok(bytes) => Some(bytes.into()),
        Err(error) => {
            tracing::error!("a message cannot be sent: {error}");
            None
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
