//! Clients that meet coordinators which break the rules, over the in-memory transport.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use fedistill_client::{ClientError, Ended, Event};
use fedistill_protocol::{
    Digest, Loss, LossTerm, Message, RoundId, RoundPlan, Rows, Toward, Welcome, frame,
};
use fedistill_tests::clinic::{self, classes, transfer, ward};
use fedistill_transport::memory::{self, MemoryListener};
use fedistill_transport::{Frames, Listen, TransportError, blobs};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// A client of ours that meets a coordinator of the test's making.
async fn meet(classes: Vec<String>, welcome: Welcome, set: Vec<u8>) -> Result<String, ClientError> {
    let (listener, door) = memory::listen();
    let (events, mut heard) = mpsc::unbounded_channel();
    let client = ward(&door, classes).events(events);
    let lost = async {
        while let Some(event) = heard.recv().await {
            if let Event::Lost { why, .. } = event {
                return why;
            }
        }
        String::new()
    };
    tokio::select! {
        ended = client.run() => ended.map(|ended| format!("{ended:?}")),
        why = lost => Ok(why),
        () = deceive(listener, welcome, set) => unreachable!(),
    }
}

/// A client of ours whose coordinator goes on, after it has let it in, with these bytes; with how the
/// client ends, and what it says as it closes.
async fn meet_frame(frame: Vec<u8>) -> (Result<Ended, ClientError>, TransportError) {
    let (listener, door) = memory::listen();
    let send = async move {
        let connection = listener.accept().await.unwrap();
        let mut frames = Frames::new(connection.accept().await.unwrap(), connection.version());
        assert!(frames.reader.next().await.unwrap().is_some());
        frames.writer.send(&welcome().into()).await.unwrap();
        frames.writer.send_encoded(&frame).await.unwrap();
        connection.closed().await
    };
    let client = ward(&door, classes());
    let both = async { tokio::join!(client.run(), send) };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap_or_else(|_| panic!("a client that cannot read a plan goes on for ever"))
}

async fn deceive(listener: MemoryListener, welcome: Welcome, set: Vec<u8>) {
    let connection = listener.accept().await.unwrap();
    let mut frames = Frames::new(connection.accept().await.unwrap(), connection.version());
    assert!(matches!(
        frames.reader.next().await,
        Ok(Some(Message::Hello(_)))
    ));
    let plan = of_samples(0, welcome.transfer.blob);
    frames.writer.send(&welcome.into()).await.unwrap();
    frames.writer.send(&plan.into()).await.unwrap();
    let mut stream = connection.accept().await.unwrap();
    let request = blobs::requested(&mut stream).await.unwrap();
    let _ = blobs::send(&mut stream, &set, request.offset, |_| ()).await;
    std::future::pending().await
}

fn welcome() -> Welcome {
    clinic::welcome(&transfer())
}

#[tokio::test]
async fn a_transfer_set_of_another_digest_is_refused() {
    let mut set = transfer().pack();
    let last = set.len() - 1;
    set[last] ^= 1;
    let why = meet(classes(), welcome(), set).await.unwrap();
    assert!(why.contains("digest"), "{why}");
}

#[tokio::test]
async fn a_federation_of_other_classes_or_samples_is_left() {
    let mut other = welcome();
    other.transfer.classes.reverse();
    let error = meet(classes(), other, Vec::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("classes") && error.contains("same order"),
        "{error}"
    );
    let mut other = welcome();
    other.transfer.shape = vec![2, 2];
    let error = meet(classes(), other, Vec::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("[2, 2]") && error.contains("[4]"), "{error}");
}

/// A plan of a round that asks about all samples of this transfer set.
fn of_samples(round: u32, transfer: Digest) -> RoundPlan {
    let samples = welcome().transfer.samples;
    let rows = Rows::Range {
        start: 0,
        count: samples,
    };
    RoundPlan {
        id: RoundId { round, attempt: 0 },
        transfer,
        report: Some(clinic::report(rows)),
        ..plan_with(Loss::L1)
    }
}

/// A plan of private samples alone, with one loss.
fn plan_with(loss: Loss) -> RoundPlan {
    let transfer = welcome().transfer.blob;
    clinic::plan(transfer, LossTerm::new(loss, Toward::Before))
}

#[tokio::test]
async fn a_loss_that_a_client_does_not_know_ends_it_with_its_number() {
    // Losses without parameters are a number alone: another one takes its place.
    let frame = |loss| frame::encode(&plan_with(loss).into()).unwrap();
    let (one, other) = (frame(Loss::L1), frame(Loss::Mse));
    let differ = |at: &usize| one[*at] != other[*at];
    let places: Vec<usize> = (0..one.len()).filter(differ).collect();
    let [at] = places[..] else {
        panic!("the loss is not in one place: {places:?}");
    };
    let mut frame = one;
    frame[at] = 77;
    let (ended, heard) = meet_frame(frame).await;
    let error = ended.unwrap_err();
    assert!(matches!(error, ClientError::Unfit(_)), "{error:?}");
    for text in [error.to_string(), heard.to_string()] {
        assert!(
            text.contains("Plan names Loss number 77") && text.contains("update this side"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn of_thousands_of_transfer_sets_a_client_fetches_one_at_a_time() {
    let (listener, door) = memory::listen();
    let deceive = async move {
        let connection = listener.accept().await.unwrap();
        let mut frames = Frames::new(connection.accept().await.unwrap(), connection.version());
        assert!(frames.reader.next().await.unwrap().is_some());
        let mut streams = Vec::new();
        for number in 0..1_000u32 {
            let mut other = welcome();
            other.transfer.blob = Digest::of(&number.to_le_bytes());
            let plan = of_samples(number, other.transfer.blob);
            frames.writer.send(&other.into()).await.unwrap();
            frames.writer.send(&plan.into()).await.unwrap();
            streams.push(connection.accept().await.unwrap());
        }
        // A request that was given up ends before its first chunk is taken.
        let mut open = 0;
        for stream in &mut streams {
            open += usize::from(stream.0.write_all(&[0]).await.is_ok());
        }
        open
    };
    tokio::select! {
        ended = ward(&door, classes()).run() => panic!("{ended:?}"),
        open = deceive => assert!(open <= 2, "{open} transfer sets are fetched at a time"),
    }
}
