use fedistill_transport::{Dial, Listen, Metered, Peer, memory};
use tokio::time::timeout;

use super::super::Parting;
use super::super::tests::{hub, name};
use super::*;

fn over() -> Goodbye {
    Goodbye {
        why: "the federation is over".to_owned(),
        back: false,
        after_ms: 0,
    }
}

#[tokio::test]
async fn who_never_hangs_up_does_not_hold_up_the_end() {
    let (hub, _mailboxes, mut incoming) = hub(&["a", "b"]).await;
    let (quiet, ending) = (Duration::from_millis(50), Duration::from_millis(200));
    let chatter = async {
        loop {
            let heartbeat = Arrival::Heartbeat(name("a"));
            hub.arrivals.send(heartbeat).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::select! {
        ended = timeout(patience, hub.empty(&mut incoming, over(), quiet, ending)) => ended.unwrap(),
        () = chatter => {}
    }
    assert_eq!(hub.count(), 2);
}

#[tokio::test]
async fn an_empty_hub_is_not_waited_for() {
    let (hub, _mailboxes, mut incoming) = hub(&["a"]).await;
    assert!(hub.leave(&name("a"), 1, Parting::Meant));
    let long = Duration::from_secs(3600);
    let emptied = hub.empty(&mut incoming, over(), long, long);
    timeout(Duration::from_secs(20), emptied).await.unwrap();
}

/// It comes back to a federation that is over: who else would tell it?
#[tokio::test(start_paused = true)]
async fn who_was_sent_away_hears_of_the_end_though_it_comes_late() {
    let (hub, mut mailboxes, mut incoming) = hub(&["a", "b"]).await;
    let (a, b) = (name("a"), name("b"));
    let later = Goodbye {
        back: true,
        ..over()
    };
    hub.send_away(&a, &later);
    hub.send_away(&b, &later);
    // One is back in time, the other one is not.
    assert!(hub.leave(&a, 1, Parting::Meant));
    let (listener, door) = memory::listen();
    let come = async |who: &Name| {
        let peer = Peer::Client {
            federation: name("clinic"),
            name: who.clone(),
        };
        let theirs = door.dialer(peer).dial().await.unwrap();
        let ours = listener.accept().await.unwrap();
        let ours = Arc::new(Metered::new(ours, Arc::default()));
        (theirs, hub.join(who, ours, 0))
    };
    let (_theirs, (serial_b, _mailbox)) = come(&b).await;
    let long = Duration::from_secs(3600);
    let quiet = Duration::from_secs(1);
    let late = async {
        assert!(hub.leave(&b, serial_b, Parting::Meant));
        hub.arrivals.send(Arrival::Left(b.clone())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (_theirs, (serial, mut mailbox)) = come(&a).await;
        hub.arrivals.send(Arrival::Joined(a.clone())).await.unwrap();
        let told = mailbox.recv().await.unwrap();
        assert_eq!(Some(told), encode(&over().into()));
        assert!(hub.leave(&a, serial, Parting::Meant));
        hub.arrivals.send(Arrival::Left(a.clone())).await.unwrap();
    };
    let emptied = hub.empty(&mut incoming, over(), quiet, long);
    let both = async { tokio::join!(emptied, late) };
    timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(mailboxes[0].try_recv().is_ok());

    // Who is to come back anyway is not waited for.
    hub.send_away(&a, &later);
    let emptied = hub.empty(&mut incoming, later, quiet, long);
    timeout(Duration::from_secs(20), emptied).await.unwrap();
}

/// The federation may be over for long, and nobody known to have missed that.
#[tokio::test(start_paused = true)]
async fn whoever_comes_within_the_farewell_hears_of_the_end() {
    let (hub, mut mailboxes, mut incoming) = hub(&["a", "b"]).await;
    let minute = Duration::from_secs(60);
    assert!(hub.leave(&name("b"), 2, Parting::Meant));
    let late = async {
        let mut told = Vec::new();
        for _ in 0..2 {
            tokio::time::sleep(minute).await;
            let (listener, door) = memory::listen();
            let peer = Peer::Client {
                federation: name("clinic"),
                name: name("b"),
            };
            let _theirs = door.dialer(peer).dial().await.unwrap();
            let ours = listener.accept().await.unwrap();
            let ours = Arc::new(Metered::new(ours, Arc::default()));
            let (serial, mut mailbox) = hub.join(&name("b"), ours, 0);
            hub.arrivals.send(Arrival::Joined(name("b"))).await.unwrap();
            told.push(mailbox.recv().await);
            assert!(hub.leave(&name("b"), serial, Parting::Meant));
            hub.arrivals.send(Arrival::Left(name("b"))).await.unwrap();
        }
        told
    };
    let begun = Instant::now();
    let over = over();
    let farewell = hub.farewell(&mut incoming, &over, 5 * minute);
    let ((), told) = tokio::join!(farewell, late);
    // It stays for whoever else may come.
    assert_eq!(begun.elapsed(), 5 * minute);
    let frame = encode(&over.into());
    assert_eq!(told, [frame.clone(), frame.clone()]);
    assert_eq!(mailboxes[0].try_recv().ok(), frame);
}

/// It was killed, or its network is away for a moment, and it will find nobody.
#[tokio::test(start_paused = true)]
async fn whose_connection_broke_off_lately_hears_of_the_end() {
    let second = Duration::from_secs(1);
    let (quiet, ending) = (second, 8 * second);
    let emptied = async |hub: &Hub, incoming: &mut _, goodbye| {
        let begun = Instant::now();
        hub.empty(incoming, goodbye, quiet, ending).await;
        begun.elapsed()
    };
    let (hub, _mailboxes, mut incoming) = hub(&["a", "b"]).await;
    assert!(hub.leave(&name("a"), 1, Parting::Lost));
    assert!(hub.leave(&name("b"), 2, Parting::Meant));
    let stops = Goodbye {
        back: true,
        ..over()
    };
    assert!(emptied(&hub, &mut incoming, stops).await < second);
    assert_eq!(
        emptied(&hub, &mut incoming, over()).await.as_secs(),
        ending.as_secs()
    );

    // It comes, on a connection that is then lost too, and once more: it is told each time, and then hangs up.
    let (listener, door) = memory::listen();
    let come = async || {
        let peer = Peer::Client {
            federation: name("clinic"),
            name: name("a"),
        };
        let theirs = door.dialer(peer).dial().await.unwrap();
        let ours = listener.accept().await.unwrap();
        let ours = Arc::new(Metered::new(ours, Arc::default()));
        let (serial, mut mailbox) = hub.join(&name("a"), ours, 0);
        hub.arrivals.send(Arrival::Joined(name("a"))).await.unwrap();
        assert_eq!(mailbox.recv().await, encode(&over().into()));
        drop(theirs);
        serial
    };
    let late = async {
        for parting in [Parting::Lost, Parting::Meant] {
            tokio::time::sleep(2 * second).await;
            let serial = come().await;
            assert!(hub.leave(&name("a"), serial, parting));
            hub.arrivals.send(Arrival::Left(name("a"))).await.unwrap();
        }
    };
    let (took, ()) = tokio::join!(emptied(&hub, &mut incoming, over()), late);
    assert_eq!(took.as_secs(), 4);

    // One that has not come back for longer than clients wait is gone.
    let serial = {
        let ours = async || come().await;
        let (serial, _) = tokio::join!(ours(), async {
            let joined = incoming.recv().await;
            assert!(matches!(joined, Some(Arrival::Joined(_))));
            hub.send(&name("a"), &over().into());
        });
        serial
    };
    assert!(hub.leave(&name("a"), serial, Parting::Lost));
    tokio::time::advance(LATELY).await;
    assert!(emptied(&hub, &mut incoming, over()).await < second);
}
