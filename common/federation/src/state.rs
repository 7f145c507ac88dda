use std::collections::BTreeMap;

use fedistill_protocol::{About, Answers, Name};

/// Something that comes down: answers, and what they speak about.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// What it speaks about.
    pub about: About,
    /// A row for each of these.
    pub answers: Answers,
}

/// What a federation hands from one round to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// What comes down to every client that has no lessons of its own.
    pub common: Vec<Lesson>,
    /// What comes down to these instead.
    pub personal: BTreeMap<Name, Vec<Lesson>>,
    /// What a method notes for itself, in a form of its own.
    pub memory: Vec<u8>,
    /// What a method has decided by itself, by name: for logs and reports.
    pub decided: BTreeMap<String, f64>,
}

impl State {
    /// Whether anything comes down.
    pub fn teaches(&self) -> bool {
        !self.common.is_empty()
    }

    /// What comes down to a client.
    pub fn lessons(&self, client: &Name) -> &[Lesson] {
        self.personal.get(client).unwrap_or(&self.common)
    }

    /// Notes a decision, in place of an earlier one of this name.
    pub(crate) fn decide(&mut self, what: &str, value: f64) {
        self.decided.insert(what.to_owned(), value);
    }

    /// The same lesson for all, in place of what there was.
    pub fn teach(&mut self, about: About, answers: Answers) {
        self.common = vec![Lesson { about, answers }];
        self.personal.clear();
    }
}
