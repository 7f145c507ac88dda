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
    let hub = Hub::new(name("clinic"), manifest, 1000, arrivals);
    let (listener, door) = memory::listen();
    let mut mailboxes = Vec::new();
    for client in clients {
        let peer = Peer::Client {
            federation: name("clinic"),
            name: name(client),
        };
        let _theirs = door.dialer(peer).dial().await.unwrap();
        let connection = listener.accept().await.unwrap();
        mailboxes.push(hub.join(&name(client), connection).1);
    }
    (hub, mailboxes, incoming)
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
        ended = timeout(patience, hub.emptied(&mut incoming, quiet, ending)) => ended.unwrap(),
        () = chatter => {}
    }
    assert_eq!(hub.count(), 2);
}

#[tokio::test]
async fn an_empty_hub_is_not_waited_for() {
    let (hub, _mailboxes, mut incoming) = hub(&["a"]).await;
    assert!(hub.leave(&name("a"), 1));
    let long = Duration::from_secs(3600);
    let emptied = hub.emptied(&mut incoming, long, long);
    timeout(Duration::from_secs(20), emptied).await.unwrap();
}
