use fedistill_protocol::AnswerKind;

use super::*;

const ROWS: u32 = 8;

/// What is sent in a round: a row's value is the last round that has changed it, in each one `changes` rows.
fn sent(round: u32, changes: u32) -> Vec<Sent> {
    let changed_in = |row: u32| {
        (1..=round)
            .rev()
            .find(|r| (row + ROWS - r % ROWS) % ROWS < changes)
    };
    let values = (0..ROWS).flat_map(|row| [changed_in(row).unwrap_or_default() as f32, 0.5]);
    let rows = Rows::Range {
        start: 10,
        count: ROWS,
    };
    vec![Sent {
        blob: Digest::of(&round.to_le_bytes()),
        lesson: Lesson {
            about: About::Rows(rows),
            answers: Answers::new(AnswerKind::Logits, 2, values.collect()).unwrap(),
        },
    }]
}

fn clients(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// What each client is led from, as it was.
fn bases(exchange: &Exchange) -> Vec<(Vec<Sent>, BTreeSet<Name>)> {
    let mut bases = Vec::new();
    exchange.bases(
        |_| true,
        |base, held_by| {
            let held_by = held_by.iter().map(|name| (*name).clone()).collect();
            bases.push((base.to_vec(), held_by));
        },
    );
    bases
}

#[test]
fn what_each_client_was_sent_last_comes_back() {
    let mut exchange = Exchange::default();
    exchange.turn(sent(0, 2), clients(&["a", "b", "c"]));
    exchange.turn(sent(1, 2), clients(&["d"]));
    exchange.turn(sent(2, 2), clients(&["b", "d"]));
    exchange.turn(sent(3, 2), clients(&["c"]));
    let expected = [
        (sent(2, 2), clients(&["b", "d"])),
        (sent(0, 2), clients(&["a"])),
    ];
    assert_eq!(bases(&exchange), expected);
    assert_eq!(exchange.held_by, clients(&["c"]));
    // Rows alone are kept of what is not the newest.
    let kept = exchange.earlier.iter().map(|e| values(&e.changed));
    assert_eq!(kept.collect::<Vec<_>>(), [4, 4, 4]);
    let holdings = exchange.holdings();
    for (client, round) in [("a", 0), ("b", 2), ("c", 3), ("d", 2)] {
        let [held] = &holdings[&client.parse().unwrap()][..] else {
            panic!("{client}");
        };
        let [Sent { blob, lesson }] = &sent(round, 2)[..] else {
            panic!("{client}");
        };
        assert_eq!((held.0, held.1.as_ref()), (*blob, &lesson.answers));
    }
    // One was late: its answer to the last round has come in this one.
    exchange.held_late(clients(&["a"]));
    assert_eq!(exchange.held_by, clients(&["a", "c"]));
    // What nobody holds any more is gone.
    assert_eq!(bases(&exchange), [(sent(2, 2), clients(&["b", "d"]))]);
    assert_eq!(exchange.earlier.len(), 1);
}

#[test]
fn where_all_take_part_nothing_earlier_is_kept() {
    let mut exchange = Exchange::default();
    for round in 0..5 {
        exchange.turn(sent(round, 1), clients(&["a", "b"]));
        assert!(exchange.earlier.is_empty());
    }
    // The same once more is nothing new.
    exchange.turn(sent(4, 1), clients(&["a"]));
    assert_eq!(exchange.held_by, clients(&["a", "b"]));
    assert!(exchange.earlier.is_empty());
    // A method that sends nothing leaves nobody anything.
    exchange.turn(Vec::new(), clients(&["a"]));
    assert_eq!(exchange, Exchange::default());
}

#[test]
fn what_is_kept_is_bounded() {
    // One row of eight in each round: two tables hold sixteen of those.
    let after = |changes: u32, rounds: u32| {
        let mut exchange = Exchange::default();
        exchange.turn(sent(0, changes), clients(&["a"]));
        for round in 1..=rounds {
            exchange.turn(sent(round, changes), clients(&["b"]));
        }
        exchange
    };
    assert_eq!(bases(&after(1, 16)), [(sent(0, 1), clients(&["a"]))]);
    assert_eq!(bases(&after(1, 17)), []);
    assert_eq!(bases(&after(8, 2)), [(sent(0, 8), clients(&["a"]))]);
    assert_eq!(bases(&after(8, 3)), []);
    // And their number, however little differs.
    assert_eq!(bases(&after(0, 32)), [(sent(0, 0), clients(&["a"]))]);
    assert_eq!(bases(&after(0, 33)), []);
}

#[test]
fn there_is_no_way_from_a_table_of_something_else() {
    let mut exchange = Exchange::default();
    exchange.turn(sent(0, 1), clients(&["a"]));
    let mut other = sent(1, 1);
    other[0].lesson.about = About::Classes;
    exchange.turn(other, clients(&["b"]));
    assert_eq!(bases(&exchange), []);
    exchange.turn([sent(2, 1), sent(3, 1)].concat(), clients(&["c"]));
    assert_eq!(bases(&exchange), []);
}
