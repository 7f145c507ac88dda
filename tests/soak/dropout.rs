//! Clients that drop out of rounds: how many rounds come about, and how soon?

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fedistill_check::{ClientRecord, Report};
use fedistill_learning::seed;
use fedistill_protocol::{Digest, Heartbeat, Message, RoundId};
use fedistill_tests::{Device, Diary, Handmade, Puppet, Relay, Weather, judge};
use fedistill_transport::TransportError;
use fedistill_transport::quic::QuicDialer;
use rand::RngExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::all::came_to;

/// Have a share of clients drop out of each round, and tell how many rounds have their quorum, and how soon. A
/// client that drops out says nothing more in the round; all others give hand-made answers after a time that is drawn: log-normal,
/// sigma 0.5. Limits follow from a unit, the median of that time and ten times the delay: a round may close with its quorum (80 % of
/// the cohort) after 4 units, ends after 20, and does not wait for who is silent for 6. A round without its
/// quorum is not begun anew here. Each line is a coordinator and a store of its own. Ends with exit code 1 if clearly fewer rounds
/// of a line had it than chance gives, or anything was lost or counted twice.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Dropout {
    /// Shares of those asked that drop out: lines for each.
    #[arg(long, value_delimiter = ',', default_value = "0,0.1,0.2,0.3,0.4,0.5")]
    dropout: Vec<f64>,
    /// How many times the cohort is asked: a line for each.
    #[arg(long, value_delimiter = ',', default_value = "1,1.3,2")]
    over_selection: Vec<f64>,
    /// The contributions that a round aims for.
    #[arg(long, default_value_t = 20)]
    cohort: usize,
    /// Clients that are connected; those asked are drawn from them.
    #[arg(long, default_value_t = 60)]
    clients: usize,
    /// Rounds of each line.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Median of the time that a client takes, in seconds.
    #[arg(long, default_value_t = 0.25)]
    median: f64,
    /// Share of datagrams that is lost, each way.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// By how many milliseconds each datagram is late, each way; half of that more for some.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Lines that are measured at a time.
    #[arg(long, default_value_t = 3)]
    at_once: usize,
    /// What follows from it: who drops out, and how long others take.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Cell {
    dropout: f64,
    over_selection: f64,
}

/// What came of it.
struct Outcome {
    /// Whether each round had its quorum, and the milliseconds that it took.
    rounds: Vec<(bool, u64)>,
    /// What was kept, held against what clients have heard.
    report: Report,
}

/// When a client first heard of each round, in milliseconds since 1970.
type Opened = Mutex<BTreeMap<RoundId, u64>>;

