//! What methods make of few numbers, against their papers' formulas worked out by hand: up to three clients, three
//! classes.

mod classes;
mod personal;
mod phases;
mod public;

use super::*;

/// Equal but for what f32 rounds off.
fn close(found: &[f32], expected: &[f32]) {
    let near = |(found, expected): (&f32, &f32)| (found - expected).abs() < 1e-5;
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    assert!(
        found.iter().zip(expected).all(near),
        "{found:?}, expected {expected:?}"
    );
}

/// The same number of rows from each client, of three values each.
fn said<const VALUES: usize>(kind: AnswerKind, clients: &[[f32; VALUES]]) -> Vec<Answers> {
    clients.iter().map(|values| answers(kind, values)).collect()
}

/// What came down to all, one lesson after the other.
fn common(state: &State) -> Vec<f32> {
    let lessons = state.common.iter();
    lessons.flat_map(|l| l.answers.values().to_vec()).collect()
}

/// What comes down to one client, by its number.
fn personal(state: &State, client: usize) -> &[f32] {
    let name = format!("client-{client}").parse().unwrap();
    state.lessons(&name)[0].answers.values()
}

/// A teacher that knows nothing yet.
fn blank() -> Sage {
    Sage {
        says: None,
        learnt: Vec::new(),
    }
}
