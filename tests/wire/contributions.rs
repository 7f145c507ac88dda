//! Contributions that are not what they should be, or do not come as they should.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedistill_coordinator::{Observer, Settings};
use fedistill_protocol::{Contribution, Digest, Message, Name, Refusal, RejectReason, RoundId};
use fedistill_tests::clinic::{classes, name};
use fedistill_transport::{CloseCode, Frames, TransportError, blobs};
use tokio::io::AsyncWriteExt;

use crate::puppet::{Puppet, rejection};
use crate::{ROWS, Run, coordinator, enter, patient, said, settings};

/// Whose contributions the machine has refused, and why.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<Vec<(Name, RejectReason)>>>);

impl Observer for Refused {
    fn refused(&mut self, client: &Name, reason: RejectReason) {
        self.0.lock().unwrap().push((client.clone(), reason));
    }
}

#[tokio::test]
async fn contributions_that_cannot_be_used_are_rejected_and_the_round_goes_on() {
    let refused = Refused::default();
    let coordinator = coordinator(patient(3)).unwrap();
    let (_run, door) = Run::of(coordinator.observed_by(refused.clone()));
    // As long as one is at work, the round stays open.
    let ([mut good, mut bad, _slow], id) = enter(&door, ["good", "bad", "slow"]).await;
    let fair = said([0.5; 2], ROWS);
    let length = fair.len() as u64;

    // The wrong round: it is not even fetched.
    let other = RoundId {
        round: 4,
        attempt: 0,
    };
    let (reason, detail) = rejection(bad.contribute(other, length, fair.clone()).await);
    assert_eq!(reason, RejectReason::WrongRound);
    assert!(detail.contains("4.0") && detail.contains("0.0"), "{detail}");

    // The wrong shape: a row too few.
    let short = fair[..fair.len() - 8].to_vec();
    let (reason, detail) = rejection(bad.contribute(id, length - 8, short).await);
    assert_eq!(reason, RejectReason::Malformed);
    let sizes = [length - 8, length].map(|bytes| bytes.to_string());
    assert!(sizes.iter().all(|size| detail.contains(size)), "{detail}");

    // No number.
    let mut nan = fair.clone();
    let last = nan.len() - 4;
    nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let (reason, detail) = rejection(bad.contribute(id, length, nan).await);
    assert_eq!(reason, RejectReason::Malformed);
    assert!(detail.contains("finite"), "{detail}");

    // Sent twice: the same answer twice; another one for the same round is rejected.
    let first = good.contribute(id, length, fair.clone()).await;
    assert!(matches!(first, Message::Receipt(_)), "{first:?}");
    let Message::Receipt(receipt) = good.contribute(id, length, fair.clone()).await else {
        panic!("no receipt");
    };
    assert_eq!((receipt.id, receipt.blob), (id, Digest::of(&fair)));
    let changed = said([0.25; 2], ROWS);
    let (_, detail) = rejection(good.contribute(id, length, changed).await);
    assert!(
        detail.contains("already") || detail.contains("another"),
        "{detail}"
    );

    // What the round itself has refused is counted.
    let counted = refused.0.lock().unwrap().clone();
    let expected = [
        (name("bad"), RejectReason::WrongRound),
        (name("good"), RejectReason::Conflict),
    ];
    assert_eq!(counted, expected);

    // One that was refused may mend its ways while the round is open.
    let mended = bad.contribute(id, length, fair).await;
    assert!(matches!(mended, Message::Receipt(_)), "{mended:?}");
}

/// It says nothing for longer than clients at work may be silent, but its answers come, piece by piece.
#[tokio::test]
async fn who_gives_back_slowly_is_waited_for_as_long_as_something_comes() {
    let coordinator = coordinator(Settings {
        silence: Duration::from_millis(1500),
        ..patient(2)
    });
    let (_run, door) = Run::of(coordinator.unwrap());
    let ([mut quick, mut slow], id) = enter(&door, ["quick", "slow"]).await;
    let fair = said([0.5; 2], ROWS);
    let (blob, bytes) = (Digest::of(&fair), fair.len() as u64);
    let receipt = quick.contribute(id, bytes, fair.clone()).await;
    assert!(matches!(receipt, Message::Receipt(_)), "{receipt:?}");
    let update = None;
    let contribution = Contribution {
        id,
        blob,
        bytes,
        update,
    };
    let announcement = contribution.into();
    slow.frames.writer.send(&announcement).await.unwrap();
    let mut stream = slow.connection.accept().await.unwrap();
    assert_eq!(blobs::requested(&mut stream).await.unwrap().offset, 0);
    let pieces = fair.chunks(fair.len().div_ceil(16));
    let mut offset = 0u64;
    for piece in pieces {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let header = [
            offset.to_le_bytes().as_slice(),
            &(piece.len() as u32).to_le_bytes(),
        ]
        .concat();
        stream.0.write_all(&header).await.unwrap();
        stream.0.write_all(piece).await.unwrap();
        offset += piece.len() as u64;
    }
    assert!(matches!(slow.next().await, Message::Receipt(_)));
}

