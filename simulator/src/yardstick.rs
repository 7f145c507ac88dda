//! Measures models: against the global test set, and against what each client has of its own.

use std::sync::Arc;

use fedistill_client::{Student, StudentError};
use fedistill_learning::{Dataset, Evaluation, Recall, Samples};

use crate::metrics::{ClientOnOwn, ClientOnTest, ClientScore, ServerOnTest, ServerScore};
use crate::{View, World};

/// What models are held against.
#[derive(Clone, Debug)]
pub(crate) struct Yardstick {
    test: Arc<Dataset>,
    own: Vec<Own>,
}

/// What of a client tells how good a model is for it.
#[derive(Clone, Debug)]
enum Own {
    /// Its samples of each class, as weights of the test set's classes.
    Labels(Vec<usize>),
    /// Samples that nobody trains on.
    HeldOut(View),
}

/// What a model comes to on the global test set.
#[derive(Clone, Debug)]
pub(crate) struct Tested {
    evaluation: Evaluation,
    recalls: Vec<Recall>,
}

impl Tested {
    /// Of the server's model.
    pub(crate) fn server(&self) -> ServerScore {
        ServerScore {
            on_test: ServerOnTest::of(self.evaluation.accuracy),
            ece: self.evaluation.ece,
        }
    }

    /// The recall of each class, weighted by so many samples of it; `None` where no class that counts
    /// was tested.
    fn weighted(&self, counts: &[usize]) -> Option<f64> {
        let mut right = 0.0;
        let mut weight = 0.0;
        for (recall, &count) in self.recalls.iter().zip(counts) {
            if recall.samples > 0 {
                right += count as f64 * recall.right as f64 / recall.samples as f64;
                weight += count as f64;
            }
        }
        (weight > 0.0).then(|| right / weight)
    }
}

impl Yardstick {
    pub(crate) fn of(world: &World) -> Self {
        let own = world.private.iter().enumerate();
        let own = own.map(|(client, private)| match world.held_out.get(client) {
            Some(held_out) => Own::HeldOut(held_out.clone()),
            None => Own::Labels(private.counts()),
        });
        Self {
            test: Arc::clone(&world.test),
            own: own.collect(),
        }
    }

    /// The global test set.
    pub(crate) fn samples(&self) -> &Samples {
        self.test.samples()
    }

    /// What these logits, of all samples of the global test set, come to.
    pub(crate) fn tested(&self, logits: &[f32]) -> Tested {
        let (labels, classes) = (self.test.labels(), self.test.classes().len());
        let (evaluation, recalls) = Evaluation::by_class(logits, labels, classes);
        Tested {
            evaluation,
            recalls,
        }
    }

    /// What a client's model has to answer beside the global test set: these rows of these samples.
    pub(crate) fn held_out(&self, client: usize) -> Option<(&Samples, Vec<usize>)> {
        match &self.own[client] {
            Own::Labels(_) => None,
            Own::HeldOut(view) => Some((view.data().samples(), view.places().collect())),
        }
    }

    /// How good a client's model is: what it came to on the global test set, and its logits of what
    /// [`Self::held_out`] names.
    pub(crate) fn client(&self, client: usize, tested: &Tested, held_out: &[f32]) -> ClientScore {
        let on_own = match &self.own[client] {
            Own::Labels(counts) => tested.weighted(counts),
            Own::HeldOut(view) => (!view.is_empty()).then(|| {
                let labels: Vec<u32> = view.labels().collect();
                Evaluation::of(held_out, &labels, self.test.classes().len()).accuracy
            }),
        };
        ClientScore {
            on_test: ClientOnTest::of(tested.evaluation.accuracy),
            on_own: on_own.map(ClientOnOwn::of),
            ece: tested.evaluation.ece,
        }
    }

    /// The same, of a student that answers for itself.
    pub(crate) fn student(
        &self,
        client: usize,
        student: &mut dyn Student,
    ) -> Result<ClientScore, StudentError> {
        let tested = self.tested(&student.logits(self.samples())?);
        let held_out = match self.held_out(client) {
            Some((samples, rows)) => student.logits_of(samples, &rows)?,
            None => Vec::new(),
        };
        Ok(self.client(client, &tested, &held_out))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fedistill_protocol::Elements;

    use super::*;
    use crate::metrics::Measure;

    /// Three classes; the test set has two samples of the first, one of the second, none of the third.
    fn world(held_out: bool) -> World {
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let data = |labels: &[u32]| {
            let samples = Samples::new(vec![1], Elements::U8(vec![0; labels.len()])).unwrap();
            Dataset::new(Path::new("few"), samples, labels.to_vec(), classes.clone()).unwrap()
        };
        let train = Arc::new(data(&[0, 0, 0, 1, 2, 2]));
        let view = |places: &[usize]| View::new(Arc::clone(&train), places.to_vec()).unwrap();
        World {
            labelled: data(&[0]),
            labelled_groups: None,
            probes: None,
            transfer: data(&[0]).samples().clone(),
            private: [view(&[0, 1, 2, 3]), view(&[3, 4, 5]), view(&[4, 5])].to_vec(),
            held_out: match held_out {
                true => [view(&[0, 3]), view(&[4]), view(&[])].to_vec(),
                false => Vec::new(),
            },
            test: Arc::new(data(&[0, 0, 1])),
        }
    }

    /// Right on the first sample of the test set and the last: half of one class, all of another.
    const LOGITS: [f32; 9] = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0];

    #[test]
    fn classes_count_as_often_as_a_client_has_them() {
        let yardstick = Yardstick::of(&world(false));
        let tested = yardstick.tested(&LOGITS);
        assert!((tested.server().on_test.share() - 2.0 / 3.0).abs() < 1e-12);
        let own = |client| {
            assert!(yardstick.held_out(client).is_none());
            let score = yardstick.client(client, &tested, &[]);
            assert_eq!(score.on_test.share(), tested.server().on_test.share());
            score.on_own.map(Measure::share)
        };
        // Three samples of a class that is known by half, one of one that is known.
        assert_eq!(own(0), Some((3.0 * 0.5 + 1.0) / 4.0));
        // What the test set lacks says nothing.
        assert_eq!(own(1), Some(1.0));
        assert_eq!(own(2), None);
    }

    #[test]
    fn held_out_samples_come_before_the_test_set() {
        let yardstick = Yardstick::of(&world(true));
        let tested = yardstick.tested(&LOGITS);
        let rows = |client| yardstick.held_out(client).unwrap().1;
        assert_eq!((rows(0), rows(1), rows(2)), (vec![0, 3], vec![4], vec![]));
        let own = |client, logits: &[f32]| {
            let score = yardstick.client(client, &tested, logits);
            score.on_own.map(Measure::share)
        };
        assert_eq!(own(0, &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), Some(0.5));
        assert_eq!(own(1, &[0.0, 0.0, 1.0]), Some(1.0));
        assert_eq!(own(2, &[]), None);
    }
}
