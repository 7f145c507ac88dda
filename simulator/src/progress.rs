use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Tells how far a run is: a bar on a terminal, a line a round otherwise.
#[derive(Clone, Debug)]
pub struct Progress(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Silent,
    Lines { what: String, rounds: u32 },
    Bar(ProgressBar),
}

impl Progress {
    /// Tells nothing.
    pub fn silent() -> Self {
        Self(Kind::Silent)
    }

    /// Tells of `what`, which has so many rounds, on standard error.
    pub fn new(what: &str, rounds: u32) -> Self {
        if !std::io::stderr().is_terminal() {
            let what = what.to_owned();
            return Self(Kind::Lines { what, rounds });
        }
        let bar = ProgressBar::new(rounds.into());
        let style = ProgressStyle::with_template("{prefix:14} [{bar:30}] {pos:>3}/{len} {msg}");
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Kind::Bar(bar))
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
        match &self.0 {
            Kind::Silent => {}
            Kind::Lines { rounds, .. } if round >= *rounds => {}
            Kind::Lines { what, rounds } => {
                eprintln!("{what}: round {} of {rounds}: {told}", round + 1);
            }
            Kind::Bar(bar) => {
                bar.set_position(u64::from(round) + 1);
                bar.set_message(told);
            }
        }
    }

    /// A pass over samples is done.
    pub fn epoch(&self, epoch: u32, epochs: u32, loss: f32) {
        match &self.0 {
            Kind::Silent => {}
            Kind::Lines { what, .. } if epoch == epochs => {
                eprintln!("{what}: epoch {epoch} of {epochs}: loss {loss:.3}");
            }
            Kind::Lines { .. } => {}
            Kind::Bar(bar) => {
                bar.set_position(epoch.into());
                bar.set_message(format!("loss {loss:.3}"));
            }
        }
    }

    /// The run is over.
    pub fn finish(&self) {
        if let Kind::Bar(bar) = &self.0 {
            bar.finish();
        }
    }
}
