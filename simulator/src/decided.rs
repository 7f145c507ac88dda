//! What a method has decided by itself, for people.

use std::collections::BTreeMap;

use crate::RoundRow;

/// Each decision with the round after which it first held, as it was then: `round 4: teacher weight
/// 0.207`.
pub(crate) fn decisions(rounds: &[RoundRow]) -> Vec<String> {
    let mut known = BTreeMap::new();
    let mut lines = Vec::new();
    for row in rounds {
        for (what, value) in &row.decided {
            if known.insert(what, value) != Some(value) {
                lines.push(format!("round {}: {what} {value:.3}", row.round + 1));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_once_until_it_changes() {
        let row = |round, value| RoundRow {
            round,
            decided: BTreeMap::from([("teacher weight".to_owned(), value)]),
            ..RoundRow::default()
        };
        let rows = [row(0, 0.3), row(1, 0.3), row(2, 0.1), row(3, 0.1)];
        assert_eq!(
            decisions(&rows),
            [
                "round 1: teacher weight 0.300",
                "round 3: teacher weight 0.100"
            ]
        );
        assert!(decisions(&[RoundRow::default()]).is_empty());
    }
}
