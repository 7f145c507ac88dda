//! `status.json`: what a coordinator is at, for `status` and for whoever watches.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fedistill_learning::checkpoint::write_whole;
use fedistill_learning::{Dataset, Evaluation};
use fedistill_program::lock;
use fedistill_protocol::{Name, RejectReason, RoundId};
use fedistill_transport::Traffic;
use serde::{Deserialize, Serialize};

use crate::trouble::Trouble;
use crate::{Ledger, Observer, Teacher};

/// Where a coordinator's life is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Rounds are run.
    Running,
    /// It was told to stop; started again, it goes on.
    Stopped,
    /// All rounds are done.
    Finished,
    /// It ended with an error; started again, it goes on.
    Failed,
    /// It ended without a word: killed, or its machine was. Started again, it goes on. Never
    /// written, only read.
    Died,
}

/// What a coordinator is at.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// Which federation.
    pub federation: String,
    /// Where its life is.
    pub stage: Stage,
    /// Rounds that are over.
    pub done: u32,
    /// Rounds that there are.
    pub rounds: u32,
    /// Who contributed to the last round.
    pub contributors: Vec<String>,
    /// What has crossed, of each client.
    #[serde(default)]
    pub ledger: Ledger,
    /// What the method has decided by itself so far, by name.
    #[serde(default)]
    pub decided: BTreeMap<String, f64>,
    /// How often rounds have missed their quorum.
    #[serde(default)]
    pub missed: MissedCounts,
    /// How many late contributions count in the round after their own.
    #[serde(default)]
    pub late: u64,
    /// How many contributions were refused since the federation began, by why.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// How good the teacher is, where there are held-out samples.
    pub teacher: Option<Evaluation>,
    /// When this was written, in seconds since 1970.
    pub updated: u64,
    /// The process.
    pub process: u32,
}

/// How often rounds have missed their quorum since the federation began, by what came of it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct MissedCounts {
    /// Tries that were given up, and opened again as the next.
    pub reopened: u64,
    /// Times that a try was given more time.
    pub extended: u64,
    /// Rounds that are over with fewer contributions than the quorum asks for.
    pub settled: u64,
}

/// Keeps `status.json` and the teacher's file up to date.
pub struct Bookkeeper {
    folder: PathBuf,
    held_out: Option<Dataset>,
    status: Status,
    /// Whether the status goes on from what the run before left: until then it must not be written.
    has_started: bool,
    /// What keeps each of the two from being written.
    troubles: Troubles,
}

#[derive(Default)]
struct Troubles {
    status: Trouble,
    teacher: Trouble,
}

impl Bookkeeper {
    /// One that writes to `folder`, and reports how good the teacher is on `held_out`.
    pub fn new(folder: &Path, federation: &Name, rounds: u32, held_out: Option<Dataset>) -> Self {
        Self {
            folder: folder.to_owned(),
            held_out,
            status: Status {
                federation: federation.to_string(),
                stage: Stage::Running,
                done: 0,
                rounds,
                contributors: Vec::new(),
                ledger: Ledger::default(),
                decided: BTreeMap::new(),
                missed: MissedCounts::default(),
                late: 0,
                refused: BTreeMap::new(),
                teacher: None,
                updated: 0,
                process: std::process::id(),
            },
            has_started: false,
            troubles: Troubles::default(),
        }
    }

    fn update(&mut self, teacher: Option<&mut dyn Teacher>) {
        let Some(teacher) = teacher else {
            return self.write();
        };
        if let Some(held_out) = &self.held_out
            && let Ok(logits) = teacher.logits(held_out.samples())
        {
            let classes = held_out.classes().len();
            let evaluation = Evaluation::of(&logits, held_out.labels(), classes);
            tracing::info!("teacher, held-out: {evaluation}");
            self.status.teacher = Some(evaluation);
        }
        let path = self.folder.join(TEACHER);
        note(&mut self.troubles.teacher, &path, teacher.save(&path));
        self.write();
    }

    fn write(&mut self) {
        self.status.updated = now();
        let path = self.folder.join(STATUS);
        let written = write(&self.folder, &self.status)
            .map_err(|error| format!("cannot write {}: {error}", path.display()));
        note(&mut self.troubles.status, &path, written);
    }
}

/// Tells what came of writing this file, where that is news.
fn note(trouble: &mut Trouble, path: &Path, written: Result<(), impl std::fmt::Display>) {
    let now = Instant::now();
    match written {
        Ok(()) => {
            if let Some(failed) = trouble.passed(now) {
                let (path, seconds) = (path.display(), failed.as_secs());
                tracing::info!("{path} is written again, after {seconds} s");
            }
        }
        Err(error) if trouble.failed(now) => {
            tracing::error!("{error}: tried again after each round");
        }
        Err(_) => {}
    }
}

impl Observer for Bookkeeper {
    fn started(&mut self, round: u32, teacher: Option<&mut dyn Teacher>) {
        self.status.done = round;
        // What goes on after a stop goes on counting.
        if let Ok(before) = last(&self.folder)
            && before.federation == self.status.federation
            && (round > 0 || before.done == 0)
        {
            self.status.ledger = before.ledger;
            self.status.missed = before.missed;
            self.status.late = before.late;
            self.status.refused = before.refused;
        }
        self.has_started = true;
        self.update(teacher);
    }

    fn finished(&mut self) {
        self.status.stage = Stage::Finished;
        self.write();
    }

    fn models(&mut self, parameters: &BTreeMap<Name, u64>) {
        self.status.ledger.models(parameters);
    }

