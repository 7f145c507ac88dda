//! Who is let in, who is turned away, and who is not waited for.

use std::sync::Arc;
use std::time::Duration;

use fedistill_client::Event;
use fedistill_coordinator::Settings;
use fedistill_federation::Quorum;
use fedistill_protocol::{Hello, RejectReason};
use fedistill_tests::clinic::{classes, name, ward};
use fedistill_transport::{CloseCode, Dial, Frames, Peer, TransportError, memory};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::puppet::{Puppet, rejection};
use crate::{Run, coordinator, settings};

/// In a storm of clients a first message may come late: who keeps its connection up has to hear that nobody
/// waits for it any more, or it would wait for ever.
#[tokio::test]
async fn who_does_not_greet_in_time_is_told_to_come_again() {
    let (_run, door) = Run::of(coordinator(settings()).unwrap());
    let peer = Peer::Client {
        federation: name("clinic"),
        name: name("late"),
    };
    let connection = door.dialer(peer).dial().await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), connection.closed());
    let end = end.await.unwrap();
    let is_busy = |end: &TransportError| {
        matches!(
            end,
            TransportError::Closed {
                code: CloseCode::Busy,
                ..
            }
        )
    };
    assert!(is_busy(&end), "{end}");
}

#[tokio::test]
async fn a_client_that_another_replaces_keeps_away_for_long() {
    let coordinator = coordinator(Settings {
        open_with: 2,
        ..settings()
    });
    let (_run, door) = Run::of(coordinator.unwrap());
    let (events, mut heard) = mpsc::unbounded_channel();
    let client = ward(&door, classes()).events(events);
    let replaced = async {
        let connected = heard.recv().await;
        assert!(
            matches!(connected, Some(Event::Connected { .. })),
            "{connected:?}"
        );
        let _other = Puppet::connect(&door, "ward-1", classes()).await;
        loop {
            match heard.recv().await.unwrap() {
                Event::Lost { why, again } => break (why, again),
                _ => continue,
            }
        }
    };
    tokio::select! {
        ended = client.run() => panic!("{ended:?}"),
        (why, again) = replaced => {
            assert!(why.contains("ward-1") && why.contains("bundle"), "{why}");
            assert!(again >= Duration::from_secs(300), "{again:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_client_of_this_federation_is_turned_away() {
    let (_run, door) = Run::of(coordinator(settings()).unwrap());
    let swapped = classes().into_iter().rev().collect();
    let mut puppet = Puppet::connect(&door, "swapped", swapped).await;
    let (reason, detail) = rejection(puppet.next().await);
    assert_eq!(reason, RejectReason::WrongClasses);
    assert!(
        detail.contains("well, ill") && detail.contains("ill, well"),
        "{detail}"
    );
    let stranger = Peer::Client {
        federation: name("bank"),
        name: name("ward-1"),
    };
    let connection = door.dialer(stranger).dial().await.unwrap();
    let mut frames = Frames::new(connection.open().await.unwrap(), connection.version());
    let hello = Hello {
        federation: name("bank"),
        software: String::new(),
        classes: classes(),
        transfer: None,
        epoch: 0,
        parameters: 0,
    };
    frames.writer.send(&hello.into()).await.unwrap();
    let (reason, detail) = rejection(frames.reader.next().await.unwrap().unwrap());
    assert_eq!(reason, RejectReason::WrongFederation);
    assert!(
        detail.contains("clinic") && detail.contains("bank"),
        "{detail}"
    );
}

#[tokio::test]
async fn too_few_clients_for_too_long_end_the_run() {
    let (listener, door) = memory::listen();
    let lonely = coordinator(Settings {
        open_with: 2,
        patience: Some(Duration::from_millis(50)),
        ..settings()
    })
    .unwrap();
    let _one = Puppet::connect(&door, "alone", classes()).await;
    let error = lonely
        .run(Arc::new(listener), CancellationToken::new())
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("of the 2 clients") && error.contains("start more"),
        "{error}"
    );
    let quorum = Quorum::new(3, 3, Duration::ZERO, Duration::from_secs(1)).unwrap();
    let settings = Settings {
        quorum,
        ..settings()
    };
    let error = coordinator(settings);
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("round.least") && error.contains("only 2"),
        "{error}"
    );
}
