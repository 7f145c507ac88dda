//! A coordinator that is gone and back: how soon are all its clients, and is one turned away for good?

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fedistill_client::{ClientError, Ended, Event};
use fedistill_tests::{Device, Diary, Handmade, Quiet, Running, Vitals, judge};
use fedistill_transport::quic::{Manner, QuicDialer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::all::came_to;

/// Have a coordinator go and come back, and tell when its clients are back. They are the library's, each with
/// a socket, a backoff and a keep-alive of its own. Ends with exit code 1 if one is turned away for good, or
/// they take too long. When it has gone for the last time, it opens rounds for all of them: one must come about, and nothing be
/// lost or counted twice.
#[derive(Debug, clap::Args)]
pub(crate) struct Reconnect {
    /// How many clients.
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// All are to be back so many seconds after the coordinator is, or, where it was killed, after they can know: a keep-alive later.
    #[arg(long, default_value_t = 10.0)]
    within: f64,
    /// How the coordinator goes.
    #[arg(long, value_enum, default_value_t = Going::Killed)]
    going: Going,
    /// How long it is away, in seconds.
    #[arg(long, default_value_t = 1.0)]
    away: f64,
    /// How often it goes.
    #[arg(long, default_value_t = 3)]
    times: usize,
    /// Clients give a sign of life after so long a silence, in seconds: a coordinator that was killed is missed by then.
    #[arg(long, default_value_t = 10.0)]
    keep_alive: f64,
}

/// How a coordinator goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Going {
    /// With kill -9: clients find out by themselves.
    Killed,
    /// With SIGTERM: all are told at once, and all come back at once.
    Stopped,
}

/// What clients have lived through since it was looked at last.
#[derive(Default)]
struct Heard {
    /// When each was let in first.
    connected: BTreeMap<usize, Instant>,
    /// Tries that came to nothing, and why.
    lost: Vec<String>,
}

/// A deadline that nobody comes near to.
const DEADLINE: Duration = Duration::from_secs(120);

