use std::fmt;

use serde::Serialize;

/// What must hold whatever breaks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// What was acknowledged counts, once, in a round that came about, or belongs to a try that was given
    /// up; nothing of it is gone.
    Acknowledged,
    /// Nothing counts twice, and nothing that was never acknowledged.
    Once,
    /// Nothing is taken for a client's but what that client has given.
    Given,
    /// Rounds that came about follow each other without a gap, each once.
    Gapless,
    /// No round is closed by a process that another one has followed.
    Fenced,
    /// What a client sees never goes back: neither epochs nor rounds.
    Forward,
    /// A client gives one answer to a plan, and trains for it no more once it is given. Plans of one number are one, whichever
    /// way each was packed, unless the coordinator's state was put back between them, or lost and begun anew.
    OneAnswer,
    /// Once faults have stopped, a round comes about in time.
    Live,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "acknowledged contributions count",
            Self::Once => "nothing counts twice",
            Self::Given => "only what was given counts",
            Self::Gapless => "rounds follow without a gap",
            Self::Fenced => "one process at a time closes rounds",
            Self::Forward => "clients never go back",
            Self::OneAnswer => "one answer to a plan",
            Self::Live => "rounds come about",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Broken {
    /// Which one.
    pub invariant: Invariant,
    /// Where and how, as one line.
    pub how: String,
}

/// When a round had to come about at the latest; milliseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Liveness {
    /// When the last fault ended.
    pub quiet_since: u64,
    /// How long a round may take from then: twice its deadline.
    pub within: u64,
}

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Rounds that came about.
    pub committed: usize,
    /// Tries at rounds that were given up.
    pub aborted: usize,
    /// Contributions that were acknowledged, those of the open round too.
    pub acknowledged: usize,
    /// Receipts that clients hold.
    pub receipts: usize,
    /// Whether a coordinator's state was among what was read.
    pub coordinator: bool,
    /// Clients whose journals were read.
    pub clients: usize,
    /// What happened to the coordinator's state that explains what else would be wrong; a line each.
    pub noted: Vec<String>,
    /// What nobody could tell from these folders; a line each.
    pub unverified: Vec<String>,
    /// All that is wrong.
    pub broken: Vec<Broken>,
}

impl Report {
    pub(super) fn wrong(&mut self, invariant: Invariant, how: String) {
        self.broken.push(Broken { invariant, how });
    }

    /// In a word.
    fn verdict(&self) -> String {
        match self {
            Self { broken, .. } if !broken.is_empty() => {
                format!("{} promises broken", broken.len())
            }
            Self { coordinator: false, .. } => {
                "nothing is wrong with them by themselves; whether anything is lost or counts twice was not looked at".to_owned()
            }
            Self { unverified, .. } if !unverified.is_empty() => {
                "nothing lost, nothing counted twice, as far as these folders tell".to_owned()
            }
            _ => "nothing lost, nothing counted twice".to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for broken in &self.broken {
            writeln!(f, "broken: {}: {}", broken.invariant, broken.how)?;
        }
        for what in &self.noted {
            writeln!(f, "noted: {what}")?;
        }
        for what in &self.unverified {
            writeln!(f, "not verified: {what}")?;
        }
        let Self {
            committed,
            aborted,
            acknowledged,
            receipts,
            clients,
            ..
        } = self;
        if self.coordinator {
            write!(
                f,
                "{committed} rounds came about, {aborted} tries were given up; {acknowledged} contributions acknowledged, "
            )?;
        }
        write!(
            f,
            "{receipts} receipts in the journals of {clients} clients; {}",
            self.verdict()
        )
    }
}
