use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Tells how far a run is: a bar on a terminal, a line a round otherwise.
#[derive(Clone, Debug)]
pub struct Progress {
    kind: Kind,
    /// When the first round began, of those that are done here.
    begun: Instant,
    /// Rounds that were done before.
    before: u32,
}

#[derive(Clone, Debug)]
enum Kind {
    Silent,
    Lines { what: String, rounds: u32 },
    Bar(ProgressBar),
    Passing(ProgressBar),
}

impl Progress {
    /// Tells nothing.
    pub fn silent() -> Self {
        Self::of(Kind::Silent)
    }

    fn of(kind: Kind) -> Self {
        let begun = Instant::now();
        let before = 0;
        Self {
            kind,
            begun,
            before,
        }
    }

    /// Goes on after so many rounds.
    #[must_use]
    pub fn after(&self, rounds: u32) -> Self {
        Self {
            kind: self.kind.clone(),
            begun: Instant::now(),
            before: rounds,
        }
    }

    /// What is left, if rounds go on taking as long as those done have taken on average.
    fn left(&self, done: u32, of: u32) -> String {
        let here = done.saturating_sub(self.before).max(1);
        let left = f64::from(of.saturating_sub(done)) / f64::from(here);
        time_left(self.begun.elapsed().as_secs_f64() * left)
    }

    /// Tells of `what`, which has so many rounds, on standard error.
    pub fn new(what: &str, rounds: u32) -> Self {
        if !std::io::stderr().is_terminal() {
            let what = what.to_owned();
            return Self::of(Kind::Lines { what, rounds });
        }
        Self::of(Kind::Bar(Self::bar(what, rounds)))
    }

    /// Tells of `what`, one of many, on a terminal alone, and leaves nothing there when it is over.
    pub fn passing(what: &str, rounds: u32) -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::of(Kind::Passing(Self::bar(what, rounds))),
            false => Self::silent(),
        }
    }

    fn bar(what: &str, rounds: u32) -> ProgressBar {
        let bar = ProgressBar::new(rounds.into());
        let style = ProgressStyle::with_template("{prefix:14} [{bar:30}] {pos:>3}/{len} {msg}");
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A round is done.
    pub fn round(&self, round: u32, students: f64, teacher: Option<f64>) {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let teacher = teacher.map(|t| format!(", teacher {}", percent(t)));
        let told = format!(
            "students {}{}",
            percent(students),
            teacher.unwrap_or_default()
        );
        match &self.kind {
            Kind::Silent => {}
            Kind::Lines { rounds, .. } if round >= *rounds => {}
            Kind::Lines { what, rounds } => {
                let done = round + 1;
                let left = self.left(done, *rounds);
                tell(format_args!(
                    "{what}: round {done} of {rounds}: {told}{left}"
                ));
            }
            Kind::Bar(bar) | Kind::Passing(bar) => {
                bar.set_position(u64::from(round) + 1);
                let left = self.left(round + 1, bar.length().unwrap_or(0) as u32);
                bar.set_message(told + &left);
            }
        }
    }

    /// Something that a person should know before the run.
    pub fn note(&self, note: &str) {
        match &self.kind {
            Kind::Silent | Kind::Passing(_) => {}
            Kind::Lines { what, .. } => tell(format_args!("{what}: {note}")),
            Kind::Bar(bar) => bar.println(note),
        }
    }

    /// A pass over samples is done.
    pub fn epoch(&self, epoch: u32, epochs: u32, loss: f32) {
        match &self.kind {
            Kind::Silent => {}
            Kind::Lines { what, .. } if epoch == epochs => {
                tell(format_args!(
                    "{what}: epoch {epoch} of {epochs}: loss {loss:.3}"
                ));
            }
            Kind::Lines { .. } => {}
            Kind::Bar(bar) | Kind::Passing(bar) => {
                bar.set_position(epoch.into());
                bar.set_message(format!("loss {loss:.3}{}", self.left(epoch, epochs)));
            }
        }
    }

    /// The run is over.
    pub fn finish(&self) {
        match &self.kind {
            Kind::Bar(bar) => bar.finish(),
            Kind::Passing(bar) => bar.finish_and_clear(),
            Kind::Silent | Kind::Lines { .. } => {}
        }
    }
}

/// So many seconds that are left, for people; nothing where it is less than one.
pub(crate) fn time_left(seconds: f64) -> String {
    match seconds.round() {
        seconds if seconds >= 5400.0 => format!(", about {:.1} h left", seconds / 3600.0),
        seconds if seconds >= 90.0 => format!(", about {:.0} min left", seconds / 60.0),
        seconds if seconds >= 1.0 => format!(", about {seconds:.0} s left"),
        _ => String::new(),
    }
}

/// A line on standard error; whoever read it may have left, which ends no run.
fn tell(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
