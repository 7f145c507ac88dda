use std::fs;
use std::path::{Path, PathBuf};

use fedistill_learning::checkpoint::{self, About, write_whole};
use fedistill_learning::{Architecture, CheckpointError, Dataset, Evaluation, Learner, Model, Net};
use fedistill_protocol::{Phase, RoundId};

use crate::{ModelCard, Student, Watcher};

const STUDENT: &str = "student.safetensors";
const CARD: &str = "student.json";

/// Keeps a student of ours in a folder: its parameters in `student.safetensors`, its [`ModelCard`] in
/// `student.json`. As a [`Watcher`] it writes both after each plan.
pub struct Keeper {
    folder: PathBuf,
    about: About,
    /// As large as the student; what is written is built in it.
    copy: Net,
    card: ModelCard,
    held_out: Option<Dataset>,
}

impl Keeper {
    /// Keeps a student of `architecture` in `folder`, for the client and federation that `card`
    /// names; `held_out` is to tell how good it is. Returns the student too: as it was saved last,
    /// or a new one, drawn under `seed`.
    ///
    /// # Errors
    /// A folder that cannot be made, a file that cannot be used, or one that holds another student.
    pub fn open(
        folder: &Path,
        about: About,
        architecture: Architecture,
        seed: u64,
        card: ModelCard,
        held_out: Option<Dataset>,
    ) -> Result<(Self, Learner), CheckpointError> {
        fs::create_dir_all(folder).map_err(|source| CheckpointError::Io {
            path: folder.to_owned(),
            source,
        })?;
        let build = || architecture.build(&about.input, about.classes.len(), seed);
        let (mut copy, mut card) = (build()?, card);
        let mut student = Learner::new(build()?);
        let path = folder.join(STUDENT);
        if path.exists() {
            let saved = checkpoint::load(&path).map_err(with_advice)?;
            if saved.about != about {
                return Err(CheckpointError::Malformed {
                    path,
                    why: format!(
                        "it is another student than the configuration describes (model, classes or shape of samples differ): move {} away to begin afresh",
                        folder.display()
                    ),
                });
            }
            saved.restore(&mut copy)?;
            student.set_weights(copy.weights())?;
            card.rounds = read_card(folder).map_or(0, |card| card.rounds);
        }
        card.parameters = copy.weights().len();
        let keeper = Self {
            folder: folder.to_owned(),
            about,
            copy,
            card,
            held_out,
        };
        Ok((keeper, student))
    }

    fn save(&mut self, student: &mut dyn Student) -> Result<(), CheckpointError> {
        self.copy.set_weights(student.parameters())?;
        self.card.rounds += 1;
        if let Some(held_out) = &self.held_out
            && let Ok(logits) = student.logits(held_out.samples())
        {
            let classes = held_out.classes().len();
            let evaluation = Evaluation::of(&logits, held_out.labels(), classes);
            tracing::info!(client = %self.card.client, "student, held-out: {evaluation}");
            self.card.evaluation = Some(evaluation);
        }
        checkpoint::save(&self.folder.join(STUDENT), &self.copy, &self.about, None)?;
        let path = self.folder.join(CARD);
        let card = serde_json::to_vec_pretty(&self.card)
            .map_err(std::io::Error::other)
            .and_then(|card| write_whole(&path, &card));
        card.map_err(|source| CheckpointError::Io { path, source })
    }
}

impl Watcher for Keeper {
    fn phase_done(&mut self, id: RoundId, _: &Phase, last: bool, student: &mut dyn Student) {
        if !last {
            return;
        }
        if let Err(error) = self.save(student) {
            tracing::error!(client = %self.card.client, "the student of round {id} is not kept: {error}");
        }
    }
}

/// The student kept in `folder`.
///
/// # Errors
/// None there, or a file that cannot be used.
pub fn kept(folder: &Path) -> Result<(Learner, About), CheckpointError> {
    let saved = checkpoint::load(&folder.join(STUDENT))?;
    Ok((Learner::new(saved.net()?), saved.about))
}

/// A student's file that cannot be used is no reason to lose the student: the journal has it too.
fn with_advice(error: CheckpointError) -> CheckpointError {
    match error {
        CheckpointError::Malformed { path, why } => CheckpointError::Malformed {
            path,
            why: format!(
                "{why}: put back a copy of it, or move it away: what the journal beside it holds takes its place"
            ),
        },
        other => other,
    }
}

fn read_card(folder: &Path) -> Option<ModelCard> {
    serde_json::from_slice(&fs::read(folder.join(CARD)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_student_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let about = |model| About {
            architecture: Some(model),
            input: vec![4],
            classes: vec!["a".to_owned(), "b".to_owned()],
        };
        let open = |model| {
            let card = ModelCard::new("ward-7", "clinic", model, 12);
            Keeper::open(folder.path(), about(model), model, 3, card, None)
        };
        assert!(kept(folder.path()).is_err());
        let (mut keeper, mut student) = open(Architecture::MlpS).unwrap();
        let changed: Vec<f32> = student.model().weights().iter().map(|w| w + 1.0).collect();
        student.set_weights(&changed).unwrap();
        keeper.save(&mut student).unwrap();
        let (keeper, student) = open(Architecture::MlpS).unwrap();
        assert_eq!(student.model().weights(), changed);
        assert_eq!(
            (keeper.card.rounds, keeper.card.parameters),
            (1, changed.len())
        );
        assert_eq!(kept(folder.path()).unwrap().0.model().weights(), changed);
        let error = open(Architecture::MlpM).err().unwrap().to_string();
        assert!(
            error.contains("another student") && error.contains("move"),
            "{error}"
        );
    }
}
