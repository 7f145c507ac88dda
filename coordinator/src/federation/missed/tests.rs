use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fedistill_federation::{Folded, Partial, Quorum};
use fedistill_protocol::Digest;

use super::super::pause::tests::{coordinator, first, settings};
use super::*;
use crate::hub::tests::name;
use crate::{Observer, Settings};

/// What an observer was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl Observer for Told {
    fn round_extended(&mut self, id: RoundId, number: u32) {
        self.note(format!("{id} extended {number}"));
    }

    fn round_settled(&mut self, id: RoundId, contributions: usize) {
        self.note(format!("{id} settled {contributions}"));
    }

    fn late_folded(&mut self, id: RoundId, contributions: usize) {
        self.note(format!("{id} folded {contributions}"));
    }
}

#[tokio::test]
async fn whoever_looks_is_told_of_what_a_round_has_not_and_of_what_it_has_besides() {
    let told = Told::default();
    let minute = std::time::Duration::from_secs(60);
    let settings = Settings {
        quorum: Quorum::new(2, 2, minute, minute).unwrap(),
        missed: Missed::Extend { most: 3 },
        ..settings()
    };
    let mut centre = coordinator(settings).observed_by(told.clone());
    centre.extended(first(1), 2);
    let mut committed = Committed {
        asked: 2,
        id: first(1),
        contributors: vec![name("a")],
        late: BTreeMap::new(),
        sum: Partial::new(2, 2),
        each: BTreeMap::new(),
    };
    centre.settled(&committed);
    centre.folded(&committed);
    // It has enough, and one more that was late.
    committed.id = first(2);
    committed.contributors.push(name("b"));
    let (of, blob) = (first(1), Digest::of(b"late"));
    committed.late = BTreeMap::from([(name("c"), Folded { of, blob })]);
    centre.settled(&committed);
    centre.folded(&committed);
    assert_eq!(
        *told.0.lock().unwrap(),
        ["1.0 extended 2", "1.0 settled 1", "2.0 folded 1"]
    );
}
