use fedistill_protocol::Version;
use tokio::io::{DuplexStream, duplex};

use super::super::mux::Side;
use super::super::stream::TcpConnection;
use super::*;
use crate::{CloseCode, Connection, Peer};

const BEAT: Duration = Duration::from_secs(10);

fn end(side: Side, io: DuplexStream) -> TcpConnection {
    let shared = Shared::new(side);
    tokio::spawn(drive(Arc::clone(&shared), io, BEAT));
    TcpConnection {
        shared,
        peer: Peer::Coordinator,
        version: Version::LATEST,
        crossed: Arc::default(),
    }
}

fn ends(buffer: usize) -> (TcpConnection, TcpConnection) {
    let (near, far) = duplex(buffer);
    (end(Side::Client, near), end(Side::Coordinator, far))
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_lasts_and_a_dead_one_is_noticed() {
    let (near, far) = ends(1000);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(near.close_reason().is_none() && far.close_reason().is_none());

    // Somebody who takes everything and says nothing.
    let (io, silent) = duplex(1000);
    let near = end(Side::Client, io);
    let (mut heard, _said) = split(silent);
    tokio::spawn(async move { while heard.read(&mut [0; 100]).await.is_ok_and(|n| n > 0) {} });
    let begun = Instant::now();
    let lost = near.closed().await.to_string();
    assert!(lost.contains("timed out"), "{lost}");
    let after = begun.elapsed();
    assert!(after >= SILENCE && after < SILENCE + BEAT, "{after:?}");

    // And somebody who takes nothing either.
    let (io, _stuck) = duplex(100);
    let near = end(Side::Client, io);
    let mut stream = near.open().await.unwrap();
    stream.0.write_all(&[1; 1000]).await.unwrap();
    let begun = Instant::now();
    near.closed().await;
    assert!(begun.elapsed() < SILENCE + BEAT);
}

/// As a process sees it that was frozen meanwhile: its timers are due at once, and what lies in its socket is found a
/// little later.
#[tokio::test(start_paused = true)]
async fn what_came_while_this_side_was_frozen_counts() {
    let (io, peer) = duplex(1000);
    let near = end(Side::Client, io);
    let (mut heard, mut said) = split(peer);
    tokio::spawn(async move { while heard.read(&mut [0; 100]).await.is_ok_and(|n| n > 0) {} });
    let moment = Duration::from_millis(10);
    tokio::time::sleep(moment).await;
    tokio::time::advance(SILENCE).await;
    tokio::time::sleep(moment).await;
    let mut alive = Vec::new();
    put(&mut alive, Kind::Alive, 0, &[]);
    said.write_all(&alive).await.unwrap();
    tokio::time::sleep(SILENCE - BEAT).await;
    assert!(near.close_reason().is_none());
    // And then nothing came.
    tokio::time::sleep(2 * BEAT).await;
    assert!(near.close_reason().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slow_transfer_outlasts_the_silence_that_is_allowed() {
    // As a network does that has a long queue: what is sent comes minutes later, one way.
    let (near_io, mut slow) = duplex(64 * 1024);
    let (mut fast, far_io) = duplex(64 * 1024);
    let (near, far) = (end(Side::Client, near_io), end(Side::Coordinator, far_io));
    tokio::spawn(async move {
        let (mut up_in, mut down_out) = split(&mut slow);
        let (mut down_in, mut up_out) = split(&mut fast);
        let up = async {
            let mut bytes = [0; 1000];
            while let Ok(count @ 1..) = up_in.read(&mut bytes).await {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = up_out.write_all(&bytes[..count]).await;
            }
        };
        let down = tokio::io::copy(&mut down_in, &mut down_out);
        let _ = tokio::join!(up, down);
    });
    let (mut writer, _reader) = near.open().await.unwrap();
    tokio::spawn(async move {
        let _ = writer.write_all(&[7; 300_000]).await;
        let _ = writer.shutdown().await;
    });
    let (_writer, mut reader) = far.accept().await.unwrap();
    let begun = Instant::now();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [7; 300_000]);
    assert!(begun.elapsed() > 5 * SILENCE);
}

#[tokio::test]
async fn much_crosses_both_ways_at_once_through_a_narrow_line() {
    let (near, far) = ends(100);
    let bytes: Vec<u8> = (0..2_000_000u32)
        .map(|i| (i.wrapping_mul(i) >> 3) as u8)
        .collect();
    let say = async |connection: &TcpConnection| {
        for _ in 0..2 {
            let (mut writer, mut reader) = connection.open().await.unwrap();
            writer.write_all(&bytes).await.unwrap();
            writer.shutdown().await.unwrap();
            assert_eq!(reader.read_u8().await.unwrap(), 1);
        }
    };
    let hear = async |connection: &TcpConnection| {
        for _ in 0..2 {
            let (mut writer, mut reader) = connection.accept().await.unwrap();
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await.unwrap();
            assert!(all == bytes);
            writer.write_all(&[1]).await.unwrap();
        }
    };
    tokio::join!(say(&near), hear(&near), say(&far), hear(&far));
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_until_there_is_room_for_it() {
    let (near, far) = ends(1000);
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(near.open().await.unwrap());
    }
    let soon = Duration::from_secs(1);
    assert!(timeout(soon, near.open()).await.is_err());
    let mut taken = Vec::new();
    for _ in 0..7 {
        taken.push(far.accept().await.unwrap());
    }
    // Half of one is not over.
    let (writer, reader) = open.pop().unwrap();
    drop(writer);
    assert!(timeout(soon, near.open()).await.is_err());
    drop(reader);
    // Nor is one that the other side has not come to.
    assert!(timeout(soon, near.open()).await.is_err());
    let (waits, comes) = tokio::join!(near.open(), far.accept());
    assert!(waits.is_ok() && comes.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_code_arrives_even_where_nobody_reads_what_came_before() {
    let (near, far) = ends(100_000);
    let (mut writer, _reader) = near.open().await.unwrap();
    let _held = far.accept().await.unwrap();
    writer.write_all(&[1; 60_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    near.close(CloseCode::Other(77), "that is all");
    let closed = far.closed().await;
    let TransportError::Closed { code, why } = closed else {
        panic!("{closed}")
    };
    assert_eq!((code, why.as_str()), (CloseCode::Other(77), "that is all"));
    assert!(far.open().await.is_err() && far.accept().await.is_err());
    assert!(near.open().await.is_err());
    assert!(writer.write_all(&[1]).await.is_err());

    // The last handle gone ends it too; a line that breaks is no close.
    let (near, far) = ends(1000);
    drop(near);
    let closed = far.closed().await;
    assert!(
        matches!(
            closed,
            TransportError::Closed {
                code: CloseCode::Done,
                ..
            }
        ),
        "{closed}"
    );
    let (io, other) = duplex(100);
    let near = end(Side::Client, io);
    drop(other);
    let lost = near.closed().await;
    assert!(matches!(lost, TransportError::Lost(_)), "{lost}");
}