impl Reconnect {
    /// Runs it.
    pub(crate) fn run(&self) -> ExitCode {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        match runtime.block_on(self.storm()) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    async fn storm(&self) -> bool {
        let federation = Handmade::new(10, 10);
        // More than will ever come: nothing happens but that they do.
        let hosted = federation.hosted(1, "least = 1\nopen-with = 1000000\n");
        let (mut coordinator, address) = hosted.start("127.0.0.1:0");
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let diaries: Arc<Mutex<Vec<Diary>>> =
            Arc::new(Mutex::new(vec![Diary::default(); self.clients]));
        let mut names = Vec::new();
        let stop = CancellationToken::new();
        let mut lives = JoinSet::new();
        for number in 0..self.clients {
            let device = federation.enrol(number);
            names.push(device.name.clone());
            let blob = federation.student(number).digest();
            let diaries = Arc::clone(&diaries);
            let client = federation.client(
                &device,
                federation.student(number),
                self.dialer(&device, &address),
            );
            let heard = Arc::clone(&heard);
            let client = client.telling(move |event| {
                let mut diaries = lock(&diaries);
                match event {
                    // Whatever it is asked, it says the same.
                    Event::Training(id) => diaries[number].answers(id, blob),
                    Event::Counted { id, .. } => diaries[number].counts(id, blob),
                    event => hear(&heard, number, event),
                }
            });
            lives.spawn(client.run_until(stop.clone()));
            // Not all at once: a thousand handshakes that wait for one processor would seem long ways to clients,
            // which then try again after seconds.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut fine = self.wait(&heard).await.is_some();
        println!(
            "| time | half | 90 % | 99 % | all back after | tries that failed | the coordinator's time | turned away for good |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        let mut told = Vec::new();
        for time in 1..=self.times {
            // As clients are that have been there for a while: each has said once that it is there.
            tokio::time::sleep(Duration::from_secs_f64(1.2 * self.keep_alive)).await;
            *lock(&heard) = Heard::default();
            self.go(coordinator);
            tokio::time::sleep(Duration::from_secs_f64(self.away)).await;
            let back = Instant::now();
            (coordinator, _) = hosted.start(&address);
            let Some(Heard { connected, lost }) = self.wait(&heard).await else {
                fine = false;
                break;
            };
            let mut connected: Vec<Instant> = connected.into_values().collect();
            connected.sort();
            let after = |share: f64| {
                let at = (share * connected.len() as f64).ceil() as usize - 1;
                connected[at].saturating_duration_since(back).as_secs_f64()
            };
            let mut gone = 0;
            while let Some(ended) = lives.try_join_next() {
                println!("  one has ended: {:?}", ended.unwrap());
                gone += 1;
            }
            let ran = Vitals::of(coordinator.id()).unwrap().ran.as_secs_f64();
            println!(
                "| {time} | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {} | {ran:.2} s | {gone} |",
                after(0.5),
                after(0.9),
                after(0.99),
                after(1.0),
                lost.len(),
            );
            tally(&lost);
            told.push(format!(
                "half after {:.1} s, 99 % after {:.1} s, all after {:.1} s, {gone} turned away for good",
                after(0.5),
                after(0.99),
                after(1.0)
            ));
            fine &= gone == 0 && after(1.0) <= self.allowed();
        }
        if fine {
            self.go(coordinator);
            let all = format!(
                "least = {clients}\ncohort = {clients}\nopen-with = {clients}\nleast-seconds = {most}\nmost-seconds = {most}\nsilence-seconds = {most}\n",
                clients = self.clients,
                most = DEADLINE.as_secs(),
            );
            federation.configure(&hosted, 1_000_000, &all);
            let quiet = Quiet::begins(2 * DEADLINE);
            let (mut last, _) = hosted.start(&address);
            last.wait_for(" is over, with ");
            stop.cancel();
            while let Some(ended) = lives.join_next().await {
                fine &= matches!(ended.unwrap(), Ok(Ended::Stopped));
            }
            end(last);
            let diaries = lock(&diaries);
            let clients = names.iter().zip(diaries.iter());
            let clients = clients.map(|(name, diary)| diary.record(name)).collect();
            let (report, _) = judge(&hosted.state(), clients, Some(quiet));
            println!("{report}");
            told.push(report.to_string());
            fine &= report.broken.is_empty() && report.committed > 0 && report.receipts > 0;
        }
        came_to(&told.join("; "));
        stop.cancel();
        while let Some(ended) = lives.join_next().await {
            let ended: Result<Ended, ClientError> = ended.unwrap();
            fine &= matches!(ended, Ok(Ended::Stopped));
        }
        fine
    }

    /// Has the coordinator go.
    fn go(&self, coordinator: Running) {
        match self.going {
            Going::Killed => coordinator.kill(),
            Going::Stopped => end(coordinator),
        }
    }

    /// Seconds in which all are to be back.
    fn allowed(&self) -> f64 {
        match self.going {
            Going::Killed => self.keep_alive + self.within,
            Going::Stopped => self.within,
        }
    }

    fn dialer(&self, device: &Device, address: &str) -> QuicDialer {
        let manner = Manner {
            keep_alive: Duration::from_secs_f64(self.keep_alive),
            ..Manner::default()
        };
        let dialer = QuicDialer::new(address.to_owned(), None, &device.identity).unwrap();
        dialer.with(manner, &device.identity).unwrap()
    }

    /// Waits until all clients were let in, and returns what they have lived through; `None` where that never comes.
    async fn wait(&self, heard: &Mutex<Heard>) -> Option<Heard> {
        let end = Instant::now() + Duration::from_secs(120);
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut heard = lock(heard);
            if heard.connected.len() >= self.clients {
                return Some(std::mem::take(&mut heard));
            }
        }
        let Heard { connected, lost } = std::mem::take(&mut *lock(heard));
        println!(
            "{} of {} are back after two minutes",
            connected.len(),
            self.clients
        );
        tally(&lost);
        None
    }
}

/// Stops the coordinator.
fn end(coordinator: Running) {
    coordinator.terminate();
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hear(heard: &Mutex<Heard>, number: usize, event: Event) {
    let mut heard = lock(heard);
    match event {
        Event::Connected { .. } => {
            heard.connected.entry(number).or_insert_with(Instant::now);
        }
        Event::Lost { why, .. } => heard.lost.push(why),
        _ => {}
    }
}

/// Prints how often each reason was given.
fn tally(lost: &[String]) {
    let mut reasons = BTreeMap::new();
    for why in lost {
        *reasons.entry(why).or_insert(0) += 1;
    }
    for (why, count) in reasons {
        println!("  {count} times: {why}");
    }
}
