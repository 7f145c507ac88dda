//! What can happen to a federation, as data.

use fedistill_federation::Missed;
use proptest::prelude::*;
use rand::{Rng, RngExt};

/// One thing that happens. A number names a client, modulo how many there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    /// Messages arrive, what is to be durable becomes so, and so many seconds pass.
    AdvanceTime(u8),
    /// What is under way to and from this client arrives; nothing becomes durable.
    Deliver(u8),
    /// What the coordinator wants durable becomes so, and it hears of that.
    Persist,
    /// The client ends its training and announces what came of it.
    Contribute(u8),
    /// The client announces what it last announced once more.
    Replay(u8),
    /// The client announces other answers for the same round.
    Conflict(u8),
    /// The connection breaks, and with it what is under way to the coordinator.
    DropRequest(u8),
    /// The connection breaks, and with it what is under way to the client.
    DropResponse(u8),
    /// The coordinator is killed, and what it wants durable is not.
    CrashBeforePersist,
    /// The coordinator is killed once all it wants durable is, and before it hears of that.
    CrashAfterPersist,
    /// The coordinator is stopped in good order if it runs, and started.
    RestartCoordinator,
    /// The client's process is killed and started again.
    RestartClient(u8),
    /// The client hangs up and stays away.
    Leave(u8),
    /// It comes back.
    Join(u8),
    /// Nothing goes through between the client and the coordinator, and nobody is told.
    Partition(u8),
    /// It goes through again.
    Heal(u8),
}

/// A federation of this many clients, and its quorum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Setup {
    pub(crate) clients: u8,
    /// Fewest contributions of a round.
    pub(crate) least: u8,
    /// Most contributions of a round.
    pub(crate) most: u8,
    /// Most clients that a round asks.
    pub(crate) asked: u8,
    pub(crate) missed: Missed,
    /// Whether late contributions are folded into the next round.
    pub(crate) folds: bool,
}

/// The numbers of clients that there are sequences for.
const CLIENTS: std::ops::RangeInclusive<u8> = 2..=5;
/// The longest time that passes at once: more than a round takes.
const LONGEST: u8 = 70;

impl Op {
    /// Any of them; those that bring a round on are the most likely.
    pub(crate) fn draw(rng: &mut impl Rng) -> Self {
        let client = rng.random_range(0..*CLIENTS.end());
        match rng.random_range(0..48) {
            0..5 => Self::AdvanceTime(rng.random_range(1..=LONGEST)),
            5..9 => Self::AdvanceTime(rng.random_range(1..=6)),
            9..15 => Self::Deliver(client),
            15..19 => Self::Persist,
            19..29 => Self::Contribute(client),
            29..31 => Self::Replay(client),
            31 => Self::Conflict(client),
            32 => Self::DropRequest(client),
            33..36 => Self::DropResponse(client),
            36..38 => Self::CrashBeforePersist,
            38..40 => Self::CrashAfterPersist,
            40 => Self::RestartCoordinator,
            41..43 => Self::RestartClient(client),
            43 => Self::Leave(client),
            44 => Self::Join(client),
            45 => Self::Partition(client),
            _ => Self::Heal(client),
        }
    }

    /// The same for a test that shrinks what fails.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let client = 0..*CLIENTS.end();
        prop_oneof![
            5 => (1..=LONGEST).prop_map(Self::AdvanceTime),
            4 => (1u8..=6).prop_map(Self::AdvanceTime),
            6 => client.clone().prop_map(Self::Deliver),
            4 => Just(Self::Persist),
            10 => client.clone().prop_map(Self::Contribute),
            2 => client.clone().prop_map(Self::Replay),
            1 => client.clone().prop_map(Self::Conflict),
            1 => client.clone().prop_map(Self::DropRequest),
            3 => client.clone().prop_map(Self::DropResponse),
            2 => Just(Self::CrashBeforePersist),
            2 => Just(Self::CrashAfterPersist),
            1 => Just(Self::RestartCoordinator),
            2 => client.clone().prop_map(Self::RestartClient),
            1 => client.clone().prop_map(Self::Leave),
            1 => client.clone().prop_map(Self::Join),
            1 => client.clone().prop_map(Self::Partition),
            2 => client.prop_map(Self::Heal),
        ]
    }
}

impl Setup {
    /// Any of them.
    pub(crate) fn draw(rng: &mut impl Rng) -> Self {
        let clients = rng.random_range(CLIENTS);
        let least = rng.random_range(1..=clients);
        let most = rng.random_range(least..=clients);
        let missed = match rng.random_range(0..4) {
            0 => Missed::Settle,
            1 => Missed::Extend {
                most: rng.random_range(0..3),
            },
            _ => Missed::Reopen,
        };
        Self {
            clients,
            least,
            most,
            asked: rng.random_range(most..=clients),
            missed,
            folds: rng.random(),
        }
    }

    /// The same for a test that shrinks what fails.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let missed = prop_oneof![
            2 => Just(Missed::Reopen),
            1 => (0u32..3).prop_map(|most| Missed::Extend { most }),
            1 => Just(Missed::Settle),
        ];
        let counts = CLIENTS.prop_flat_map(|clients| (Just(clients), 1..=clients));
        let counts =
            counts.prop_flat_map(|(clients, least)| (Just(clients), Just(least), least..=clients));
        let counts = counts
            .prop_flat_map(|(clients, least, most)| (Just((clients, least, most)), most..=clients));
        (counts, missed, any::<bool>()).prop_map(
            |(((clients, least, most), asked), missed, folds)| Self {
                clients,
                least,
                most,
                asked,
                missed,
                folds,
            },
        )
    }
}
