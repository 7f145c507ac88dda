//! Many clients in this process, in groups that come and leave together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fedistill_check::ClientRecord;
use fedistill_client::{Client, Event};
use fedistill_learning::seed;
use fedistill_tests::{Device, Diary, Handmade};
use fedistill_transport::quic::QuicDialer;
use rand::RngExt;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Classes of its federation.
const CLASSES: usize = 10;

/// All devices of a federation, connected or not.
pub(crate) struct Fleet {
    federation: Handmade,
    devices: Vec<Device>,
    /// The longest that a client trains.
    pace: f64,
    seed: u64,
    book: Mutex<Book>,
}

/// What clients have lived through, all together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Times that one was let in.
    pub(crate) connected: usize,
    /// Times that one has lost its connection, or found none.
    pub(crate) lost: usize,
    /// Contributions that count.
    pub(crate) counted: usize,
}

#[derive(Default)]
struct Book {
    tally: Tally,
    /// What each device answered, and was told to count.
    diaries: Vec<Diary>,
}

impl Fleet {
    /// So many devices of a federation that asks about `rows` samples, which train up to `pace` seconds.
    pub(crate) fn new(devices: usize, rows: u32, pace: f64, seed: u64) -> Self {
        let federation = Handmade::new(CLASSES, rows);
        let enrolled = (0..devices).map(|number| federation.enrol(number));
        Self {
            devices: enrolled.collect(),
            federation,
            pace,
            seed,
            book: Mutex::new(Book {
                tally: Tally::default(),
                diaries: vec![Diary::default(); devices],
            }),
        }
    }

    pub(crate) fn federation(&self) -> &Handmade {
        &self.federation
    }

    /// Counters and lists are whole at any time.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.book().tally
    }

    fn hear(&self, number: usize, event: &Event) {
        let blob = || self.federation.student(number).digest();
        let mut book = self.book();
        match event {
            Event::Connected { .. } => book.tally.connected += 1,
            Event::Lost { .. } => book.tally.lost += 1,
            // Whatever it is asked, it says the same.
            Event::Training(id) => book.diaries[number].answers(*id, blob()),
            Event::Counted { id, .. } => {
                book.tally.counted += 1;
                book.diaries[number].counts(*id, blob());
            }
            _ => {}
        }
    }

    fn client(self: &Arc<Self>, number: usize, address: &str) -> Client {
        let device = &self.devices[number];
        let dialer = QuicDialer::new(address.to_owned(), None, &device.identity).unwrap();
        let mut rng = seed::stream(self.seed, &format!("training/{}", device.name));
        let pace = Duration::from_secs_f64(self.pace);
        let student = self.federation.student(number);
        let student = student.taking(move || pace.mul_f64(rng.random()));
        let fleet = Arc::clone(self);
        let client = self.federation.client(device, student, dialer);
        client.telling(move |event| fleet.hear(number, &event))
    }

    /// Has these devices connect to the coordinator at `address`, each from a socket of its own.
    pub(crate) fn board(self: &Arc<Self>, devices: Vec<usize>, address: &str) -> Ward {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let members = devices.into_iter().map(|number| {
            let client = self.client(number, address);
            let stop = CancellationToken::new();
            let until = stop.clone();
            let life = runtime.spawn(async move {
                // The coordinator does not end while it is here, and welcomes it.
                client.run_until(until).await.unwrap();
            });
            Member { number, stop, life }
        });
        Ward {
            members: members.collect(),
            runtime,
        }
    }

    /// What each device can hold the coordinator to: which of its answers it was told to count.
    pub(crate) fn receipts(&self) -> Vec<ClientRecord> {
        let book = self.book();
        let devices = self.devices.iter().zip(&book.diaries);
        let records = devices.map(|(device, diary)| diary.record(&device.name));
        records.collect()
    }
}

/// Devices that come and leave together, on a runtime of their own.
pub(crate) struct Ward {
    members: Vec<Member>,
    runtime: Runtime,
}

struct Member {
    number: usize,
    stop: CancellationToken,
    life: JoinHandle<()>,
}

impl Ward {
    /// How many they are.
    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// Has them leave: this share of them says so, all others are
    /// gone at once, sockets and all. Which devices those were.
    pub(crate) async fn leave(self, polite: f64) -> Vec<usize> {
        let Self { members, runtime } = self;
        let numbers = members.iter().map(|member| member.number).collect();
        let count = (members.len() as f64 * polite).ceil() as usize;
        let mut leaving = Vec::new();
        for member in members.into_iter().take(count) {
            member.stop.cancel();
            leaving.push(member.life);
        }
        for life in leaving {
            life.await.unwrap();
        }
        runtime.shutdown_background();
        numbers
    }
}
