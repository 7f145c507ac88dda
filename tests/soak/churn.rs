//! Clients that leave and come for hours: does the coordinator's memory grow, or do its descriptors?

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedistill_learning::seed;
use fedistill_tests::{Running, Vitals, judge};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::all::came_to;
use crate::fleet::{Fleet, Ward};
use crate::series::{Sample, Series};

/// Have clients leave and come for hours, and watch the coordinator's memory and descriptors. Twice as many devices
/// are enrolled as are connected at a time. In each period a group of them leaves, half of it without a word, as
/// devices do whose battery is empty, and as many of those that were away come. Ends with exit code 1 if anything was lost or counted
/// twice, descriptors have grown, or, over an hour or more, memory has by over 1 MB an hour. Ctrl-C ends it early, with all that it prints.
#[derive(Debug, clap::Args)]
pub(crate) struct Churn {
    /// Clients that are connected at a time.
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// Share of them that leaves in each period, 0.01 to 1.
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    churn: f64,
    /// Length of a period, in seconds.
    #[arg(long, default_value_t = 60.0)]
    period: f64,
    /// How long it goes on.
    #[arg(long, default_value_t = 2.0)]
    hours: f64,
    /// The same in minutes, in place of hours.
    #[arg(long)]
    minutes: Option<f64>,
    /// What counts as a warm-up, in minutes: no slope is taken from it. A third of the whole at the most.
    #[arg(long, default_value_t = 30.0)]
    warm_up: f64,
    /// The longest that a client trains, in seconds: each time from nothing to this, all as likely. A round takes about so long.
    #[arg(long, default_value_t = 10.0)]
    pace: f64,
    /// Transfer samples that a contribution speaks about, 10 values each.
    #[arg(long, default_value_t = 100)]
    rows: u32,
    /// Time between two looks at the coordinator's process, in seconds.
    #[arg(long, default_value_t = 10.0)]
    every: f64,
    /// Write what was seen to this file, as CSV.
    #[arg(long)]
    samples: Option<PathBuf>,
    /// What training times, and who leaves and comes, follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "write a number")?;
    match (0.01..=1.0).contains(&share) {
        true => Ok(share),
        false => Err("write a share from 0.01 to 1".to_owned()),
    }
}

/// Lines that are printed between two samples of the coordinator, at the most.
const QUIET: usize = 30;
/// The most that memory may grow by, in bytes an hour.
const GROWTH: f64 = 1e6;

impl Churn {
    /// Runs it.
    pub(crate) fn run(&self) -> ExitCode {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(self.soak())
    }

    fn lasts(&self) -> Duration {
        let seconds = self
            .minutes
            .map_or(self.hours * 3600.0, |minutes| minutes * 60.0);
        Duration::from_secs_f64(seconds)
    }

    /// What `[round]` says: a round closes with most of those that it asked, or with half of them once that takes
    /// three times as long as the slowest should.
    fn round(&self) -> String {
        let Self { clients, pace, .. } = self;
        format!(
            "least = {least}\ncohort = {cohort}\nover-selection = {over}\nopen-with = {least}\nleast-seconds = {wait}\nmost-seconds = {most}\nsilence-seconds = {most}\n",
            least = clients.div_ceil(2),
            cohort = (clients * 9).div_ceil(10),
            over = 1.25,
            wait = 3.0 * pace,
            most = (6.0 * pace).max(60.0),
        )
    }