impl Dropout {
    /// Runs it.
    pub(crate) fn run(&self) -> ExitCode {
        let cells = self.dropout.iter().flat_map(|&dropout| {
            let factors = self.over_selection.iter();
            factors.map(move |&over_selection| Cell {
                dropout,
                over_selection,
            })
        });
        let cells: Vec<Cell> = cells.collect();
        let next = AtomicUsize::new(0);
        let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..self.at_once.max(1) {
                scope.spawn(|| {
                    while let index = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(cell) = cells.get(index)
                    {
                        let outcome = self.measure(*cell);
                        lock(&outcomes).insert(index, outcome);
                    }
                });
            }
        });
        let outcomes = outcomes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        println!("| drop out | asked | rounds with their quorum | by chance | p50 | p95 | p99 |");
        println!("|---|---|---|---|---|---|---|");
        let mut fine = true;
        let mut told = Vec::new();
        for (cell, outcome) in cells.iter().zip(outcomes.values()) {
            let (well, short) = self.tell(*cell, outcome);
            fine &= well;
            told.push(short);
        }
        came_to(&format!(
            "rounds with their quorum, and their median: {}",
            told.join("; ")
        ));
        match fine {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    fn least(&self) -> usize {
        (self.cohort * 4).div_ceil(5)
    }

    fn asked(&self, cell: Cell) -> usize {
        (cell.over_selection * self.cohort as f64 - 1e-6).ceil() as usize
    }

    fn unit(&self) -> f64 {
        self.median + 10.0 * self.delay_ms as f64 / 1e3
    }

    /// One federation, until it had its rounds.
    fn measure(&self, cell: Cell) -> Outcome {
        let federation = Arc::new(Handmade::new(10, 100));
        let (unit, over_selection) = (self.unit(), cell.over_selection);
        let round = format!(
            "least = {least}\ncohort = {cohort}\nover-selection = {over_selection}\nopen-with = {clients}\nleast-seconds = {early}\nmost-seconds = {most}\nsilence-seconds = {silence}\nmissed = \"settle\"\n",
            least = self.least(),
            cohort = self.cohort,
            clients = self.clients,
            early = 4.0 * unit,
            most = 20.0 * unit,
            silence = 6.0 * unit,
        );
        let hosted = federation.hosted(1_000_000, &round);
        let (mut coordinator, address) = hosted.start("127.0.0.1:0");
        let delay = Duration::from_millis(self.delay_ms);
        let weather = Weather {
            loss: self.loss,
            delay,
            jitter: delay / 2,
            ..Weather::default()
        };
        let is_calm = self.loss == 0.0 && self.delay_ms == 0;
        let relay = (!is_calm).then(|| Relay::new(&address, weather, self.seed));
        let address = relay.as_ref().map_or(address.as_str(), Relay::address);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let opened: Arc<Opened> = Arc::default();
        let mut diaries = Vec::new();
        for number in 0..self.clients {
            let diary: Arc<Mutex<Diary>> = Arc::default();
            let device = federation.enrol(number);
            diaries.push((device.name.clone(), Arc::clone(&diary)));
            let actor = Actor {
                federation: Arc::clone(&federation),
                device,
                diary,
                packed: federation.student(number).packed().into(),
                address: address.to_owned(),
                opened: Arc::clone(&opened),
                dropout: cell.dropout,
                median: self.median,
                alive: Duration::from_secs_f64(2.0 * unit),
                seed: self.seed,
            };
            runtime.spawn(actor.run());
        }
        for _ in 0..self.rounds {
            coordinator.wait_for(" is over, with ");
        }
        coordinator.terminate();
        let ended = coordinator.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
        runtime.shutdown_background();
        let clients = diaries.iter().map(|(name, diary)| lock(diary).record(name));
        let clients: Vec<ClientRecord> = clients.collect();
        let (report, history) = judge(&hosted.state(), clients, None);
        let opened = lock(&opened);
        let rounds = history.iter().take(self.rounds).map(|closed| {
            let count = closed
                .outcome
                .as_ref()
                .map_or(0, |outcome| outcome.contributors.len());
            let took = opened
                .get(&closed.id)
                .map_or(0, |begun| closed.at.saturating_sub(*begun));
            (count >= self.least(), took)
        });
        Outcome {
            rounds: rounds.collect(),
            report,
        }
    }

    /// Prints a line; whether about as many rounds as chance gives had their quorum and nothing was lost, and the line in short.
    fn tell(&self, cell: Cell, outcome: &Outcome) -> (bool, String) {
        let with = outcome.rounds.iter().filter(|(had, _)| *had);
        let mut times: Vec<u64> = with.map(|(_, took)| *took).collect();
        times.sort_unstable();
        let quantile = |share: f64| {
            let at = (share * times.len() as f64).ceil() as usize;
            match times.get(at.saturating_sub(1)) {
                Some(time) => format!("{:.2} s", *time as f64 / 1e3),
                None => "-".to_owned(),
            }
        };
        let (asked, count) = (self.asked(cell), outcome.rounds.len() as f64);
        let chance = at_least(self.least(), asked, 1.0 - cell.dropout);
        println!(
            "| {:.0} % | {asked} for {} | {:.0} % of {} | {:.0} % | {} | {} | {} |",
            100.0 * cell.dropout,
            self.cohort,
            100.0 * times.len() as f64 / count,
            outcome.rounds.len(),
            100.0 * chance,
            quantile(0.5),
            quantile(0.95),
            quantile(0.99),
        );
        let (mean, deviation) = (count * chance, (count * chance * (1.0 - chance)).sqrt());
        let had = times.len() as f64 >= mean - 4.0 * deviation - 1.0;
        let Report {
            broken, receipts, ..
        } = &outcome.report;
        for broken in broken {
            println!("  broken: {}: {}", broken.invariant, broken.how);
        }
        let short = format!(
            "{:.0} % drop out of {asked} for {}: {:.0} %, {}",
            100.0 * cell.dropout,
            self.cohort,
            100.0 * times.len() as f64 / count,
            quantile(0.5)
        );
        (had && broken.is_empty() && *receipts > 0, short)
    }
}

