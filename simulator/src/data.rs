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
