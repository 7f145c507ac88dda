use std::sync::Arc;

use fedistill_learning::{DataFolder, Dataset, Groups};

use crate::config::{Config, locate};
use crate::natural::{self, Natural};
use crate::{Partition, PartitionError, SimulationError, World};

/// A data set that worlds are made of, read once.
#[derive(Clone, Debug)]
pub struct Data {
    train: Arc<Dataset>,
    test: Dataset,
    groups: Option<Groups>,
}

impl Data {
    /// Reads a data set by its name or folder.
    ///
    /// # Errors
    /// No such folder, or files in it that cannot be used.
    pub fn read(name: &str) -> Result<Self, SimulationError> {
        let DataFolder {
            train,
            test,
            groups,
        } = DataFolder::read(&locate(name)?)?;
        Ok(Self {
            train: Arc::new(train),
            test,
            groups,
        })
    }

    /// How many clients partition natural makes of a data set, by its name or folder, of whose people,
    /// devices or sites so large a share is public.
    ///
    /// # Errors
    /// Data that cannot be used, or that does not say whose samples are.
    pub fn clients(name: &str, public: f64) -> Result<usize, SimulationError> {
        let groups = Groups::read(&locate(name)?)?.ok_or(PartitionError::NoGroups)?;
        Ok(natural::clients(&groups, public)?)
    }

    /// The training samples.
    pub fn train(&self) -> &Dataset {
        &self.train
    }

    /// Shares it out as configured, with what is set apart of clients' samples.
    ///
    /// # Errors
    /// Fewer samples than that needs, or naturally federated clients of data that does not say whose
    /// samples are.
    pub fn share_out(self, config: &Config) -> Result<World, SimulationError> {
        let Self {
            train,
            test,
            groups,
        } = self;
        let (sizes, seed) = (config.sizes(), config.seed);
        let world = match config.partition {
            Partition::Natural => {
                let groups = groups.ok_or(PartitionError::NoGroups)?;
                let split = Natural::of(&groups, sizes.public, sizes.clients, seed)?;
                let (test, own) = match split.test {
                    Some(tested) => (test.select(&tested.places), tested.own),
                    None => (test, Vec::new()),
                };
                World::of(&train, test, &split.public, sizes.labelled, split.clients)?
                    .with_groups(&groups.train, &split.public)
                    .with_own_tests(own)?
            }
            partition => World::share_out(&train, test, sizes, partition, seed)?,
        };
        world.set_apart(config.personal_held_out, seed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fedistill_learning::Samples;
    use fedistill_protocol::Elements;

    use super::*;
    use crate::TeacherSource;

    /// Samples that tell of whom they are: the first value is ten times a person's number.
    fn data() -> Data {
        let of = |place: usize| (place % 6) as u8;
        let values = (0..120).flat_map(|place| [10 * of(place), place as u8]);
        let samples = Samples::new(vec![2], Elements::U8(values.collect())).unwrap();
        let labels = (0..120).map(|place| place / 6 % 2).collect();
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let train = Dataset::new(Path::new("people"), samples, labels, classes).unwrap();
        Data {
            test: train.clone(),
            train: Arc::new(train),
            groups: Some(Groups {
                train: (0..120).map(|place| of(place).into()).collect(),
                test: None,
            }),
        }
    }

    fn shared(partition: Partition, clients: usize) -> (World, Config) {
        let config = Config {
            partition,
            clients,
            public: 0.5,
            teacher: TeacherSource::Train(30),
            ..Config::default()
        };
        (data().share_out(&config).unwrap(), config)
    }

    #[test]
    fn of_people_it_is_known_whose_each_labelled_sample_is() {
        let (world, config) = shared(Partition::Natural, 3);
        let groups = world.labelled_groups.clone().unwrap();
        let first = world.labelled.samples().to_vec();
        let first = first
            .iter()
            .step_by(2)
            .map(|value| (value * 25.5).round() as i32);
        assert_eq!(groups, first.collect::<Vec<i32>>());
        assert!(groups.iter().any(|id| *id != groups[0]));

        // And no stand-in learns of who it speaks about: what is measured by differs from what it is
        // where nobody says whose they are, and so does the world.
        let nobody = World {
            labelled_groups: None,
            ..world.clone()
        };
        let digest = |world: &World| world.digest(&config.teacher).unwrap();
        assert_ne!(digest(&world), digest(&nobody));
        let probes = |world: World| {
            let world = world.with_probes(&config.teacher, config.teacher_model, config.seed);
            let method = config.plan("adaptive").unwrap().method;
            world.unwrap().published(method.as_ref(), 1).unwrap().1
        };
        assert_ne!(probes(world), probes(nobody));
        // Other partitions pass over groups.
        assert_eq!(shared(Partition::Iid, 3).0.labelled_groups, None);
    }
}