#[tokio::test]
async fn of_thousands_of_announcements_one_is_fetched_at_a_time() {
    let (_run, door) = Run::of(coordinator(patient(2)).unwrap());
    let ([mut good, flood], id) = enter(&door, ["good", "flood"]).await;
    let fair = said([0.5; 2], ROWS);
    let bytes = fair.len() as u64;
    let Puppet { connection, frames } = flood;
    let Frames { mut writer, reader } = frames;
    let announcing = tokio::spawn(async move {
        for number in 0..5_000u32 {
            let blob = Digest::of(&number.to_le_bytes());
            let contribution = Contribution {
                id,
                blob,
                bytes,
                update: None,
            };
            // The same one twice, then another: the coordinator lets them wait where they are.
            for _ in 0..2 {
                writer.send(&contribution.into()).await.unwrap();
            }
        }
    });
    // Streams that are held and not served: one is asked for, and no more.
    let _first = connection.accept().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(300), connection.accept()).await;
    assert!(second.is_err(), "two contributions are fetched at a time");
    // Nobody else is held up.
    let receipt = good.contribute(id, bytes, fair).await;
    assert!(matches!(receipt, Message::Receipt(_)), "{receipt:?}");
    announcing.abort();
    drop(reader);
}

#[tokio::test]
async fn a_round_that_nobody_would_take_part_in_says_why() {
    let (mut run, door) = Run::of(coordinator(settings()).unwrap());
    let ([mut shy], id) = enter(&door, ["shy"]).await;
    let why = "more passes than its policy allows".to_owned();
    let refusal = Refusal { id, why };
    shy.frames.writer.send(&refusal.into()).await.unwrap();
    let error = (&mut run.0).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("shy: more passes than"), "{error}");
}

#[tokio::test]
async fn a_contribution_that_broke_off_comes_again_from_where_it_stopped() {
    let (_run, door) = Run::of(coordinator(patient(2)).unwrap());
    let ([_slow, first], id) = enter(&door, ["slow", "ward-1"]).await;
    let fair = said([0.5; 2], ROWS);
    let contribution = Contribution {
        id,
        blob: Digest::of(&fair),
        bytes: fair.len() as u64,
        update: None,
    };
    const CAME: usize = 10;
    let mut puppet = first;
    let mut offsets = Vec::new();
    for came in [0, CAME, fair.len()] {
        let announcement = contribution.into();
        puppet.frames.writer.send(&announcement).await.unwrap();
        let mut stream = puppet.connection.accept().await.unwrap();
        let offset = blobs::requested(&mut stream).await.unwrap().offset;
        offsets.push(offset);
        if came == fair.len() {
            blobs::send(&mut stream, &fair, offset, |_| ())
                .await
                .unwrap();
            break;
        }
        // A header, and not all that it speaks of: the line is well, and the transfer is not.
        let header = [
            0u64.to_le_bytes().as_slice(),
            &(fair.len() as u32).to_le_bytes(),
        ]
        .concat();
        stream.0.write_all(&header).await.unwrap();
        stream.0.write_all(&fair[..came]).await.unwrap();
        drop(stream);
        // Nobody would ask again on this connection: it is ended, so that the client comes back.
        let closed = puppet.connection.closed().await;
        assert!(
            matches!(
                &closed,
                TransportError::Closed {
                    code: CloseCode::Busy,
                    ..
                }
            ),
            "{closed:?}"
        );
        puppet = Puppet::connect(&door, "ward-1", classes()).await;
        assert!(matches!(puppet.next().await, Message::Welcome(_)));
        assert!(matches!(puppet.next().await, Message::Plan(_)));
    }
    assert_eq!(offsets, [0, 0, CAME as u64]);
    assert!(matches!(puppet.next().await, Message::Receipt(_)));
}
