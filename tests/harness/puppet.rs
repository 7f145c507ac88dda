use std::sync::Arc;

use fedistill_protocol::{Contribution, Digest, Hello, Message, Name, RoundId};
use fedistill_transport::{Connection, Dial, Frames, TransportError, blobs};

/// A client whose every word is in one's hand.
pub struct Puppet {
    /// Its conversation with the coordinator.
    pub connection: Arc<dyn Connection>,
    /// Its messages.
    pub frames: Frames,
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
        let mut frames = Frames::new(connection.open().await?, connection.version());
        let hello = Hello {
            federation,
            software: "puppet".to_owned(),
            classes,
            transfer: None,
            epoch: 0,
            parameters: 0,
        };
        frames.writer.send(&hello.into()).await?;
        Ok(Self { connection, frames })
    }

    /// What the coordinator says next.
    ///
    /// # Errors
    /// A conversation that is over.
    pub async fn next(&mut self) -> Result<Message, TransportError> {
        let message = self.frames.reader.next().await?;
        message.ok_or_else(hung_up)
    }

    /// Announces a contribution and lets the coordinator fetch it; what it says then.
    ///
    /// # Errors
    /// A conversation that is over.
    pub async fn contribute(
        &mut self,
        id: RoundId,
        packed: &[u8],
    ) -> Result<Message, TransportError> {
        let contribution = Contribution {
            id,
            blob: Digest::of(packed),
            bytes: packed.len() as u64,
            update: None,
        };
        self.frames.writer.send(&contribution.into()).await?;
        let serve = async {
            loop {
                let mut stream = self.connection.accept().await?;
                let request = blobs::requested(&mut stream).await?;
                // The other side may refuse in the middle.
                let _ = blobs::send(&mut stream, packed, request.offset, |_| ()).await;
            }
        };
        tokio::select! {
            message = self.frames.reader.next() => message?.ok_or_else(hung_up),
            broken = serve => broken,
        }
    }
}

fn hung_up() -> TransportError {
    TransportError::Lost("the coordinator hung up".to_owned())
}
