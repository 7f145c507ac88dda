//! A coordinator and a client against peers that break the rules, over the in-memory transport.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contributions;
mod door;
mod late;
mod puppet;

use std::sync::Arc;
use std::time::Duration;

use fedistill_coordinator::{Coordinator, CoordinatorError, Ended, MemoryStore, Settings};
use fedistill_federation::Quorum;
use fedistill_protocol::{AnswerKind, Answers, Message, Precision, RoundId};
use fedistill_tests::clinic::{self, classes, name, transfer};
use fedistill_transport::memory::{self, Door};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::puppet::Puppet;

/// Samples that a round speaks about.
const ROWS: u32 = 6;

fn settings() -> Settings {
    Settings {
        asked: 2,
        ..clinic::settings(name("clinic"), classes(), ROWS)
    }
}

fn coordinator(settings: Settings) -> Result<Coordinator, CoordinatorError> {
    Coordinator::new(settings, transfer(), None, Box::<MemoryStore>::default())
}

/// A coordinator at work, until this is dropped.
struct Run(JoinHandle<Result<Ended, CoordinatorError>>);

impl Run {
    fn of(coordinator: Coordinator) -> (Self, Door) {
        let (listener, door) = memory::listen();
        let run = coordinator.run(Arc::new(listener), CancellationToken::new());
        (Self(tokio::spawn(run)), door)
    }

    /// Until nothing of it is left.
    async fn end(mut self) {
        self.0.abort();
        // It was cut off, as was meant.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Settings of rounds that open with so many clients, and stay open as long as one of them is at work.
fn patient(clients: usize) -> Settings {
    let (least, most) = (Duration::from_secs(60), Duration::from_secs(90));
    Settings {
        asked: clients,
        open_with: clients,
        quorum: Quorum::new(1, clients, least, most).unwrap(),
        ..settings()
    }
}

/// Lets these clients in, until each has heard what the first round asks; which that is.
async fn enter<const N: usize>(door: &Door, clients: [&str; N]) -> ([Puppet; N], RoundId) {
    let mut puppets = Vec::new();
    for client in clients {
        puppets.push(Puppet::connect(door, client, classes()).await);
    }
    let mut ids = Vec::new();
    for puppet in &mut puppets {
        assert!(matches!(puppet.next().await, Message::Welcome(_)));
        let Message::Plan(plan) = puppet.next().await else {
            panic!("no plan");
        };
        ids.push(plan.id);
    }
    let puppets = puppets.try_into().ok().unwrap();
    (puppets, ids[0])
}

/// An answer that says the same of each of so many samples.
fn said(row: [f32; 2], rows: u32) -> Vec<u8> {
    let answers = Answers::new(AnswerKind::Logits, 2, row.repeat(rows as usize)).unwrap();
    answers.pack(Precision::F32)
}
