use std::sync::{Arc, Mutex, PoisonError};

use fedistill_protocol::{Contribution, Digest, Hello, Message, Name, RoundId};
use fedistill_transport::{
    Connection, Dial, FrameReader, FrameWriter, Frames, TransportError, blobs,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A client whose every word is in one's hand.
pub struct Puppet {
    /// Its conversation with the coordinator.
    pub connection: Arc<dyn Connection>,
    /// Its own messages.
    pub writer: FrameWriter,
    messages: mpsc::UnboundedReceiver<Message>,
    /// What the coordinator may fetch.
    shelf: Arc<Mutex<Arc<[u8]>>>,
    /// They end with it.
    _tasks: JoinSet<()>,
}

impl Puppet {
    /// Connects, and introduces itself as one of this federation.
    ///
    /// # Errors
    /// What dialling and sending report.
    pub async fn connect(
        dial: &dyn Dial,
        federation: Name,
        classes: Vec<String>,
    ) -> Result<Self, TransportError> {
        let connection = dial.dial().await?;
        let Frames { mut writer, reader } =
            Frames::new(connection.open().await?, connection.version());
        let hello = Hello {
            federation,
            software: "puppet".to_owned(),
            classes,
            transfer: None,
            epoch: 0,
            parameters: 0,
        };
        writer.send(&hello.into()).await?;
        let (heard, messages) = mpsc::unbounded_channel();
        let shelf = Arc::new(Mutex::new(Arc::from([])));
        let mut tasks = JoinSet::new();
        tasks.spawn(hear(reader, heard));
        tasks.spawn(serve(Arc::clone(&connection), Arc::clone(&shelf)));
        Ok(Self {
            connection,
            writer,
            messages,
            shelf,
            _tasks: tasks,
        })
    }

    /// What the coordinator says next; `None` once the conversation is over. Nothing is lost where this is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Announces a contribution, and lets the coordinator fetch it.
    ///
    /// # Errors
    /// A conversation that is over.
    pub async fn contribute(
        &mut self,
        id: RoundId,
        packed: &Arc<[u8]>,
    ) -> Result<(), TransportError> {
        *self.shelf.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(packed);
        let contribution = Contribution {
            id,
            blob: Digest::of(packed),
            bytes: packed.len() as u64,
            update: None,
        };
        self.writer.send(&contribution.into()).await
    }
}

async fn hear(mut reader: FrameReader, heard: mpsc::UnboundedSender<Message>) {
    while let Ok(Some(message)) = reader.next().await {
        if heard.send(message).is_err() {
            return;
        }
    }
}

async fn serve(connection: Arc<dyn Connection>, shelf: Arc<Mutex<Arc<[u8]>>>) {
    while let Ok(mut stream) = connection.accept().await {
        let give = async {
            let request = blobs::requested(&mut stream).await?;
            let offered = Arc::clone(&*shelf.lock().unwrap_or_else(PoisonError::into_inner));
            blobs::send(&mut stream, &offered, request.offset, |_| ()).await
        };
        // The other side may refuse in the middle.
        let _ = give.await;
    }
}
