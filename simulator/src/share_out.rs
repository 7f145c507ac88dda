//! The parts of a data set as files, for a federation of processes instead of a simulated one.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use fedistill_learning::idx::{self, Idx, IdxError};
use fedistill_learning::{DataError, Dataset, Samples};

use crate::config::{Config, locate};
use crate::{SimulationError, World};

/// Writes what each party of the configured federation would have to `folder`: `transfer`,
/// `labelled` and `test`, and a folder for each client, of grey images in IDX files. Clients are `client-0` and so on;
/// what is set apart of their samples is in a folder `held-out` in theirs.
///
/// # Errors
/// Data that cannot be used or is no grey images, or a folder that cannot be written.
pub fn share_out(config: &Config, folder: &Path) -> Result<(), SimulationError> {
    let (train, test) = Dataset::mnist(&locate(&config.data)?)?;
    let world = World::share_out(
        &Arc::new(train),
        test,
        config.sizes(),
        config.partition,
        config.seed,
    )?
    .set_apart(config.personal_held_out, config.seed)?;
    let at = |name: &str| -> Result<_, SimulationError> {
        let path = folder.join(name);
        fs::create_dir_all(&path).map_err(|error| {
            SimulationError::Settings(format!("cannot make {}: {error}", path.display()))
        })?;
        Ok(path)
    };
    images(&at("transfer")?, &world.transfer)?;
    let clients = world.private.iter().enumerate();
    let clients = clients.map(|(index, view)| {
        let data = Cow::Owned(view.to_dataset());
        (format!("client-{index}"), data)
    });
    let held_out = world.held_out.iter().enumerate();
    let held_out = held_out.filter(|(_, view)| !view.is_empty());
    let held_out = held_out.map(|(index, view)| {
        let data = Cow::Owned(view.to_dataset());
        (format!("client-{index}/held-out"), data)
    });
    let centre = [
        ("labelled".to_owned(), Cow::Borrowed(&world.labelled)),
        ("test".to_owned(), Cow::Borrowed(world.test.as_ref())),
    ];
    for (name, data) in centre.into_iter().chain(clients).chain(held_out) {
        let path = at(&name)?;
        images(&path, data.samples())?;
        let labels = Idx {
            shape: vec![data.len() as u32],
            values: data.labels().iter().map(|&label| label as u8).collect(),
        };
        write(&path.join("labels.gz"), &labels)?;
    }
    Ok(())
}

fn images(folder: &Path, samples: &Samples) -> Result<(), SimulationError> {
    // What comes from IDX files has this shape; its bytes were divided by 255.
    let &[1, height, width] = samples.shape() else {
        let why = format!("samples of shape {:?} are no grey images", samples.shape());
        return Err(SimulationError::Settings(why));
    };
    let images = Idx {
        shape: vec![samples.len() as u32, height, width],
        values: samples
            .to_vec()
            .iter()
            .map(|value| (value * 255.0).round() as u8)
            .collect(),
    };
    write(&folder.join("images.gz"), &images)
}

fn write(path: &Path, idx: &Idx) -> Result<(), SimulationError> {
    let written: Result<(), IdxError> = idx::write(path, idx);
    Ok(written.map_err(DataError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_what_the_simulation_has() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fashion-mnist-mini");
        let config = Config {
            data: fixtures.to_string_lossy().into_owned(),
            clients: 3,
            personal_held_out: 0.1,
            ..Config::default()
        };
        let folder = tempfile::tempdir().unwrap();
        share_out(&config, folder.path()).unwrap();
        let (train, test) = Dataset::mnist(&fixtures).unwrap();
        let sizes = config.sizes();
        let train = Arc::new(train);
        let world = World::share_out(&train, test, sizes, config.partition, config.seed)
            .unwrap()
            .set_apart(0.1, config.seed)
            .unwrap();
        for (name, view) in [
            ("client-2", &world.private[2]),
            ("client-2/held-out", &world.held_out[2]),
        ] {
            let path = folder.path().join(name);
            let (images, labels) = (path.join("images.gz"), path.join("labels.gz"));
            let classes = train.classes().to_vec();
            let read = Dataset::idx(&images, &labels, classes).unwrap();
            assert_eq!(read, view.to_dataset());
        }
        let transfer = Samples::idx(&folder.path().join("transfer/images.gz")).unwrap();
        assert_eq!(transfer, world.transfer);
    }
}
