use fedistill_transport::{Dial, Listen, Peer, memory};
use tokio::time::timeout;

use super::*;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A hub in which these clients are connected; what it sends them; and where it hears of them.
pub(crate) async fn hub(
    clients: &[&str],
) -> (Hub, Vec<mpsc::Receiver<Arc<[u8]>>>, mpsc::Receiver<Arrival>) {
    let manifest = TransferManifest {
        blob: Digest::of(b"none"),
        bytes: 0,
        samples: 0,
        shape: vec![1],
        classes: vec!["well".to_owned(), "ill".to_owned()],
    };
    let (arrivals, incoming) = mpsc::channel(64);
    let hub = Hub::new(name("clinic"), manifest, 1000, Epoch::default(), arrivals);
    let (listener, door) = memory::listen();
    let mut mailboxes = Vec::new();
    for client in clients {
        let peer = Peer::Client {
            federation: name("clinic"),
            name: name(client),
        };
        // One of them was not updated.
        let version = match *client {
            "old" => Version::OLDEST,
            _ => Version::LATEST,
        };
        let _theirs = door.dialer(peer).speaking(version).dial().await.unwrap();
        let connection = listener.accept().await.unwrap();
        let connection = Arc::new(Metered::new(connection, Arc::default()));
        mailboxes.push(hub.join(&name(client), connection, 0).1);
    }
    (hub, mailboxes, incoming)
}

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

#[tokio::test]
async fn books_outlive_connections_and_count_an_answer_once() {
    use fedistill_protocol::{About, AnswerKind, Precision, Report, Rounding, Silence};

    let (hub, ..) = hub(&["a", "b"]).await;
    let plan = RoundPlan {
        federation: name("clinic"),
        id: RoundId {
            round: 0,
            attempt: 0,
        },
        transfer: Digest::of(b"none"),
        seed: 0,
        knowledge: Vec::new(),
        phases: Vec::new(),
        report: Some(Report {
            kind: AnswerKind::Features,
            about: About::Classes,
            width: 50,
            precision: Precision::F32,
            rounding: Rounding::Nearest,
            adjust: 0.0,
            silence: Silence::Never,
            update: false,
        }),
        deadline_ms: 0,
        cohort: 2,
    };
    let meter = |client: &str| {
        let state = hub.state();
        Arc::clone(&state.members[&name(client)].connection)
    };
    let raw = |client: &str| {
        let traffic = hub.traffic()[&name(client)];
        (traffic.up.raw, traffic.down.raw)
    };
    hub.teach(plan.id, Lessons::default(), false);
    for _ in 0..2 {
        hub.book(&name("a"), &plan, meter("a").meter());
    }
    assert_eq!((raw("a"), raw("b")), ((2 * 50 * 4, 0), (0, 0)));
    assert!(hub.leave(&name("a"), 1, Parting::Meant));
    assert_eq!(raw("a"), (400, 0));
    assert!(!hub.traffic().contains_key(&name("c")));
}

#[tokio::test]
async fn what_crossed_on_a_connection_that_was_superseded_neither_vanishes_nor_counts_twice() {
    use fedistill_transport::Direction;

    let (hub, ..) = hub(&["a"]).await;
    let a = name("a");
    let current = || Arc::clone(&hub.state().members[&a].connection);
    let crossed = || hub.traffic()[&a].down.framing;
    let older = current();
    older.meter().spared(Direction::Sent, 100);
    // It comes again, and whoever serves the older connection has yet to notice.
    let (listener, door) = memory::listen();
    let peer = Peer::Client {
        federation: name("clinic"),
        name: a.clone(),
    };
    let _theirs = door.dialer(peer).dial().await.unwrap();
    let newer = Arc::new(Metered::new(
        listener.accept().await.unwrap(),
        Arc::default(),
    ));
    let (serial, _mailbox) = hub.join(&a, newer, 0);
    assert_eq!(crossed(), 100);
    current().meter().spared(Direction::Sent, 10);
    older.meter().spared(Direction::Sent, 1);
    assert_eq!(crossed(), 111);
    for _ in 0..2 {
        assert!(!hub.leave(&a, serial - 1, Parting::Lost));
        assert_eq!(crossed(), 111);
    }
    assert!(hub.leave(&a, serial, Parting::Meant));
    assert_eq!(crossed(), 111);
}

#[tokio::test]
async fn it_is_known_what_each_client_has_fetched_last() {
    let (hub, _mailboxes, _incoming) = hub(&["a", "b"]).await;
    let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
    for client in ["a", "b", "c"] {
        hub.has_fetched(&name(client), old);
    }
    hub.has_fetched(&name("b"), new);
    assert_eq!(hub.who_fetched(&[old].into()), [name("a"), name("c")]);
    assert_eq!(hub.who_fetched(&[new].into()), [name("b")]);
    assert_eq!(hub.who_fetched(&[old, new].into()).len(), 3);
}
