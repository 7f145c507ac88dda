//! Where clients that say logits stay silent.

use fedistill_protocol::Silence;

use crate::Partial;

/// How far from its own samples a client speaks, as the method decides it. What a net says of samples that are like none it
/// has learnt is not what it knows, and a mean cannot tell the two apart.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Reach {
    /// As far as three quarters of its own are from each other.
    #[default]
    Near,
    /// As far as nine tenths are: where few speak, each is missed more.
    Wide,
    /// About everything.
    All,
}

/// So many clients are few: a sample that one of them is silent about may be left with what one other says.
const FEW: u32 = 4;

/// By how many standard deviations of chance clients all together speak about less than one would of its own samples, where
/// what they are asked about is not like their samples: in rounds of few samples chance alone takes one or two.
const BEYOND_CHANCE: f64 = 2.0;

impl Reach {
    /// Share of its own samples that a client would speak about.
    pub(super) fn share(self) -> f64 {
        match self {
            Self::Near => 0.75,
            Self::Wide => 0.9,
            Self::All => 1.0,
        }
    }

    /// How many times as often as about their own samples clients speak that hold all of what all hold: data that are spread
    /// evenly come to more, hardly skewed ones to less. Who is silent about less speaks more often, whatever it holds.
    fn alike(self) -> f64 {
        match self {
            Self::Near => 0.97,
            Self::Wide | Self::All => 0.98,
        }
    }

    /// The same of those that hold most of it: `dirichlet:1` comes to more, `dirichlet:0.3` to less. Where they speak of more
    /// already it is lower than they came there by, so that chance does not take them to and fro.
    fn akin(self) -> f64 {
        match self {
            Self::Near => 0.85,
            Self::Wide | Self::All => 0.88,
        }
    }

    /// Of the next round, by who spoke about what in this one, and whether a teacher's own answers stand beside theirs.
    pub(super) fn after(self, sum: &Partial, is_beside_teacher: bool) -> Self {
        // Where that is once, each knows all of it, and one that is silent is only missed.
        let known = sum.spoken_share().map(|spoken| spoken / self.share());
        let is_known = |least| known.is_some_and(|known| known >= least);
        match self {
            Self::All => Self::All,
            _ if is_known(self.alike()) || self.is_foreign(sum) => Self::All,
            _ if sum.in_time() <= FEW => Self::Wide,
            // With none, what a net says of what it does not know has nothing to be made good by.
            _ if is_beside_teacher && is_known(self.akin()) => Self::Wide,
            _ => Self::Near,
        }
    }

    /// Whether much of what was asked about is like nobody's samples, so that nobody speaks who could guess.
    fn is_foreign(self, sum: &Partial) -> bool {
        let rows = sum.spoken().len() as f64;
        let share = self.share();
        let heard = sum.spoken().iter().filter(|spoken| **spoken > 0).count() as f64;
        let chance = f64::sqrt(share * (1.0 - share) / rows);
        sum.weight() > 0 && heard / rows < share - BEYOND_CHANCE * chance
    }
}

