//! What crosses on a connection's streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fedistill_protocol::blob::Assembler;
use fedistill_protocol::{Digest, Message};
use fedistill_transport::{
    Connection, Direction, FrameReader, Meter, Payload, TransportError, blobs,
};
use tokio::sync::mpsc;

use crate::agent::{Blob, Input};
use crate::blob_folder::Part;
use crate::held::Unshared;
use crate::{BlobFolder, Blobs, Wanted};

/// The blobs that a client lets its coordinator fetch.
pub(super) type Shelf = Arc<Mutex<Vec<Blob>>>;

/// A message, and the bytes that had come until its end.
pub(super) type Heard = Box<Result<(Message, u64), TransportError>>;

/// Where blobs wait that broke off, one of each kind, so that the next connection goes on with them.
pub(super) type Parking = Arc<Mutex<HashMap<Payload, Assembler>>>;

/// A blob under way: what has come of it is parked when it is dropped before its end.
struct UnderWay {
    parking: Parking,
    payload: Payload,
    assembler: Option<Assembler>,
    /// Where it waits for the next process.
    part: Option<Part>,
}

impl UnderWay {
    /// Goes on with what is parked, if it is of this blob.
    fn new(
        parking: Parking,
        payload: Payload,
        blob: Digest,
        bytes: u64,
    ) -> Result<Self, TransportError> {
        let fresh = Assembler::new(blob, bytes, bytes)?;
        let parked = parking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&payload);
        let parked = parked.filter(|parked| (parked.digest(), parked.length()) == (blob, bytes));
        Ok(Self {
            parking,
            payload,
            assembler: Some(parked.unwrap_or(fresh)),
            part: None,
        })
    }

    /// Goes on with what an earlier process has got, and keeps what comes for the next one.
    fn kept_in(mut self, folder: Option<&BlobFolder>) -> Self {
        if let Some((folder, assembler)) = folder.zip(self.assembler.as_mut()) {
            match folder.part(assembler) {
                Ok(part) => self.part = Some(part),
                Err(error) => {
                    tracing::debug!("what comes is not kept for the next start: {error}");
                }
            }
        }
        self
    }

    async fn fetch(
        mut self,
        connection: &dyn Connection,
        mut came: impl FnMut(&[u8]) + Send,
    ) -> Result<Vec<u8>, TransportError> {
        if let Some(assembler) = &mut self.assembler {
            let blob = assembler.digest();
            let part = &mut self.part;
            let came = |bytes: &[u8]| {
                if let Some(part) = part.as_mut() {
                    part.push(bytes);
                }
                came(bytes);
            };
            blobs::fetch(connection, blob, assembler, came).await?;
        }
        // It is there until it is taken.
        let whole = self.assembler.take().map(Assembler::finish).transpose();
        let resumed = self.part.as_ref().is_some_and(Part::is_resumed);
        if whole.is_err()
            && let Some(part) = self.part.take()
        {
            part.remove();
        }
        match whole {
            // Who has sent the rest of it is not to blame.
            Err(error) if resumed => Err(TransportError::Lost(format!(
                "what an earlier process has left of a blob cannot be used: {error}"
            ))),
            whole => Ok(whole?.unwrap_or_default()),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(assembler) = self.assembler.take() {
            let mut parking = self.parking.lock().unwrap_or_else(PoisonError::into_inner);
            parking.insert(self.payload, assembler);
        }
    }
}

/// A blob that is to be fetched.
pub(super) struct Errand {
    pub(super) blob: Digest,
    pub(super) bytes: u64,
    pub(super) wanted: Option<Wanted>,
    pub(super) shared: Option<Arc<Blobs>>,
    pub(super) parking: Parking,
    pub(super) folder: Option<Arc<BlobFolder>>,
    pub(super) meter: Arc<Meter>,
}

/// Hands on each message.
pub(super) async fn read_all(
    mut reader: FrameReader,
    meter: Arc<Meter>,
    frames: mpsc::Sender<Heard>,
) {
    while let Some(next) = reader.next().await.transpose() {
        let failed = next.is_err();
        let next = next.map(|message| (message, meter.received()));
        if frames.send(Box::new(next)).await.is_err() || failed {
            return;
        }
    }
}

/// Lets the coordinator fetch what is offered, and nothing else.
pub(super) async fn serve(connection: Arc<dyn Connection>, shelf: Shelf, meter: Arc<Meter>) {
    while let Ok(mut stream) = connection.accept().await {
        let give = async {
            let request = blobs::requested(&mut stream).await?;
            let offered = shelf.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let found = offered.iter().find(|(blob, _)| *blob == request.blob);
            let bytes: &[u8] = found.map_or(&[], |(_, bytes)| bytes);
            let crossed = |bytes| meter.carried(Direction::Sent, Payload::Answers, bytes);
            blobs::send(&mut stream, bytes, request.offset, crossed).await
        };
        // On the heap, so that a client that gives nothing takes no room for it.
        if let Err(error) = Box::pin(give).await {
            tracing::warn!("a contribution was not taken: {error}");
        }
    }
}

impl Errand {
    /// What the agent is to hear of the blob: from disk, from another client of this process, or from the
    /// coordinator.
    pub(super) async fn run(self, connection: &dyn Connection) -> Result<Input, TransportError> {
        let Self {
            blob,
            bytes,
            wanted,
            shared,
            parking,
            folder,
            meter,
        } = self;
        let payload = match wanted {
            Some(Wanted::Transfer) => Payload::TransferSet,
            _ => Payload::Answers,
        };
        // The only one that comes again to a process that begins anew.
        let folder = folder.filter(|_| payload == Payload::TransferSet);
        if let Some(held) = folder.as_ref().and_then(|folder| folder.get(blob, bytes)) {
            return Ok(Input::Fetched(blob, held));
        }
        let crossed = |bytes| meter.carried(Direction::Received, payload, bytes);
        let fetch = async {
            let under_way = UnderWay::new(parking, payload, blob, bytes)?;
            let under_way = under_way.kept_in(folder.as_deref());
            let came = |bytes: &[u8]| crossed(bytes.len() as u64);
            let got = under_way.fetch(connection, came).await?;
            if let Some(Err(error)) = folder.map(|folder| folder.put(blob, &got)) {
                tracing::warn!("the transfer set is not kept for the next start: {error}");
            }
            Ok::<_, TransportError>(got)
        };
        let Some((others, wanted)) = shared.zip(wanted) else {
            return Ok(Input::Fetched(blob, fetch.await?));
        };
        if let Some(turns) = &others.turns {
            // Nobody closes it; without a turn a client would but fetch with one more beside it.
            let _turn = turns.acquire().await;
            let bytes = fetch.await?;
            return match others.get(blob, wanted, async { Ok(bytes) }).await {
                Ok((held, _)) => Ok(Input::Held(blob, held)),
                Err(Unshared::Bytes(bytes)) => Ok(Input::Fetched(blob, bytes)),
                Err(Unshared::Transport(error)) => Err(error),
            };
        }
        match others.get(blob, wanted, fetch).await {
            Ok((held, true)) => Ok(Input::Held(blob, held)),
            Ok((held, false)) => {
                let (up, down) = blobs::crossing(bytes);
                meter.spared(Direction::Sent, up);
                meter.spared(Direction::Received, down);
                crossed(bytes);
                Ok(Input::Held(blob, held))
            }
            Err(Unshared::Bytes(bytes)) => Ok(Input::Fetched(blob, bytes)),
            Err(Unshared::Transport(error)) => Err(error),
        }
    }
}
