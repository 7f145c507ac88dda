//! Stand-ins for a teacher: nets like it that have not learnt the samples that they speak about.
//!
//! What a teacher says of samples that it was trained on tells nothing of its worth elsewhere. So its labelled
//! samples are parted into folds, and for each a net learns all others.

pub mod file;

use std::collections::{BTreeMap, BTreeSet};

use fedistill_learning::{Dataset, Learner};
use fedistill_protocol::{AnswerKind, Answers, ProtocolError};

use crate::{CoordinatorError, Labelled, TeacherError};

/// One to be trained.
#[derive(Clone, Debug)]
pub struct StandIn {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// What it learns.
    pub learns: Dataset,
    /// How many other samples it then speaks about.
    pub speaks: usize,
}

/// Logits on the first [`Labelled::MOST`] of these samples, a row each, from nets that have not seen
/// them, as `train` makes them.
///
/// Without `groups` there are as few nets as leaves each of them four fifths of the samples or more.
/// With them, a number for each sample that says whose it is, no net speaks about a person, device or
/// site of which it has learnt another sample: there are up to five, or one for each group, and the larger a
/// group is, the less is left to learn. A single group is as none. A lone sample has nobody to speak
/// about it: its row is of zeros.
///
/// # Errors
/// What `train` reports, logits that are not finite, or another number of groups than of samples.
pub fn logits(
    data: &Dataset,
    groups: Option<&[i32]>,
    mut train: impl FnMut(&StandIn) -> Result<Learner, TeacherError>,
) -> Result<Answers, CoordinatorError> {
    if let Some(groups) = groups
        && groups.len() != data.len()
    {
        return Err(CoordinatorError::Protocol(ProtocolError::WrongLength {
            what: "groups of labelled samples",
            actual: groups.len() as u64,
            expected: data.len() as u64,
        }));
    }
    let classes = data.classes().len();
    let mut values = vec![0.0; data.len().min(Labelled::MOST) * classes];
    let folds = folds(data.len(), groups);
    for (index, fold) in folds.iter().enumerate() {
        if fold.learns.is_empty() {
            continue;
        }
        let stand_in = StandIn {
            number: index + 1,
            of: folds.len(),
            learns: data.select(&fold.learns),
            speaks: fold.speaks.len(),
        };
        let mut learner = train(&stand_in).map_err(CoordinatorError::Teacher)?;
        let said = learner.logits_of(data.samples(), &fold.speaks);
        let said = said.map_err(|error| CoordinatorError::Teacher(error.into()))?;
        for (&place, row) in fold.speaks.iter().zip(said.chunks_exact(classes)) {
            values[place * classes..(place + 1) * classes].copy_from_slice(row);
        }
    }
    Ok(Answers::new(AnswerKind::Logits, classes as u32, values)?)
}

/// Places of samples; no sample is in both.
#[derive(Debug, PartialEq)]
struct Fold {
    /// What its net learns, ascending.
    learns: Vec<usize>,
    /// What its net speaks about, ascending: at least one.
    speaks: Vec<usize>,
}

/// The most stand-ins: four fifths of the samples are left to each.
const MOST: usize = 5;

/// Folds of so many samples; together they speak about each of the first [`Labelled::MOST`] once.
fn folds(samples: usize, groups: Option<&[i32]>) -> Vec<Fold> {
    // What nobody speaks about is everybody's to learn.
    let in_turn = || {
        let fold = samples.div_ceil(MOST).max(1);
        let fold_of = |place| (place < Labelled::MOST).then_some(place / fold);
        (0..samples).map(fold_of).collect()
    };
    let fold_of: Vec<Option<usize>> = groups.and_then(by_group).unwrap_or_else(in_turn);
    let of = |fold: usize| {
        let (own, others): (Vec<usize>, Vec<usize>) =
            (0..samples).partition(|&place| fold_of[place] == Some(fold));
        let own = own.into_iter().filter(|place| *place < Labelled::MOST);
        Fold {
            learns: others,
            speaks: own.collect(),
        }
    };
    let folds = (0..MOST).map(of);
    folds.filter(|fold| !fold.speaks.is_empty()).collect()
}