/// Of clients that say logits; `near` is the user's share, 1 for all there is, or 0.
pub(super) fn of(near: f32, reach: Reach) -> Silence {
    let share = match near > 0.0 {
        true => near,
        false => reach.share() as f32,
    };
    match share < 1.0 {
        true => Silence::Far { quantile: share },
        false => Silence::Never,
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::{AnswerKind, Answers, Rows};

    use super::*;
    use crate::method::adaptive::tests::{CLASSES, Federation, Teacher};

    fn is_idle(sum: &Partial) -> bool {
        Reach::Near.after(sum, false) == Reach::All
    }

    /// The sum of what clients say of 8 rows, each about these.
    fn sum(spoken: &[&[usize]]) -> Partial {
        let mut sum = Partial::new(8, 2);
        for rows in spoken {
            let says = |at: usize| f32::from(u8::from(rows.contains(&(at / 2))));
            let values: Vec<f32> = (0..16).map(says).collect();
            sum.add(3, &values).unwrap();
        }
        sum
    }

    #[test]
    fn who_holds_a_part_is_silent_about_the_rest() {
        assert!(!is_idle(&sum(&[&[0, 1, 2], &[3, 4], &[5, 6]])));
    }

    #[test]
    fn who_holds_all_of_it_is_silent_about_nothing() {
        let most: &[usize] = &[0, 1, 2, 3, 4, 5];
        assert!(is_idle(&sum(&[most, most])));
        assert!(!is_idle(&sum(&[most, &most[..5]])));
    }

    #[test]
    fn about_what_is_like_nobodys_samples_all_speak() {
        assert!(is_idle(&sum(&[&[0, 1], &[1, 2]])));
        assert!(!is_idle(&sum(&[&[0, 1], &[2, 3]])));
    }

    #[test]
    fn chance_alone_does_not_end_silence() {
        // So many rows, about so many of which one of ten clients speaks.
        let heard = |rows: usize, spoken: usize| {
            let mut sum = Partial::new(rows, 1);
            let says = |at: usize| f32::from(u8::from(at < spoken));
            sum.add(1, &(0..rows).map(says).collect::<Vec<f32>>())
                .unwrap();
            (0..9).for_each(|_| sum.add(1, &vec![0.0; rows]).unwrap());
            is_idle(&sum)
        };
        assert!(!heard(100, 70));
        assert!(heard(1000, 700));
        assert!(!heard(1000, 740));
    }

    #[test]
    fn nothing_follows_from_nothing() {
        assert!(!is_idle(&sum(&[])));
        assert!(!is_idle(&Partial::new(0, 2)));
    }

    #[test]
    fn the_users_share_comes_before_what_is_decided() {
        let far = |quantile| Silence::Far { quantile };
        assert_eq!(of(0.0, Reach::Near), far(0.75));
        assert_eq!(of(0.0, Reach::Wide), far(0.9));
        assert_eq!(of(0.0, Reach::All), Silence::Never);
        assert_eq!(of(0.5, Reach::All), far(0.5));
        assert_eq!(of(1.0, Reach::Near), Silence::Never);
    }

    #[test]
    fn few_clients_are_silent_about_less() {
        let parts: [&[usize]; 2] = [&[0, 1, 2], &[3, 4, 5, 6, 7]];
        let after = |count| {
            let said: Vec<&[usize]> = parts.into_iter().cycle().take(count).collect();
            Reach::Near.after(&sum(&said), false)
        };
        assert_eq!(
            [2, 4, 5, 10].map(after),
            [Reach::Wide, Reach::Wide, Reach::Near, Reach::Near]
        );
        // As many as answer now, not once for all.
        let many: Vec<&[usize]> = parts.into_iter().cycle().take(5).collect();
        assert_eq!(Reach::Wide.after(&sum(&many), false), Reach::Near);
        assert_eq!(Reach::All.after(&sum(&many), false), Reach::All);
        // What is like their own is more where they are silent about less.
        let most: &[usize] = &[0, 1, 2, 3, 4, 5];
        assert_eq!(Reach::Near.after(&sum(&[most, most]), false), Reach::All);
        let parts: [&[usize]; 2] = [most, &[0, 1, 2, 3, 6, 7]];
        assert_eq!(Reach::Wide.after(&sum(&parts), false), Reach::Wide);
    }

    #[test]
    fn who_holds_most_of_it_is_silent_about_less_beside_a_teacher() {
        // Five clients, who speak about so many of 8 rows each.
        let said = |counts: [usize; 5]| {
            let spoken = counts.map(|count| (8 - count..8).collect::<Vec<usize>>());
            let mut said: Vec<&[usize]> = spoken.iter().map(Vec::as_slice).collect();
            let all: Vec<usize> = (0..counts[4]).collect();
            said[4] = &all;
            sum(&said)
        };
        let most = said([5, 5, 5, 5, 6]);
        assert_eq!(Reach::Near.after(&most, true), Reach::Wide);
        assert_eq!(Reach::Near.after(&most, false), Reach::Near);
        assert_eq!(Reach::Near.after(&said([5, 5, 5, 5, 5]), true), Reach::Near);
        // Who is silent about less speaks more often for the same data.
        let wide = |counts| Reach::Wide.after(&said(counts), true);
        assert_eq!(wide([7, 7, 7, 6, 6]), Reach::Wide);
        assert_eq!(wide([7, 6, 6, 6, 6]), Reach::Near);
    }

    #[test]
    fn who_is_late_is_neither_silent_nor_one_of_many() {
        // Three in time, who each hold three quarters of what they were asked about; then four who were asked about other
        // rows, of which one is among these.
        let late = |sum: &mut Partial| {
            let values: Vec<f32> = (0..16).map(|at| f32::from(u8::from(at < 2))).collect();
            (0..4).for_each(|_| sum.by_parts(|sum| sum.add(3, &values)).unwrap());
        };
        let mut few = sum(&[&[0, 1, 2], &[3, 4, 5], &[6, 7]]);
        late(&mut few);
        assert_eq!(Reach::Near.after(&few, false), Reach::Wide);
        let whole: &[usize] = &[0, 1, 2, 3, 4, 5];
        let mut known = sum(&[whole; 5]);
        late(&mut known);
        assert_eq!(Reach::Near.after(&known, false), Reach::All);
    }

    /// Where clients are silent in each of three rounds, each of which speaks about these of 20 rows in the first; and what
    /// was decided: the same without a teacher and with one.
    fn asked(name: &str, said: &[Rows]) -> ([Silence; 3], Option<f64>) {
        let alone = asked_beside(None, name, said);
        let mut teacher = Teacher::knows(8);
        assert_eq!(asked_beside(Some(&mut teacher), name, said), alone);
        alone
    }

    fn asked_beside(
        teacher: Option<&mut Teacher>,
        name: &str,
        said: &[Rows],
    ) -> ([Silence; 3], Option<f64>) {
        let mut federation = Federation::of(name).begun(teacher);
        let answers = |about: &Rows, rows: &Rows| {
            let says = |row| rows.iter().any(|said| said == row);
            let row = |row| [2.0, -1.0, -1.0].map(|value| if says(row) { value } else { 0.0 });
            let values = about.iter().flat_map(row).collect();
            Answers::new(AnswerKind::Logits, CLASSES, values).unwrap()
        };
        let silences = [0, 1, 2].map(|_| {
            let (wanted, about) = federation.wanted();
            let all: Vec<Answers> = said.iter().map(|rows| answers(&about, rows)).collect();
            federation.answered(&all);
            wanted.silence
        });
        (silences, federation.state.decided.get("near").copied())
    }

    #[test]
    fn clients_are_silent_until_they_show_that_it_is_worth_nothing() {
        let [far, wide] = [0.75, 0.9].map(|quantile| Silence::Far { quantile });
        let range = |start, count| Rows::Range { start, count };
        let parts = [0, 1, 2].map(|_| [range(0, 8), range(8, 9)]).concat();
        assert_eq!(asked("adaptive", &parts), ([far; 3], None));
        assert_eq!(
            asked("adaptive", &parts[..4]),
            ([far, wide, wide], Some(0.9))
        );
        // As often as of their own samples.
        let wholes = [range(0, 15), range(5, 15)];
        let all = [far, Silence::Never, Silence::Never];
        assert_eq!(asked("adaptive", &wholes), (all, Some(1.0)));
        // About hardly anything.
        assert_eq!(asked("adaptive", &[range(0, 3)]), (all, Some(1.0)));
        // A median knows who spoke about what, and how many they were, as well as a mean does.
        let robust = "adaptive,robust=median";
        assert_eq!(asked(robust, &parts), ([far; 3], None));
        assert_eq!(asked(robust, &parts[..4]), ([far, wide, wide], Some(0.9)));
        assert_eq!(asked(robust, &wholes), (all, Some(1.0)));
        let told = Silence::Far { quantile: 0.5 };
        assert_eq!(asked("adaptive,near=0.5", &wholes), ([told; 3], None));
    }

    #[test]
    fn beside_a_teacher_clients_of_most_classes_are_silent_about_less_for_as_long_as_they_are() {
        let [far, wide] = [0.75, 0.9].map(|quantile| Silence::Far { quantile });
        // Of 20 rows each of five speaks about so many.
        let parts = |count| [0, 1, 2, 3, 20 - count].map(|start| Rows::Range { start, count });
        let beside = |count| asked_beside(Some(&mut Teacher::knows(8)), "adaptive", &parts(count));
        assert_eq!(
            beside(16),
            ([far, Silence::Never, Silence::Never], Some(1.0))
        );
        assert_eq!(beside(13), ([far, wide, far], Some(0.9)));
        assert_eq!(beside(12), ([far; 3], None));
        assert_eq!(asked_beside(None, "adaptive", &parts(13)), ([far; 3], None));
    }
}
