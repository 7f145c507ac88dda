use std::path::Path;
use std::sync::Mutex;

use fedistill_federation::Training;
use fedistill_learning::Samples;
use fedistill_protocol::{AnswerKind, Answers, Rows};

use super::super::pause::tests::{coordinator, settings};
use super::*;
use crate::TeacherError;

/// Notes with which seed it learns, and knows nothing.
#[derive(Clone, Default)]
struct Pupil(Arc<Mutex<Vec<u64>>>);

impl Teacher for Pupil {
    fn logits(&mut self, samples: &Samples) -> Result<Vec<f32>, TeacherError> {
        Ok(vec![0.0; 2 * samples.len()])
    }

    fn learn(
        &mut self,
        _: &Samples,
        _: &Answers,
        _: &Training,
        seed: u64,
    ) -> Result<(), TeacherError> {
        self.0.lock().unwrap().push(seed);
        Ok(())
    }

    fn snapshot(&self) -> Vec<f32> {
        Vec::new()
    }

    fn restore(&mut self, _: &[f32]) -> Result<(), TeacherError> {
        Ok(())
    }

    fn save(&self, _: &Path) -> Result<(), TeacherError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_teacher_learns_from_each_round_with_chances_of_its_own_and_the_same_again() {
    let pupil = Pupil::default();
    let mut centre = coordinator(settings());
    centre.teacher = Some(Box::new(pupil.clone()));
    for round in [0, 1, 0] {
        let teach = |work: Work<'_>| {
            let rows = Rows::List(vec![0, 2]);
            let labels = Answers::new(AnswerKind::Logits, 2, vec![0.5; 4]).unwrap();
            Ok(work.centre.unwrap().learn(&rows, &labels)?)
        };
        centre
            .between(round, State::default(), teach)
            .await
            .unwrap();
        assert!(centre.teacher.is_some(), "it is there for the next one");
    }
    let seeds = pupil.0.lock().unwrap().clone();
    assert_eq!(seeds.len(), 3);
    assert!(seeds[0] == seeds[2] && seeds[0] != seeds[1], "{seeds:?}");
}