/// The probability of `least` successes or more in so many trials.
fn at_least(least: usize, trials: usize, success: f64) -> f64 {
    // One trial more at a time; `chances[k]`: of k successes so far.
    let mut chances = vec![1.0];
    for _ in 0..trials {
        let mut next = vec![0.0; chances.len() + 1];
        for (count, chance) in chances.iter().enumerate() {
            next[count] += chance * (1.0 - success);
            next[count + 1] += chance * success;
        }
        chances = next;
    }
    chances.iter().skip(least).sum()
}

/// A client that answers, or drops out.
struct Actor {
    federation: Arc<Handmade>,
    device: Device,
    diary: Arc<Mutex<Diary>>,
    packed: Arc<[u8]>,
    address: String,
    opened: Arc<Opened>,
    dropout: f64,
    /// Of the time that it takes, in seconds.
    median: f64,
    /// Time between two signs of life.
    alive: Duration,
    seed: u64,
}

impl Actor {
    /// Takes part until it is dropped.
    async fn run(self) {
        let dialer = QuicDialer::new(self.address.clone(), None, &self.device.identity).unwrap();
        loop {
            // On a bad network a connection may break, or not come about.
            let _ = self.session(&dialer).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn session(&self, dialer: &QuicDialer) -> Result<(), TransportError> {
        let (name, classes) = (self.federation.name(), self.federation.classes());
        let mut puppet = Puppet::connect(dialer, name, classes).await?;
        let mut job: Option<(RoundId, Instant)> = None;
        let mut beat = interval(self.alive);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = job.map_or_else(Instant::now, |(_, due)| due);
            tokio::select! {
                message = puppet.next() => match message {
                    Some(Message::Plan(plan)) => {
                        lock(&self.opened).entry(plan.id).or_insert_with(now);
                        job = self.takes(plan.id).map(|takes| (plan.id, Instant::now() + takes));
                    }
                    Some(Message::Receipt(receipt)) => lock(&self.diary).counts(receipt.id, receipt.blob),
                    Some(_) => {}
                    None => return Ok(()),
                },
                () = sleep_until(due), if job.is_some() => {
                    if let Some((id, _)) = job.take() {
                        lock(&self.diary).answers(id, Digest::of(&self.packed));
                        puppet.contribute(id, &self.packed).await?;
                    }
                }
                _ = beat.tick(), if job.is_some() => {
                    if let Some((id, _)) = job {
                        puppet.writer.send(&Heartbeat { id }.into()).await?;
                    }
                }
            }
        }
    }

    /// How long it takes for a round; `None` where it drops out.
    fn takes(&self, id: RoundId) -> Option<Duration> {
        let mut rng = seed::stream(self.seed, &format!("dropout/{}/{id}", self.device.name));
        if rng.random::<f64>() < self.dropout {
            return None;
        }
        // Box and Muller 1958.
        let (radius, angle): (f64, f64) = (rng.random(), rng.random());
        let normal = (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        Some(Duration::from_secs_f64(self.median * (0.5 * normal).exp()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}