    async fn soak(&self) -> ExitCode {
        let fleet = Arc::new(Fleet::new(
            2 * self.clients,
            self.rows,
            self.pace,
            self.seed,
        ));
        let hosted = fleet.federation().hosted(1_000_000, &self.round());
        let (mut coordinator, address) = hosted.start("127.0.0.1:0");
        let mut rng = seed::stream(self.seed, "churn");
        let mut away: Vec<usize> = (0..2 * self.clients).collect();
        away.shuffle(&mut rng);
        let groups = (1.0 / self.churn).round().max(1.0) as usize;
        let mut wards: Vec<Ward> = (0..groups)
            .map(|group| {
                let size = self.clients / groups + usize::from(group < self.clients % groups);
                fleet.board(away.split_off(away.len() - size), &address)
            })
            .collect();
        let series = self.watch(
            &fleet,
            &mut coordinator,
            &address,
            &mut wards,
            &mut away,
            &mut rng,
        );
        let series = series.await;
        for ward in wards {
            ward.leave(1.0).await;
        }
        coordinator.terminate();
        let ended = coordinator.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
        let (report, _) = judge(&hosted.state(), fleet.receipts(), None);
        println!("{report}");
        came_to(&report.to_string());
        let fine = self.judge(&series) && report.broken.is_empty() && report.committed > 0;
        match fine {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    /// Has groups leave and come, and looks at the coordinator, until it is time or one is told to stop.
    async fn watch(
        &self,
        fleet: &Arc<Fleet>,
        coordinator: &mut Running,
        address: &str,
        wards: &mut [Ward],
        away: &mut Vec<usize>,
        rng: &mut ChaCha20Rng,
    ) -> Series {
        let begun = Instant::now();
        let mut file = self
            .samples
            .as_ref()
            .map(|path| BufWriter::new(File::create(path).unwrap()));
        if let Some(file) = &mut file {
            writeln!(file, "{}", Sample::HEAD).unwrap();
        }
        let mut series = Series::default();
        let tick = |seconds: f64| {
            let every = Duration::from_secs_f64(seconds);
            let mut tick = interval_at(tokio::time::Instant::now() + every, every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        };
        let (mut look, mut turn) = (tick(self.every), tick(self.period));
        let end = tokio::time::sleep(self.lasts());
        tokio::pin!(end);
        let mut rounds = 0;
        loop {
            tokio::select! {
                () = &mut end => break,
                _ = tokio::signal::ctrl_c() => break,
                _ = look.tick() => {
                    rounds += coordinator.said().matches(" is over, with").count();
                    let vitals = Vitals::of(coordinator.id()).unwrap();
                    let sample = Sample {
                        at: begun.elapsed(),
                        vitals,
                        rounds,
                        tally: fleet.tally(),
                    };
                    if let Some(file) = &mut file {
                        writeln!(file, "{}", sample.line()).unwrap();
                        file.flush().unwrap();
                    }
                    if series.len() % QUIET == 0 {
                        println!("{sample}");
                    }
                    series.push(sample);
                }
                _ = turn.tick() => {
                    let leaving = rng.random_range(0..wards.len());
                    let size = wards[leaving].size();
                    away.shuffle(rng);
                    let coming = fleet.board(away.split_off(away.len() - size), address);
                    let left = std::mem::replace(&mut wards[leaving], coming);
                    away.extend(left.leave(0.5).await);
                }
            }
        }
        series
    }

    /// Prints what memory and descriptors have come to; whether that is as it should be.
    fn judge(&self, series: &Series) -> bool {
        let whole = series.ends().map_or(Duration::ZERO, |(_, last)| last.at);
        let warm_up = Duration::from_secs_f64(60.0 * self.warm_up).min(whole / 3);
        let settled = series.since(warm_up);
        let Some((first, last)) = settled.ends() else {
            println!("too short: nothing was seen");
            return false;
        };
        println!("{last}");
        println!(
            "{} clients, {} % of which leave and come each {} s, {:.1} minutes, the first {:.1} of them a warm-up",
            self.clients,
            100.0 * self.churn,
            self.period,
            last.at.as_secs_f64() / 60.0,
            warm_up.as_secs_f64() / 60.0
        );
        let long = last.at >= Duration::from_secs(3600);
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let (slope, error) = settled.slope();
        println!(
            "memory: {:.1} MB at first, {:.1} MB at last, {:.1} MB at the most; {:+.3} MB/h ({:.3} standard error)",
            megabytes(first.vitals.resident),
            megabytes(last.vitals.resident),
            megabytes(series.most(|sample| sample.vitals.resident)),
            slope / 1e6,
            error / 1e6
        );
        let most = series.most(|sample| sample.vitals.descriptors as u64);
        let (before, after) = (first.vitals.descriptors, last.vitals.descriptors);
        println!("descriptors: {before} at first, {after} at last, {most} at the most");
        came_to(&format!(
            "{:.1} MB after the warm-up, {:.1} MB at last{}; {before} descriptors, then {after}",
            megabytes(first.vitals.resident),
            megabytes(last.vitals.resident),
            // Of minutes, no slope tells anything.
            if long {
                format!(", {:+.3} MB/h", slope / 1e6)
            } else {
                String::new()
            }
        ));
        let ran = (last.vitals.ran - first.vitals.ran).as_secs_f64();
        let share = 100.0 * ran / (last.at - first.at).as_secs_f64().max(1e-9);
        println!("the coordinator took {share:.1} % of a core");
        let slow = !long || slope <= GROWTH;
        // One more may be open at the moment: the status, as it is written.
        slow && after <= before + 1
    }
}
