//! Fetches what a client announces.

use std::sync::Arc;

use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{
    Answers, Contribution, Digest, Name, ProtocolError, RejectReason, Rejected, RoundId, RoundPlan,
};
use fedistill_transport::{
    CloseCode, Connection, Direction, Metered, Payload, TransportError, blobs,
};
use tokio::task::JoinSet;

use crate::connection::{arrive, feel, pulse};
use crate::hub::{Arrival, Hub};

/// One contribution at a time, however many are announced.
#[derive(Default)]
pub(crate) struct Intake {
    /// What is fetched, or was fetched last.
    latest: Option<Contribution>,
    /// At most one task; it ends with the connection.
    fetch: JoinSet<()>,
}

impl Intake {
    /// Takes in an announcement. The same one again changes nothing while its fetch is under way;
    /// one for a newer round replaces it; another one for the same round waits for it, and the
    /// client's other messages wait with it.
    pub(crate) async fn take(
        &mut self,
        hub: &Arc<Hub>,
        connection: &Arc<Metered>,
        name: &Name,
        contribution: Contribution,
    ) {
        while self.fetch.try_join_next().is_some() {}
        let Contribution { id, blob, .. } = contribution;
        let Some(plan) = hub.plan(id) else {
            // The machine knows best what to say about a round that is not open.
            let arrival = Arrival::Contributed {
                client: name.clone(),
                id,
                blob,
                answers: None,
            };
            return arrive(hub, arrival).await;
        };
        if let Some(latest) = self.latest.filter(|_| !self.fetch.is_empty()) {
            if latest == contribution {
                return;
            }
            if latest.id != id {
                self.fetch.abort_all();
            }
            while self.fetch.join_next().await.is_some() {}
        }
        self.latest = Some(contribution);
        let collector = Collector {
            hub: Arc::clone(hub),
            connection: Arc::clone(connection),
            name: name.clone(),
            plan,
            contribution,
        };
        self.fetch.spawn(collector.collect());
    }
}

/// Fetches one contribution to a round that may still have it, and hands it on.
struct Collector {
    hub: Arc<Hub>,
    connection: Arc<Metered>,
    name: Name,
    plan: Arc<RoundPlan>,
    contribution: Contribution,
}

impl Collector {
    async fn collect(self) {
        let Self {
            hub,
            connection,
            name,
            ..
        } = &self;
        let Contribution { id, blob, .. } = self.contribution;
        match self.fetch().await {
            Ok(answers) => {
                hub.book(name, &self.plan, connection.meter());
                let arrival = Arrival::Contributed {
                    client: name.clone(),
                    id,
                    blob,
                    answers,
                };
                arrive(hub, arrival).await;
            }
            // Who is at work on the next round offers it no more.
            Err(error) if hub.plan(id).is_none() => {
                tracing::debug!(client = %name, "contribution to round {id}, which is over: {error}");
            }
            Err(error @ (TransportError::Protocol(_) | TransportError::NotOffered(_))) => {
                let detail = error.to_string().chars().take(300).collect();
                tracing::warn!(client = %name, "contribution to round {id} rejected: {detail}");
                hub.send(
                    name,
                    &Rejected::new(RejectReason::Malformed, detail)
                        .about(id)
                        .into(),
                );
                arrive(hub, Arrival::Malformed(name.clone(), id)).await;
            }
            // It comes again with the next connection, from where it stopped. A connection that lives would never bring
            // it: a client announces once on each.
            Err(error) => {
                tracing::info!(client = %name, "contribution to round {id} broke off: {error}");
                connection.close(CloseCode::Busy, "the contribution broke off: come again");
            }
        }
    }

    async fn fetch(&self) -> Result<Option<Answers>, TransportError> {
        let Self {
            hub, name, plan, ..
        } = self;
        let Contribution {
            blob,
            bytes,
            update,
            ..
        } = self.contribution;
        let classes = hub.manifest.classes.len() as u32;
        let most = plan
            .report
            .as_ref()
            .map_or(0, |report| report.most_bytes(classes));
        let longest = update.map_or(0, |update| update.bytes).max(bytes);
        if longest > most {
            return Err(TransportError::Protocol(ProtocolError::TooLong {
                what: "contribution",
                actual: longest,
                limit: most,
            }));
        }
        let Some(report) = &plan.report else {
            return Ok(None);
        };
        let rows = report.about.count(classes);
        let unpack = |bytes: &[u8]| Answers::unpack(bytes, report.kind, rows, report.width);
        // What this side holds need not come again; where it does not, or not as it should, all comes.
        let base = update.filter(|_| report.update).and_then(|update| {
            let packed = hub.given(name, update.base)?;
            Some((update, unpack(&packed).ok()?))
        });
        if let Some((update, base)) = base {
            let new = base.updated(&self.get(update.blob, update.bytes, most).await?);
            if let Ok(answers) = new
                && let Some(packed) = answers.packed_as(report.precision, blob)
            {
                hub.gave(name, blob, packed.into());
                return Ok(Some(answers));
            }
        }
        let packed = self.get(blob, bytes, most).await?;
        let answers = unpack(&packed)?;
        if report.update {
            hub.gave(name, blob, packed.into());
        }
        Ok(Some(answers))
    }

    /// Fetches a blob, from where an earlier connection stopped.
    async fn get(&self, blob: Digest, bytes: u64, most: u64) -> Result<Vec<u8>, TransportError> {
        let fresh = Assembler::new(blob, bytes, most)?;
        let (hub, name, id) = (&*self.hub, &self.name, self.contribution.id);
        let mut under_way = UnderWay {
            hub,
            name,
            id,
            assembler: Some(hub.unpark(name, id, blob, bytes).unwrap_or(fresh)),
        };
        let meter = self.connection.meter();
        let pulse = pulse(hub);
        let came = |bytes: &[u8]| {
            meter.carried(Direction::Received, Payload::Answers, bytes.len() as u64);
            feel(hub, &pulse, name);
        };
        if let Some(assembler) = &mut under_way.assembler {
            blobs::fetch(self.connection.as_ref(), blob, assembler, came).await?;
        }
        // It is there until it is taken.
        let whole = under_way.assembler.take().map(Assembler::finish);
        Ok(whole.transpose()?.unwrap_or_default())
    }
}

/// A blob under way: what has come of it is parked when it is dropped before its end.
struct UnderWay<'a> {
    hub: &'a Hub,
    name: &'a Name,
    id: RoundId,
    assembler: Option<Assembler>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(assembler) = self.assembler.take() {
            self.hub.park(self.name, self.id, assembler);
        }
    }
}