    fn crossed(&mut self, _: RoundId, traffic: &dyn Fn() -> BTreeMap<Name, Traffic>) {
        self.status.ledger.close(traffic());
    }

    fn broken_off(&mut self, traffic: &dyn Fn() -> BTreeMap<Name, Traffic>) {
        if self.has_started {
            self.status.ledger.count(traffic());
            self.write();
        }
    }

    fn decided(&mut self, decided: &BTreeMap<String, f64>) {
        self.status.decided.clone_from(decided);
    }

    fn round_extended(&mut self, _: RoundId, _: u32) {
        self.status.missed.extended += 1;
        self.write();
    }

    fn round_settled(&mut self, _: RoundId, _: usize) {
        self.status.missed.settled += 1;
    }

    fn refused(&mut self, _: &Name, reason: RejectReason) {
        let why = match reason {
            RejectReason::Conflict => "another answer than before",
            RejectReason::TooLate => "too late",
            RejectReason::WrongRound => "of another round",
            RejectReason::NotSelected => "not asked",
            RejectReason::Malformed => "malformed",
            _ => "other",
        };
        *self.status.refused.entry(why.to_owned()).or_default() += 1;
    }

    fn late_folded(&mut self, _: RoundId, contributions: usize) {
        self.status.late += contributions as u64;
    }

    fn round_aborted(&mut self, _: RoundId) {
        self.status.missed.reopened += 1;
        self.write();
    }

    fn round_done(
        &mut self,
        id: RoundId,
        contributors: &[Name],
        teacher: Option<&mut dyn Teacher>,
    ) {
        self.status.done = id.round + 1;
        self.status.contributors = contributors.iter().map(ToString::to_string).collect();
        self.update(teacher);
    }
}

const STATUS: &str = "status.json";
/// The teacher as it is now.
const TEACHER: &str = "teacher.safetensors";

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn write(folder: &Path, status: &Status) -> std::io::Result<()> {
    write_whole(&folder.join(STATUS), &serde_json::to_vec_pretty(status)?)
}

/// What the coordinator of this state folder last wrote; one that says that it runs and is not
/// there any more has [`Stage::Died`].
///
/// # Errors
/// No such file, or none of ours, as one line.
pub fn read(folder: &Path) -> Result<Status, String> {
    let mut status = last(folder)?;
    if status.stage == Stage::Running && lock::is_taken(folder) == Some(false) {
        status.stage = Stage::Died;
    }
    Ok(status)
}

fn last(folder: &Path) -> Result<Status, String> {
    let path = folder.join(STATUS);
    let text = fs::read(&path)
        .map_err(|error| format!("{}: {error}: has the coordinator ever run?", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Notes how a run has ended; where it has not begun, there is nothing to note.
///
/// # Errors
/// A status that cannot be read or written, as one line.
pub fn end(folder: &Path, stage: Stage) -> Result<(), String> {
    let path = folder.join(STATUS);
    if !path.exists() {
        return Ok(());
    }
    let status = Status {
        stage,
        updated: now(),
        ..last(folder)?
    };
    write(folder, &status).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match self.stage {
            Stage::Running => "running",
            Stage::Stopped => "stopped",
            Stage::Finished => "finished",
            Stage::Failed => "failed",
            Stage::Died => "died without a word (start it again, and it goes on)",
        };
        let (done, rounds) = (self.done.min(self.rounds), self.rounds);
        write!(
            f,
            "federation {}: {stage}, {done} of {rounds} rounds done",
            self.federation
        )?;
        if !self.contributors.is_empty() {
            let (count, names) = (self.contributors.len(), self.contributors.join(", "));
            write!(f, "\nlast round: {count} contributions, from {names}")?;
            if let Some(line) = self.ledger.line(&self.contributors) {
                write!(f, "\n{line}")?;
            }
        }
        let MissedCounts {
            reopened,
            extended,
            settled,
        } = self.missed;
        let missed = [
            (reopened, "opened again"),
            (extended, "given more time"),
            (settled, "settled for fewer"),
        ];
        let missed = missed.iter().filter(|(count, _)| *count > 0);
        let missed: Vec<String> = missed
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !missed.is_empty() {
            write!(
                f,
                "\nrounds that missed their quorum: {}",
                missed.join(", ")
            )?;
        }
        if !self.refused.is_empty() {
            let refused = self.refused.iter();
            let refused: Vec<String> = refused
                .map(|(why, count)| format!("{count} {why}"))
                .collect();
            write!(f, "\ncontributions refused: {}", refused.join(", "))?;
        }
        if self.late > 0 {
            write!(f, "\nlate contributions that count: {}", self.late)?;
        }
        if !self.decided.is_empty() {
            let decided = self.decided.iter();
            let decided: Vec<String> = decided.map(|(what, v)| format!("{what} {v:.3}")).collect();
            write!(f, "\nthe method has decided: {}", decided.join(", "))?;
        }
        if let Some(teacher) = &self.teacher {
            write!(f, "\nteacher, held-out: {teacher}")?;
        }
        let ago = now().saturating_sub(self.updated);
        write!(f, "\nwritten {ago} s ago by process {}", self.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_not_begin_has_no_end_to_note() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(end(folder.path(), Stage::Failed), Ok(()));
        assert!(!folder.path().join(STATUS).exists());
        fs::write(folder.path().join(STATUS), "{").unwrap();
        let error = end(folder.path(), Stage::Failed).unwrap_err();
        assert!(error.contains(STATUS), "{error}");
    }
}
