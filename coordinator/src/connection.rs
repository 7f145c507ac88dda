//! One client's connection, from its greeting to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_protocol::{Hello, Message, Name, ProtocolError, RejectReason, Rejected, Welcome};
use fedistill_transport::{
    CloseCode, Connection, Direction, FrameReader, FrameWriter, Frames, Metered, Payload, Peer,
    TransportError, blobs,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hub::{Arrival, Hub, Parting};
use crate::intake::Intake;
use crate::pulse::Pulse;

/// Longest wait for a client's first message.
const GREETING: Duration = Duration::from_secs(10);

/// Serves one client until its connection is over.
pub(crate) async fn serve(hub: Arc<Hub>, connection: Arc<dyn Connection>) {
    let Peer::Client { federation, name } = connection.peer().clone() else {
        return connection.close(CloseCode::NotWelcome, "only clients connect here");
    };
    let connection = Arc::new(Metered::new(connection, Arc::default()));
    match converse(&hub, &connection, &federation, &name).await {
        Ok(()) => {}
        Err(TransportError::Protocol(error)) => {
            tracing::warn!(client = %name, "closed: {error}");
            connection.close(CloseCode::Violation, &error.to_string());
        }
        // A stream that broke off says less than the connection's own reason.
        Err(error) => match connection.close_reason().unwrap_or(error) {
            TransportError::Closed {
                code: CloseCode::Done,
                ..
            } => tracing::info!(client = %name, "left"),
            TransportError::Closed {
                code: CloseCode::Outdated,
                why,
            } => tracing::warn!(client = %name, "takes no part: {why}"),
            error => {
                tracing::info!(client = %name, "gone: {error}");
                // One that lives and was only slow would wait for ever: nobody serves this connection any more.
                connection.close(CloseCode::Busy, &error.to_string());
            }
        },
    }
}

async fn converse(
    hub: &Arc<Hub>,
    connection: &Arc<Metered>,
    federation: &Name,
    name: &Name,
) -> Result<(), TransportError> {
    let late = |_| TransportError::Timeout("greeted");
    let stream = timeout(GREETING, connection.accept())
        .await
        .map_err(late)??;
    let Frames {
        mut writer,
        mut reader,
    } = Frames::new(stream, connection.version());
    let first = timeout(GREETING, reader.next()).await.map_err(late)??;
    let Some(Message::Hello(hello)) = first else {
        let why = "the first message is no Hello".to_owned();
        return Err(ProtocolError::BadPlan(why).into());
    };
    if let Err(rejected) = check(hub, federation, &hello) {
        tracing::warn!(client = %name, "not let in: {}", rejected.detail);
        writer.send(&rejected.into()).await?;
        // The client closes once it has read why; a silent one is cut off.
        let _ = timeout(GREETING, connection.closed()).await;
        connection.close(CloseCode::NotWelcome, "not welcome");
        return Ok(());
    }
    let welcome = Welcome {
        federation: hub.federation.clone(),
        transfer: hub.manifest.clone(),
        heartbeat_ms: hub.heartbeat_ms,
        epoch: hub.epoch.number,
        rolled_back: hub.epoch.rolled_back,
    };
    writer.send(&welcome.into()).await?;
    let software: String = hello
        .software
        .chars()
        .take(64)
        .filter(|c| !c.is_control())
        .collect();
    tracing::info!(client = %name, "connected with {software}");
    let (serial, messages) = hub.join(name, Arc::clone(connection), hello.parameters);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_all(writer, messages));
    tasks.spawn(offer(Arc::clone(hub), Arc::clone(connection), name.clone()));
    arrive(hub, Arrival::Joined(name.clone())).await;
    let result = tokio::select! {
        result = read_all(hub, connection, name, &mut reader) => result,
        error = connection.closed() => Err(error),
    };
    let parting = parting(&result, connection);
    if hub.leave(name, serial, parting) {
        arrive(hub, Arrival::Left(name.clone())).await;
    }
    result
}

/// How a conversation ended. What the connection says of it counts for more than a stream that broke off.
fn parting(result: &Result<(), TransportError>, connection: &Metered) -> Parting {
    let Err(error) = result else {
        return Parting::Meant;
    };
    match connection.close_reason().as_ref().unwrap_or(error) {
        TransportError::Closed { .. } | TransportError::Protocol(_) => Parting::Meant,
        _ => Parting::Lost,
    }
}

