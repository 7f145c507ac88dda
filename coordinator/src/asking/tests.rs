use std::time::{Duration, Instant};

use fedistill_federation::{Missed, Quorum, RoundConfig, method};
use fedistill_protocol::Digest;

use super::*;
use crate::hub::tests::{hub, name};

const OPEN: RoundId = RoundId {
    round: 3,
    attempt: 0,
};

fn words(common: &[u8], of_b: &[u8]) -> Words {
    Words {
        common: common.into(),
        particular: BTreeMap::from([(name("b"), of_b.into())]),
    }
}

#[tokio::test]
async fn a_seat_is_free_once_its_client_is_done_with_this_round() {
    let clients = ["a", "b", "old"];
    let (hub, mut mailboxes, _incoming) = hub(&clients).await;
    let cohort: BTreeMap<Name, u32> = clients.iter().map(|client| (name(client), 1)).collect();
    let config = RoundConfig {
        id: OPEN,
        cohort: cohort.clone(),
        quorum: Quorum::new(1, 3, Duration::ZERO, Duration::from_secs(60)).unwrap(),
        missed: Missed::Reopen,
        folding: None,
        silence: Duration::from_secs(60),
        answers: None,
        method: method::by_name("logit-mean").unwrap().into(),
    };
    let machine = Round::open(config, Instant::now());
    let mut asking = Asking::new(
        &cohort,
        words(b"plan", b"another"),
        Some(words(b"older plan", b"another older")),
        1,
    );
    let mut told = |asking: &mut Asking<'_>| -> Vec<bool> {
        asking.go_on(&hub, &machine, OPEN);
        let clients = clients.iter().zip(mailboxes.iter_mut());
        let told = clients.map(|(client, mailbox)| {
            let plan = mailbox.try_recv().ok();
            let own: &[u8] = match *client {
                "b" => b"another",
                "old" => b"older plan",
                _ => b"plan",
            };
            assert!(plan.as_deref().is_none_or(|plan| plan == own), "{client}");
            plan.is_some()
        });
        told.collect()
    };
    assert_eq!(told(&mut asking), [true, false, false]);
    // It joined before it was told; the coordinator reads of that only now.
    asking.heard(&hub, &Arrival::Joined(name("a")), OPEN);
    assert_eq!(told(&mut asking), [false; 3]);
    let before = RoundId { round: 2, ..OPEN };
    asking.heard(
        &hub,
        &Arrival::Refused(name("a"), before, String::new()),
        OPEN,
    );
    asking.heard(&hub, &Arrival::Malformed(name("a"), before), OPEN);
    assert_eq!(told(&mut asking), [false; 3]);
    asking.heard(
        &hub,
        &Arrival::Refused(name("a"), OPEN, String::new()),
        OPEN,
    );
    assert_eq!(told(&mut asking), [false, true, false]);
    asking.heard(&hub, &Arrival::Left(name("b")), OPEN);
    assert_eq!(told(&mut asking), [false, false, true]);
    // It was told that a round is over, and may take that for the open one: an older version does not say.
    let late = |client| Arrival::Contributed {
        client: name(client),
        id: before,
        blob: Digest::of(b"late"),
        answers: None,
    };
    asking.heard(&hub, &late("old"), OPEN);
    asking.heard(&hub, &late("a"), OPEN);
    asking.heard(&hub, &late("stranger"), OPEN);
    assert_eq!(told(&mut asking), [false, false, true]);
}
