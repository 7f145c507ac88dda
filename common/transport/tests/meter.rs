//! What a meter tells apart is what was sent: held against lengths that do not come from it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use fedistill_protocol::blob::{Assembler, CHUNK_BYTES, CHUNK_HEADER_BYTES, REQUEST_BYTES};
use fedistill_protocol::{Digest, Heartbeat, Message, RoundId, Version, frame};
use fedistill_transport::{
    Connection, Dial, Direction, Frames, Listen, Meter, Metered, Payload, Peer, blobs, memory,
};

struct Ends {
    near: Metered,
    far: Arc<dyn Connection>,
}

async fn ends() -> Ends {
    let (listener, door) = memory::listen();
    let peer = Peer::Client {
        federation: "clinic".parse().unwrap(),
        name: "ward-7".parse().unwrap(),
    };
    let near = door.dialer(peer).dial().await.unwrap();
    let far = listener.accept().await.unwrap();
    Ends {
        near: Metered::new(near, Arc::default()),
        far,
    }
}

/// Fetches so many bytes from the other end, of which some cross before the stream breaks off.
async fn fetch(ends: &Ends, payload: Payload, length: usize, breaks: Option<usize>) {
    let bytes: Vec<u8> = (0..length).map(|at| ((at * 31) >> 3) as u8).collect();
    let blob = Digest::of(&bytes);
    let mut assembler = Assembler::new(blob, length as u64, length as u64).unwrap();
    let crossed = |bytes: &[u8]| {
        let meter: &Meter = ends.near.meter();
        meter.carried(Direction::Received, payload, bytes.len() as u64);
    };
    for most in breaks.into_iter().chain([length]) {
        let give = async {
            let mut stream = ends.far.accept().await.unwrap();
            let request = blobs::requested(&mut stream).await.unwrap();
            assert_eq!(request.blob, blob);
            let sent = blobs::send(&mut stream, &bytes[..most], request.offset, |_| ());
            sent.await.unwrap();
        };
        let take = blobs::fetch(&ends.near, blob, &mut assembler, crossed);
        let (taken, ()) = tokio::join!(take, give);
        assert_eq!(taken.is_ok(), most == length);
    }
    assert_eq!(assembler.finish().unwrap(), bytes);
}

/// Headers of the chunks that so many bytes take.
fn headers(length: usize) -> u64 {
    (length.div_ceil(CHUNK_BYTES) * CHUNK_HEADER_BYTES) as u64
}

#[tokio::test]
async fn parts_add_up_to_what_streams_carry() {
    let ends = ends().await;
    let mut frames = Frames::new(ends.near.open().await.unwrap(), Version::LATEST);
    let id = RoundId {
        round: 70_000,
        attempt: 3,
    };
    let message: Message = Heartbeat { id }.into();
    frames.writer.send(&message).await.unwrap();
    let mut framing = (frame::encode(&message).unwrap().len() as u64, 0);
    let mut payloads = (0, 0);
    let mut accepted = Frames::new(ends.far.accept().await.unwrap(), Version::LATEST);
    assert!(accepted.reader.next().await.unwrap().is_some());
    for (payload, length, breaks) in [
        (Payload::TransferSet, 300_000, None),
        (Payload::Answers, 1, None),
        (Payload::Answers, CHUNK_BYTES, None),
        (Payload::Answers, CHUNK_BYTES + 1, None),
        // What has come before a break does not come again.
        (Payload::TransferSet, 200_000, Some(100_000)),
        (Payload::Answers, 99, Some(0)),
    ] {
        fetch(&ends, payload, length, breaks).await;
        match payload {
            Payload::Answers => payloads.0 += length as u64,
            Payload::TransferSet => payloads.1 += length as u64,
        }
        framing.0 += REQUEST_BYTES as u64 * (1 + u64::from(breaks.is_some()));
        framing.1 += match breaks {
            Some(first) => headers(first) + headers(length - first),
            None => headers(length),
        };
        let meter = ends.near.meter();
        let (up, down) = (
            meter.flow(Direction::Sent, meter.sent(), None),
            meter.flow(Direction::Received, meter.received(), None),
        );
        assert_eq!((up.packed, up.transfer_set, up.framing), (0, 0, framing.0));
        assert_eq!((down.packed, down.transfer_set), payloads);
        assert_eq!(down.framing, framing.1);
        assert_eq!(up.application(), meter.sent());
        assert_eq!(down.application(), meter.received());
    }
}

#[test]
fn what_was_spared_counts_as_if_it_had_crossed() {
    let meter = Meter::default();
    let (up, down) = blobs::crossing(100_000);
    meter.spared(Direction::Sent, up);
    meter.spared(Direction::Received, down);
    meter.carried(Direction::Received, Payload::Answers, 100_000);
    meter.uncoded(Direction::Received, 400_000);
    let flow = meter.flow(Direction::Received, meter.received(), Some(9));
    assert_eq!(
        (flow.raw, flow.packed, flow.quic),
        (400_000, 100_000, Some(9))
    );
    assert_eq!(flow.framing, headers(100_000));
    let flow = meter.flow(Direction::Sent, meter.sent(), None);
    assert_eq!((flow.framing, flow.packed), (REQUEST_BYTES as u64, 0));
}
