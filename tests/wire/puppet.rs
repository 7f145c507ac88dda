//! Clients as a test has them speak.

use std::sync::Arc;

use fedistill_protocol::{Contribution, Digest, Hello, Message, RejectReason, RoundId};
use fedistill_tests::clinic::name;
use fedistill_transport::memory::Door;
use fedistill_transport::{Connection, Dial, Frames, Peer, blobs};

/// A client whose every word is in the test's hand.
pub(crate) struct Puppet {
    pub(crate) connection: Arc<dyn Connection>,
    pub(crate) frames: Frames,
}

impl Puppet {
    pub(crate) async fn connect(door: &Door, own: &str, classes: Vec<String>) -> Self {
        let peer = Peer::Client {
            federation: name("clinic"),
            name: name(own),
        };
        let connection = door.dialer(peer).dial().await.unwrap();
        let mut frames = Frames::new(connection.open().await.unwrap(), connection.version());
        let hello = Hello {
            federation: name("clinic"),
            software: "puppet".to_owned(),
            classes,
            transfer: None,
            epoch: 0,
            parameters: 0,
        };
        frames.writer.send(&hello.into()).await.unwrap();
        Self { connection, frames }
    }

    pub(crate) async fn next(&mut self) -> Message {
        self.frames.reader.next().await.unwrap().unwrap()
    }

    /// Announces a contribution, and lets the coordinator fetch these bytes for it.
    pub(crate) async fn contribute(
        &mut self,
        id: RoundId,
        announced: u64,
        bytes: Vec<u8>,
    ) -> Message {
        let contribution = Contribution {
            id,
            blob: Digest::of(&bytes),
            bytes: announced,
            update: None,
        };
        self.frames.writer.send(&contribution.into()).await.unwrap();
        let served = async {
            let mut stream = self.connection.accept().await.unwrap();
            let request = blobs::requested(&mut stream).await.unwrap();
            // The other side may refuse in the middle.
            let _ = blobs::send(&mut stream, &bytes, request.offset, |_| ()).await;
            std::future::pending().await
        };
        tokio::select! {
            message = self.frames.reader.next() => message.unwrap().unwrap(),
            () = served => unreachable!(),
        }
    }
}

pub(crate) fn rejection(message: Message) -> (RejectReason, String) {
    match message {
        Message::Rejected(rejected) => (rejected.reason, rejected.detail),
        other => panic!("no rejection: {other:?}"),
    }
}