fn check(hub: &Hub, federation: &Name, hello: &Hello) -> Result<(), Rejected> {
    let ours = &hub.federation;
    if federation != ours || hello.federation != *ours {
        let asked = if federation == ours {
            &hello.federation
        } else {
            federation
        };
        let detail = format!(
            "this is federation {ours}, not {asked}: use a bundle of this federation, or dial its own coordinator"
        );
        return Err(Rejected::new(RejectReason::WrongFederation, detail));
    }
    if hello.classes != hub.manifest.classes {
        let list = |classes: &[String]| classes.join(", ").chars().take(300).collect::<String>();
        let detail = format!(
            "the federation's classes are {}; the client's are {}: make them the same, in the same order",
            list(&hub.manifest.classes),
            list(&hello.classes)
        );
        return Err(Rejected::new(RejectReason::WrongClasses, detail));
    }
    if hello.epoch > hub.epoch.number {
        let detail = format!(
            "this coordinator is of epoch {}, the client has seen one of epoch {}: another one runs, or this one's state is an old copy; if that is meant, start it with --epoch {}",
            hub.epoch.number,
            hello.epoch,
            hello.epoch.saturating_add(1)
        );
        return Err(Rejected::new(RejectReason::OldEpoch, detail));
    }
    Ok(())
}

pub(crate) fn pulse(hub: &Hub) -> Pulse {
    let silence = Duration::from_millis(hub.heartbeat_ms.into());
    Pulse::new(silence, Instant::now())
}

/// Something of a blob has crossed: the client is at work.
pub(crate) fn feel(hub: &Hub, pulse: &Pulse, name: &Name) {
    if pulse.is_felt(Instant::now()) {
        // Where nobody has the time to hear of it, the next chunk is as good.
        let _ = hub.arrivals.try_send(Arrival::Heartbeat(name.clone()));
    }
}

pub(crate) async fn arrive(hub: &Hub, arrival: Arrival) {
    // Nobody waits for arrivals once the coordinator stops.
    let _ = hub.arrivals.send(arrival).await;
}

async fn write_all(mut writer: FrameWriter, mut frames: mpsc::Receiver<Arc<[u8]>>) {
    while let Some(frame) = frames.recv().await {
        if writer.send_encoded(&frame).await.is_err() {
            return;
        }
    }
}

/// Lets the client fetch the transfer set and the knowledge of the open round.
async fn offer(hub: Arc<Hub>, connection: Arc<Metered>, name: Name) {
    let pulse = pulse(&hub);
    while let Ok(mut stream) = connection.accept().await {
        let give = async {
            let request = blobs::requested(&mut stream).await?;
            let blob = hub.blob(request.blob);
            let bytes: &[u8] = blob.as_deref().unwrap_or_default();
            let payload = match request.blob == hub.manifest.blob {
                true => Payload::TransferSet,
                false => Payload::Answers,
            };
            let meter = connection.meter();
            if payload == Payload::Answers && blob.is_some() {
                hub.fetched(&name, request.offset, meter);
            }
            let crossed = |bytes| {
                meter.carried(Direction::Sent, payload, bytes);
                feel(&hub, &pulse, &name);
            };
            blobs::send(&mut stream, bytes, request.offset, crossed).await?;
            if blob.is_some() && payload == Payload::Answers {
                hub.has_fetched(&name, request.blob);
            }
            Ok::<_, TransportError>(())
        };
        // On the heap, so that a client that fetches nothing takes no room for it.
        if let Err(error) = Box::pin(give).await {
            tracing::debug!("a blob was not taken: {error}");
        }
    }
}

async fn read_all(
    hub: &Arc<Hub>,
    connection: &Arc<Metered>,
    name: &Name,
    reader: &mut FrameReader,
) -> Result<(), TransportError> {
    let mut intake = Intake::default();
    while let Some(message) = reader.next().await? {
        match message {
            Message::Heartbeat(_) => arrive(hub, Arrival::Heartbeat(name.clone())).await,
            Message::Refusal(refusal) => {
                let (id, why) = (refusal.id, refusal.why);
                arrive(hub, Arrival::Refused(name.clone(), id, why)).await;
            }
            Message::Contribution(contribution) => {
                intake.take(hub, connection, name, contribution).await;
            }
            Message::Goodbye(_) => return Ok(()),
            other => {
                let kind = other.kind().name();
                let why = format!("a client sends no {kind}");
                return Err(ProtocolError::BadPlan(why).into());
            }
        }
    }
    Ok(())
}
