//! What a run will hold at most, said before it begins.

use std::fmt;

use fedistill_client::Blobs;
use fedistill_learning::{Architecture, Model};

use crate::journal::CACHE;
use crate::{Averaging, Plan, SimulationError, Transport, View, World};

/// An upper bound of a run's memory, in bytes, by what it is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MemoryBound {
    /// The process as it is, with its data sets, and copies of the transfer set that travel.
    pub data: u64,
    /// A model of each kind for each worker and for the centre: parameters, gradients, optimiser
    /// and activations.
    pub models: u64,
    /// Students in memory that do not train.
    pub students: u64,
    /// The aggregate, and the contributions under way.
    pub aggregate: u64,
    /// What each connected client takes.
    pub clients: u64,
}

/// Of a connected client: tasks, channels and what a quiet connection buffers; measured, and rounded up.
const CLIENT: u64 = 40 << 10;
const QUIC_CLIENT: u64 = 512 << 10;
/// Threads, their heaps, and what the allocator does not give back.
const RUNTIME: u64 = 24 << 20;
/// Samples that are evaluated at a time.
const CHUNK: u64 = 256;

impl MemoryBound {
    /// The bound of this plan in this world, for a process that already holds the world.
    ///
    /// # Errors
    /// A net that does not fit the data.
    pub fn of(world: &World, plan: &Plan, teacher: Architecture) -> Result<Self, SimulationError> {
        let classes = world.test.classes().len() as u64;
        let threads = plan.threads.max(1) as u64;
        let clients = world.private.len() as u64;
        let values = (world.transfer.len() * world.transfer.width()) as u64;
        // Packed and unpacked, and as the floats that nets take.
        let copies = 2 * world.transfer.bytes() as u64 + 4 * values;
        let mut known: Vec<(Architecture, u64)> = Vec::new();
        let mut models = parameters(world, plan, teacher)?.1;
        for &model in &plan.models {
            if !known.iter().any(|(of, _)| *of == model) {
                let (kept, working) = parameters(world, plan, model)?;
                known.push((model, kept));
                models += (threads + 1) * working;
            }
        }
        let kept = |client| {
            let model = plan.model(client);
            known.iter().find(|(of, _)| *of == model).map_or(0, |k| k.1)
        };
        let students = 4 * (0..world.private.len()).map(kept).sum::<u64>();
        let largest = known.iter().map(|(_, kept)| *kept).max();
        let answers = u64::from(plan.rows) * classes;
        // Over QUIC each client fetches the transfer set for itself, a few at a time; it is packed, then
        // handed on whole.
        let fetched = match plan.transport {
            Transport::Memory => 0,
            Transport::Quic => 2 * Blobs::TURNS as u64 * world.transfer.bytes() as u64,
        };
        let held_out = world.held_out.iter().map(|view| view.len() as u64);
        let tested = (world.test.len() as u64 + held_out.max().unwrap_or(0)) * classes;
        Ok(Self {
            data: resident().unwrap_or(0)
                + RUNTIME
                + copies
                + fetched
                + journal(largest.unwrap_or(0))
                + rows(world, plan),
            models,
            students: if students <= plan.keep.memory {
                students
            } else {
                0
            },
            aggregate: 64 * answers
                + 4 * threads * (24 * answers + (64 << 10))
                + 8 * threads * tested,
            clients: clients
                * match plan.transport {
                    Transport::Memory => CLIENT,
                    Transport::Quic => QUIC_CLIENT,
                },
        })
    }

    /// The bound of averaging parameters: as many models as workers, one at the centre, and sums in
    /// fixed point.
    ///
    /// # Errors
    /// A net that does not fit the data.
    pub fn of_averaging(
        world: &World,
        plan: &Plan,
        which: Averaging,
    ) -> Result<Self, SimulationError> {
        let (kept, working) = parameters(world, plan, plan.model(0))?;
        let answers = match which {
            Averaging::FedAvg => 0,
            Averaging::FedDf(_) => u64::from(plan.rows) * world.test.classes().len() as u64,
        };
        let centre = match which {
            Averaging::FedAvg => working,
            // It takes steps of its own, and keeps its best.
            Averaging::FedDf(fusion) => 4 * kept + model(world, plan.model(0), fusion.batch())?.1,
        };
        let threads = plan.threads.max(1) as u64;
        let held_out = world.held_out.iter().map(View::len).max().unwrap_or(0);
        let tested = ((world.test.len() + held_out) * world.test.classes().len()) as u64;
        Ok(Self {
            data: resident().unwrap_or(0)
                + RUNTIME
                + journal(kept)
                + rows(world, plan)
                + 8 * tested,
            models: threads * working + centre,
            students: 4 * 4 * kept,
            // A sum has 16 bytes a value, its mean 4.
            aggregate: (16 + 4) * (kept + answers) + 4 * (threads + 1) * 2 * answers,
            clients: 0,
        })
    }

    /// The bound of one model that learns from all private data in one place.
    ///
    /// # Errors
    /// A net that does not fit the data.
    pub fn of_pooled(world: &World, plan: &Plan) -> Result<Self, SimulationError> {
        let (_, working) = parameters(world, plan, plan.model(0))?;
        let private: usize = world.private.iter().map(View::len).sum();
        let tested = (world.test.len() * world.test.classes().len()) as u64;
        // A value has one byte or four.
        let values = 4 * (private * world.transfer.width()) as u64;
        Ok(Self {
            data: resident().unwrap_or(0) + RUNTIME + values + 8 * tested,
            models: 2 * working,
            ..Self::default()
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.data + self.models + self.students + self.aggregate + self.clients
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        write!(
            f,
            "at most {} MB of memory: {} data and process, {} models, {} students, {} aggregate, {} clients",
            mb(self.total()),
            mb(self.data),
            mb(self.models),
            mb(self.students),
            mb(self.aggregate),
            mb(self.clients)
        )
    }
}

/// Of a net: its parameters, and the bytes of a model that works.
fn parameters(
    world: &World,
    plan: &Plan,
    architecture: Architecture,
) -> Result<(u64, u64), SimulationError> {
    model(world, architecture, plan.training.batch.into())
}

/// The same of steps of so many samples.
fn model(
    world: &World,
    architecture: Architecture,
    batch: usize,
) -> Result<(u64, u64), SimulationError> {
    let net = architecture.build(world.transfer.shape(), world.test.classes().len(), 0)?;
    let samples = CHUNK.max(batch as u64);
    let kept = net.weights().len() as u64;
    // Weights, gradients, first values, two moments, a buffer, and two packed copies.
    Ok((kept, 4 * (8 * kept + samples * net.activations() as u64)))
}

/// What is seen of all rounds: of each participant 17 values, here and in what three runs came to;
/// and once as text, which grows by doubling.
fn rows(world: &World, plan: &Plan) -> u64 {
    let clients = world.private.len();
    let asked = plan.per_round.unwrap_or(clients).min(clients) as u64;
    // A closing round asks all.
    (u64::from(plan.rounds) * asked + clients as u64) * (4 * 144 + 2 * 180)
}

/// What it takes to keep a run on disk: what the file holds in memory, and one student on its way.
fn journal(largest: u64) -> u64 {
    2 * CACHE as u64 + 16 * largest
}

/// What this process holds now, in bytes, where the system says so: Linux does. Elsewhere a bound is
/// of what a run adds.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    // The most so far: what is free by now may not have been given back.
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