/// The fold of each sample, so that each group is in one: the largest first, each to the fold that has
/// fewest samples. `None` where there are no two groups.
fn by_group(groups: &[i32]) -> Option<Vec<Option<usize>>> {
    let mut sizes: BTreeMap<i32, usize> = BTreeMap::new();
    for group in groups {
        *sizes.entry(*group).or_default() += 1;
    }
    if sizes.len() < 2 {
        return None;
    }
    let mut filled: BTreeSet<(usize, usize)> =
        (0..sizes.len().min(MOST)).map(|fold| (0, fold)).collect();
    let mut ordered: Vec<(i32, usize)> = sizes.into_iter().collect();
    ordered.sort_by_key(|(group, size)| (std::cmp::Reverse(*size), *group));
    let mut fold_of = BTreeMap::new();
    for (group, size) in ordered {
        // There are two folds or more, and each one taken out comes back.
        let (held, fold) = filled.pop_first()?;
        filled.insert((held + size, fold));
        fold_of.insert(group, fold);
    }
    let fold_of = |group| fold_of.get(group).copied();
    Some(groups.iter().map(fold_of).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fedistill_learning::{Architecture, Samples};
    use fedistill_protocol::Elements;

    use super::*;

    /// Whether these are places of so many samples, none of them on both sides.
    fn are_apart(samples: usize, fold: &Fold) -> bool {
        let all: Vec<usize> = fold.learns.iter().chain(&fold.speaks).copied().collect();
        let places: BTreeSet<usize> = all.iter().copied().collect();
        places.len() == all.len() && places.iter().all(|place| *place < samples)
    }

    fn spoken(folds: &[Fold]) -> Vec<usize> {
        let mut spoken: Vec<usize> = folds.iter().flat_map(|f| f.speaks.clone()).collect();
        spoken.sort_unstable();
        spoken
    }

    #[test]
    fn each_of_the_first_samples_is_spoken_about_once_by_who_has_not_learnt_it() {
        for samples in [1, 2, 4, 5, 9, 100, 999, 1000, 3000] {
            let folds = folds(samples, None);
            assert_eq!(
                spoken(&folds),
                (0..samples.min(Labelled::MOST)).collect::<Vec<_>>()
            );
            for fold in &folds {
                assert!(are_apart(samples, fold));
                // In turn, as they come, and all others are left: four fifths or more.
                assert!(fold.speaks.is_sorted_by(|a, b| a + 1 == *b));
                assert_eq!(fold.learns.len(), samples - fold.speaks.len());
                assert!(samples < MOST || 5 * fold.learns.len() >= 4 * (samples - MOST));
            }
        }
        let sizes = |samples| -> Vec<usize> {
            let folds = folds(samples, None);
            folds.iter().map(|fold| fold.speaks.len()).collect()
        };
        assert_eq!((sizes(9), sizes(900)), (vec![2, 2, 2, 2, 1], vec![180, 20]));
        assert_eq!(folds(100, None).len(), 5);
        assert_eq!(folds(1000, None).len(), 1);
        assert!(folds(1, None)[0].learns.is_empty());
    }

    #[test]
    fn no_group_is_learnt_by_who_speaks_about_it() {
        // Of very unequal size, in no order, with negative numbers, and beyond what is spoken about.
        for (samples, groups) in [(2, 2), (50, 3), (100, 7), (400, 30), (1000, 2)] {
            let of = |place: usize| (place * place * 7 % 31 % groups) as i32 - 3;
            let groups: Vec<i32> = (0..samples).map(of).collect();
            let folds = folds(samples, Some(&groups));
            assert!(folds.len() >= 2 && folds.len() <= MOST, "{}", folds.len());
            assert_eq!(
                spoken(&folds),
                (0..samples.min(Labelled::MOST)).collect::<Vec<_>>()
            );
            for fold in &folds {
                assert!(are_apart(samples, fold) && !fold.learns.is_empty());
                let of = |places: &[usize]| -> BTreeSet<i32> {
                    places.iter().map(|&place| groups[place]).collect()
                };
                let both = &of(&fold.learns) & &of(&fold.speaks);
                assert!(both.is_empty(), "{both:?} are on both sides");
            }
        }
        // Three people: each is spoken about by who has learnt the two others.
        let three = folds(6, Some(&[5, 1, 5, 9, 1, 5]));
        assert_eq!(three.len(), 3);
        assert_eq!(three[0].speaks, [0, 2, 5]);
        // One is as none.
        assert_eq!(folds(9, Some(&[4; 9])), folds(9, None));
    }

    fn dataset(samples: usize) -> Dataset {
        let values = (0..2 * samples).map(|value| (value * 89 % 251) as u8);
        let elements = Elements::U8(values.collect());
        let labels = (0..samples as u32).map(|index| index % 2).collect();
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let samples = Samples::new(vec![2], elements).unwrap();
        Dataset::new(Path::new("small"), samples, labels, classes).unwrap()
    }

    #[test]
    fn rows_are_of_the_net_that_has_not_learnt_the_sample() {
        let data = dataset(6);
        let groups = [0, 1, 0, 1, 2, 0];
        // Nets that are told apart by what they learn.
        let net = |learns: &Dataset| {
            let seed = learns.len() as u64;
            Learner::new(Architecture::MlpS.build(&[2], 2, seed).unwrap())
        };
        let mut told = Vec::new();
        let said = logits(&data, Some(&groups), |stand_in| {
            told.push((stand_in.number, stand_in.of, stand_in.speaks));
            Ok(net(&stand_in.learns))
        })
        .unwrap();
        assert_eq!(told, [(1, 3, 3), (2, 3, 2), (3, 3, 1)]);
        for (place, row) in said.iter().enumerate() {
            let others = groups.iter().filter(|id| **id != groups[place]).count();
            let others: Vec<usize> = (0..others).collect();
            let expected = net(&data.select(&others)).logits_of(data.samples(), &[place]);
            assert_eq!(row, expected.unwrap());
        }
        let alone = logits(&dataset(1), None, |_| panic!("nothing to learn")).unwrap();
        assert_eq!(alone.values(), [0.0, 0.0]);
        let error = logits(&data, Some(&[1, 2]), |_| panic!("no groups")).unwrap_err();
        assert!(error.to_string().contains("groups"), "{error}");
    }
}
