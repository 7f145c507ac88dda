use fedistill_transport::{Dial, Listen, Peer, memory};

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
