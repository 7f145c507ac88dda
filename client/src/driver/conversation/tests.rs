use std::path::Path;

use fedistill_learning::{Architecture, Dataset, Learner, Samples};
use fedistill_protocol::{Elements, Name, TransferManifest, Welcome};
use fedistill_transport::memory::{Door, MemoryListener};
use fedistill_transport::{Listen, Peer, memory};

use super::*;
use crate::Policy;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn client(door: &Door) -> Client {
    let labels = vec![0, 1];
    let samples = Samples::new(vec![4], Elements::U8(vec![7; 8])).unwrap();
    let classes = vec!["well".to_owned(), "ill".to_owned()];
    let data = Dataset::new(Path::new("data"), samples, labels, classes).unwrap();
    let student = Learner::new(Architecture::MlpS.build(&[4], 2, 1).unwrap());
    let (clinic, ward) = (name("clinic"), name("ward-1"));
    let dialer = door.dialer(Peer::Client {
        federation: clinic.clone(),
        name: ward.clone(),
    });
    let transfer = Samples::new(vec![4], Elements::U8(vec![7; 4])).unwrap();
    Client::new(clinic, ward, student, data, Policy::default(), dialer)
        .unwrap()
        .holding(Digest::of(b"set"), Arc::new(transfer))
}

fn welcome() -> Welcome {
    Welcome {
        federation: name("clinic"),
        transfer: TransferManifest {
            blob: Digest::of(b"set"),
            bytes: 3,
            samples: 1,
            shape: vec![4],
            classes: vec!["well".to_owned(), "ill".to_owned()],
        },
        heartbeat_ms: 1000,
        epoch: 1,
        rolled_back: 0,
    }
}

/// Takes a client's greeting, and leaves it at that.
async fn greeted(listener: &MemoryListener) -> (Arc<dyn Connection>, Frames) {
    let connection = listener.accept().await.unwrap();
    let stream = connection.accept().await.unwrap();
    let mut frames = Frames::new(stream, connection.version());
    let hello = frames.reader.next().await.unwrap();
    assert!(matches!(hello, Some(Message::Hello(_))));
    (connection, frames)
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_welcomed_comes_back() {
    let (listener, door) = memory::listen();
    let (events, mut happened) = mpsc::unbounded_channel();
    let life = tokio::spawn(client(&door).events(events).run());
    let begun = Instant::now();
    let (first, _silent) = greeted(&listener).await;
    timeout(GREETING * 3, first.closed()).await.unwrap();
    let waited = begun.elapsed();
    assert!((GREETING..GREETING * 2).contains(&waited), "{waited:?}");
    let why = loop {
        if let Event::Lost { why, .. } = happened.recv().await.unwrap() {
            break why;
        }
    };
    assert!(why.contains("answered to a greeting"), "{why}");
    // Whoever is welcomed waits for as long as there is nothing to do.
    let (second, mut frames) = greeted(&listener).await;
    frames.writer.send(&welcome().into()).await.unwrap();
    let still = timeout(GREETING * 10, second.closed()).await;
    assert!(still.is_err(), "{still:?}");
    life.abort();
}
