use tokio::time::{Instant, sleep};

use super::*;
use crate::{Dial, Listen, Peer, memory};
use std::sync::Arc;

async fn ends() -> (Arc<dyn Connection>, Arc<dyn Connection>) {
    let (listener, door) = memory::listen();
    let peer = Peer::Client {
        federation: "clinic".parse().unwrap(),
        name: "ward-7".parse().unwrap(),
    };
    let near = door.dialer(peer).dial().await.unwrap();
    (near, listener.accept().await.unwrap())
}

fn ten() -> (Digest, Assembler) {
    let digest = Digest::of(&[7; 10]);
    (digest, Assembler::new(digest, 10, 10).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_line_may_be_as_slow_as_it_likes_while_something_comes() {
    const EACH: Duration = Duration::from_secs(25);
    let (near, far) = ends().await;
    let give = async {
        let mut stream = far.accept().await.unwrap();
        requested(&mut stream).await.unwrap();
        let (header, chunk) = chunks(&[7; 10], 0).next().unwrap();
        // All but the last byte.
        for byte in header.iter().chain(&chunk[..9]) {
            sleep(EACH).await;
            stream.0.write_all(&[*byte]).await.unwrap();
        }
        std::future::pending::<()>().await
    };
    let (digest, mut assembler) = ten();
    let begun = Instant::now();
    let got = tokio::select! {
        got = fetch(near.as_ref(), digest, &mut assembler, |_| ()) => got,
        () = give => unreachable!(),
    };
    assert!(matches!(got, Err(TransportError::Timeout(_))), "{got:?}");
    let took = begun.elapsed() - EACH * 21;
    let brief = Duration::from_secs(1);
    assert!(
        (BYTE_TIMEOUT..BYTE_TIMEOUT + brief).contains(&took),
        "{took:?}"
    );
    // What came of the chunk is not lost.
    assert_eq!(assembler.offset(), 9);
    let give = async {
        let mut stream = far.accept().await.unwrap();
        let request = requested(&mut stream).await.unwrap();
        send(&mut stream, &[7; 10], request.offset, |_| ())
            .await
            .unwrap();
        request.offset
    };
    let (got, offset) = tokio::join!(fetch(near.as_ref(), digest, &mut assembler, |_| ()), give);
    got.unwrap();
    assert_eq!((offset, assembler.finish().unwrap()), (9, vec![7; 10]));
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_for_a_stream_does_not_wait_for_ever() {
    let (near, _far) = ends().await;
    let (digest, mut assembler) = ten();
    // Nobody comes to any of them.
    let mut held = Vec::new();
    while let Ok(stream) = timeout(Duration::from_secs(1), near.open()).await {
        held.push(stream.unwrap());
    }
    let begun = Instant::now();
    let got = fetch(near.as_ref(), digest, &mut assembler, |_| ()).await;
    assert!(matches!(got, Err(TransportError::Timeout(_))), "{got:?}");
    assert!(begun.elapsed() < BYTE_TIMEOUT * 2);
}

#[tokio::test]
async fn what_is_not_offered_is_no_breach() {
    let (near, far) = ends().await;
    for has in [0, 4] {
        let (digest, mut assembler) = ten();
        assembler.append(&[7; 10][..has]).unwrap();
        let give = async {
            let mut stream = far.accept().await.unwrap();
            let request = requested(&mut stream).await.unwrap();
            send(&mut stream, &[], request.offset, |_| ())
                .await
                .unwrap();
        };
        let (got, ()) = tokio::join!(fetch(near.as_ref(), digest, &mut assembler, |_| ()), give);
        assert!(
            matches!(got, Err(TransportError::NotOffered(blob)) if blob == digest),
            "{got:?}"
        );
    }
}
