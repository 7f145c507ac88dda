//! How many bits a value needs: as few as leave soft labels what they are.

use fedistill_protocol::{AnswerKind, Answers, Precision};

use super::softmax;

/// The fewest bits, not fewer than the user's and at most 16, in which logits still say the same: packed
/// and read again, they lie within `tolerance` of what they were, in nats, by the mean of
/// `KL(softmax(row) || softmax(read))` over the rows that say something. `None` where the user's are 16 or
/// more, or the largest values of each row: those are taken as they are.
pub(super) fn enough(logits: &Answers, users: Precision, tolerance: f64) -> Option<Precision> {
    let coarse = [Precision::U1, Precision::U2, Precision::U4, Precision::U8];
    let first = coarse.iter().position(|precision| *precision == users)?;
    let mut worthy = coarse[first..].iter().copied();
    let found =
        worthy.find(|precision| lost(logits, *precision).is_some_and(|lost| lost <= tolerance));
    Some(found.unwrap_or(Precision::F16))
}

/// The bits of a value.
pub(super) fn bits(precision: Precision) -> f64 {
    match precision {
        Precision::U1 => 1.0,
        Precision::U2 => 2.0,
        Precision::U4 => 4.0,
        Precision::U8 => 8.0,
        _ => 16.0,
    }
}

/// What packing loses, in nats a row; `None` where nothing is said.
fn lost(logits: &Answers, precision: Precision) -> Option<f64> {
    // At one bit as steps, which lose more than the peaks that will cross: what peaks take off a mean of clients says
    // little of what they take off each of them, which is its low logits.
    let read = Answers::read(&logits.pack(precision)).ok()?;
    if (logits.kind(), read.rows()) != (AnswerKind::Logits, logits.rows()) {
        return None;
    }
    let pairs = logits.iter().zip(read.iter()).zip(logits.speaks());
    let each = pairs
        .filter(|(_, speaks)| *speaks)
        .map(|((row, read), _)| divergence(row, read));
    let (count, sum) = each.fold((0u32, 0.0), |(count, sum), one| (count + 1, sum + one));
    (count > 0).then(|| sum / f64::from(count))
}

/// `KL(softmax(true) || softmax(read))`, in nats.
fn divergence(row: &[f32], read: &[f32]) -> f64 {
    let (p, q) = (softmax(row, 1.0), softmax(read, 1.0));
    let term = |(p, q): (&f32, &f32)| {
        let (p, q) = (
            f64::from(*p),
            f64::from(*q).max(f64::from(f32::MIN_POSITIVE)),
        );
        if p > 0.0 { p * (p / q).ln() } else { 0.0 }
    };
    p.iter().zip(&q).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(values: Vec<f32>) -> Answers {
        Answers::new(AnswerKind::Logits, 4, values).unwrap()
    }

    fn fewest(logits: &Answers, tolerance: f64) -> Precision {
        enough(logits, Precision::U1, tolerance).unwrap()
    }

    /// Rows that say much of two classes and little of the others.
    fn spread() -> Answers {
        let row = |i: u32| {
            let at = |k: u32| ((i * 37 + k * 101) % 97) as f32 / 12.0 - 4.0;
            [at(1), at(2), at(3), at(4)]
        };
        logits((0..200).flat_map(row).collect())
    }

    #[test]
    fn the_user_s_bits_are_the_least() {
        for precision in [Precision::U8, Precision::U4, Precision::U2] {
            assert_eq!(enough(&spread(), precision, 10.0), Some(precision));
        }
        for precision in [Precision::F16, Precision::F32, Precision::Top(1)] {
            assert_eq!(enough(&spread(), precision, 0.0), None);
        }
    }

    #[test]
    fn less_tolerance_takes_more_bits() {
        let tolerances = [10.0, 0.3, 0.03, 1e-4, 0.0];
        let taken = tolerances.map(|tolerance| bits(fewest(&spread(), tolerance)));
        assert!(taken.is_sorted(), "{taken:?}");
        assert_eq!((taken[0], taken[4]), (1.0, 16.0));
        assert!(taken.contains(&4.0) && taken.contains(&8.0), "{taken:?}");
    }

    #[test]
    fn what_is_taken_is_within_the_tolerance() {
        for tolerance in [0.3, 0.03, 0.003] {
            let taken = fewest(&spread(), tolerance);
            assert!(lost(&spread(), taken).unwrap() <= tolerance);
        }
    }

    #[test]
    fn votes_are_enough_for_those_who_only_vote() {
        let vote = |i: usize| {
            let mut row = [-3.0; 4];
            row[i % 4] = 3.0;
            row
        };
        let votes = logits((0..100).flat_map(vote).collect());
        assert_eq!(fewest(&votes, 1e-6), Precision::U1);
    }

    #[test]
    fn nothing_said_is_kept_as_it_is() {
        assert_eq!(fewest(&logits(vec![0.0; 40]), 1.0), Precision::F16);
        assert_eq!(fewest(&logits(Vec::new()), 1.0), Precision::F16);
    }
}
