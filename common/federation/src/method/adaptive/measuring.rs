//! How much the teacher weighs, by what clients and teacher say of labelled samples.

use crate::method::pool::{Pool, Witnessed};
use crate::method::{Asked, largest};

/// How a teacher's weight is measured.
///
/// A fit alone says which mix of both is right about one round. It does not know that students learn the mix and then speak
/// in the next one: where they learn little of a round, their errors come back in it, and a mean that is worse than the teacher
/// keeps them worse. So beside the fit stands a bound, by who of both is right alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measuring {
    /// How many times the mean of clients the teacher weighs that a fit is drawn towards; above 0.
    pub(super) prior: f64,
    /// The least and the largest weight that a fit comes to, in this order.
    pub(super) range: (f64, f64),
    /// By how many standard deviations of chance the teacher may be better than it was measured to be, where it was measured
    /// by hardly any sample; by [`Self::ENOUGH`] it counts as it was measured.
    pub(super) caution: f64,
}

impl Measuring {
    /// No bound goes above this: students are then those of the teacher alone, but for a few tenths of a point.
    const MOST: f64 = 10.0;

    /// So many labelled samples measure well enough. Fewer are asked about where a round speaks about few samples, and there
    /// students learn little of it too: to weigh the teacher too little then costs more than to weigh it too much.
    const ENOUGH: f64 = 200.0;

    /// So many times the standard deviations of chance stand on top where only some of all clients were asked and samples
    /// are enough: those of the next round may know much less of what the labelled samples are of. What few samples say is
    /// doubted for their number already, and of ten of them three deviations would hold back any clients.
    const OTHERS: f64 = 3.0;

    /// How many times the clients' mean the teacher weighs; `None` where there is nothing to measure by.
    pub(super) fn ratio(&self, witnessed: &[Witnessed<'_>], asked: Asked) -> Option<f64> {
        let fit = || Pool::fit(witnessed, self.prior).ratio();
        let fit = || fit().max(self.range.0).min(self.range.1);
        (!witnessed.is_empty()).then(|| fit().max(self.bound(witnessed, asked)))
    }

    /// The least weight that no harm is done with: by what share more samples the teacher alone is right about than the
    /// clients alone are, as it would be if chance had been against the teacher. Few samples tell little, so that it is high;
    /// it is 0 where clients are better, of few samples beyond doubt.
    fn bound(&self, witnessed: &[Witnessed<'_>], asked: Asked) -> f64 {
        let (mut teacher, mut clients) = (0.0, 0.0);
        for one in witnessed {
            match [one.teacher, one.clients].map(|said| largest(said) == one.class) {
                [true, false] => teacher += 1.0,
                [false, true] => clients += 1.0,
                _ => {}
            }
        }
        // Of samples that only one of both is right about, which one is a toss of a coin where both are equal.
        let chance = f64::sqrt(teacher + clients);
        let missing = (1.0 - witnessed.len() as f64 / Self::ENOUGH).max(0.0);
        let doubt = match asked {
            Asked::All => missing,
            Asked::Some => missing + Self::OTHERS * (1.0 - missing),
        };
        let ahead = teacher - clients + self.caution * doubt * chance;
        (ahead / (clients + 1.0)).clamp(0.0, Self::MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURING: Measuring = Measuring {
        prior: 0.1,
        range: (0.01, 0.5),
        caution: 3.0,
    };

    /// The bound where so many samples are right by the teacher alone, by clients alone, and by both.
    fn bound(caution: f64, [teacher, clients, both]: [usize; 3]) -> f64 {
        let (right, wrong) = ([1.0, -1.0], [-1.0, 1.0]);
        let said = [(wrong, right), (right, wrong), (right, right)];
        let counts = [teacher, clients, both];
        let each = said.iter().zip(counts);
        let each = each.flat_map(|(said, count)| std::iter::repeat_n(said, count));
        let witnessed: Vec<Witnessed<'_>> = each
            .map(|(clients, teacher)| Witnessed {
                clients,
                teacher,
                class: 0,
            })
            .collect();
        let measuring = Measuring {
            caution,
            ..MEASURING
        };
        let bound = measuring.bound(&witnessed, Asked::All);
        assert!(measuring.ratio(&witnessed, Asked::All).unwrap() >= bound);
        bound
    }

    #[test]
    fn who_is_better_beyond_doubt_is_not_held_back() {
        assert_eq!(bound(3.0, [4, 21, 60]), 0.0);
        assert_eq!(bound(0.0, [8, 8, 30]), 0.0);
        assert!(bound(3.0, [16, 3, 30]) > 5.0);
        assert_eq!(bound(3.0, [40, 0, 10]), Measuring::MOST);
    }

    #[test]
    fn of_enough_samples_the_teacher_weighs_what_it_is_ahead_by() {
        assert_eq!(bound(3.0, [20, 20, 160]), 0.0);
        assert_eq!(bound(3.0, [41, 20, 139]), 1.0);
        assert_eq!(bound(3.0, [41, 20, 500]), 1.0);
        assert!(bound(3.0, [41, 20, 100]) > 1.0);
    }

    #[test]
    fn the_fewer_samples_the_more_the_teacher_weighs() {
        let bounds = [[1, 1, 3], [8, 8, 30], [80, 80, 300]].map(|counts| bound(3.0, counts));
        assert!(bounds.is_sorted_by(|few, many| few > many), "{bounds:?}");
        let cautious = [0.0, 1.0, 2.0].map(|caution| bound(caution, [9, 8, 30]));
        assert!(cautious.is_sorted_by(|less, more| less < more));
    }

    #[test]
    fn where_others_are_asked_next_the_teacher_weighs_more() {
        let said = |teacher: usize, clients: usize| {
            let (right, wrong) = ([1.0f32, -1.0], [-1.0f32, 1.0]);
            let one = |of: usize, clients, teacher| std::iter::repeat_n((clients, teacher), of);
            let all: Vec<_> = one(teacher, wrong, right)
                .chain(one(clients, right, wrong))
                .chain(one(300, right, right))
                .collect();
            all
        };
        let bounds = |all: &[([f32; 2], [f32; 2])]| {
            let witnessed: Vec<Witnessed<'_>> = all
                .iter()
                .map(|(clients, teacher)| Witnessed {
                    clients,
                    teacher,
                    class: 0,
                })
                .collect();
            let measuring = Measuring {
                caution: 1.0,
                ..MEASURING
            };
            [Asked::All, Asked::Some].map(|asked| measuring.bound(&witnessed, asked))
        };
        let [all, some] = bounds(&said(32, 32));
        assert_eq!((all, some), (0.0, 24.0 / 33.0));
        // Clients that are much better are not held back by it.
        assert_eq!(bounds(&said(8, 56)), [0.0, 0.0]);
        // Of ten samples it is hardly more: whoever is better by them would never be heard.
        let ten = vec![([-1.0, 1.0], [1.0, -1.0])];
        let ten = [
            ten,
            [([1.0, -1.0], [-1.0, 1.0])].repeat(4),
            [([1.0, -1.0], [1.0, -1.0])].repeat(5),
        ];
        let [all, some] = bounds(&ten.concat());
        assert!(some < all + 0.1, "{all} {some}");
    }

    #[test]
    fn nothing_is_measured_by_nothing() {
        assert_eq!(MEASURING.ratio(&[], Asked::All), None);
    }
}
