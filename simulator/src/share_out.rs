//! The parts of a data set as files, for a federation of processes instead of a simulated one.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use fedistill_learning::idx::{self, Array, IdxError, Values};
use fedistill_learning::{DataError, Samples};

use crate::config::Config;
use crate::{Data, SimulationError};

/// Writes what each party of the configured federation would have to `folder`: `transfer`,
/// `labelled` and `test`, and a folder for each client, with `images.gz` (samples of whatever kind) and
/// `labels.gz`, IDX files. Clients are `client-0` and so on;
/// what only tells how good a client's student is for it is in a folder `held-out` in theirs.
///
/// # Errors
/// Data that cannot be used, or a folder that cannot be written.
pub fn share_out(config: &Config, folder: &Path) -> Result<(), SimulationError> {
    let world = Data::read(&config.data)?.share_out(config)?;
    let at = |name: &str| -> Result<_, SimulationError> {
        let path = folder.join(name);
        fs::create_dir_all(&path).map_err(|error| {
            SimulationError::Settings(format!("cannot make {}: {error}", path.display()))
        })?;
        Ok(path)
    };
    samples(&at("transfer")?, &world.transfer)?;
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
        samples(&path, data.samples())?;
        let values = data.labels().iter().map(|&label| label as u8).collect();
        let labels = Array {
            shape: vec![data.len() as u32],
            values: Values::U8(values),
        };
        write(&path.join("labels.gz"), &labels)?;
    }
    Ok(())
}

/// As [`Samples::idx`] reads them.
fn samples(folder: &Path, samples: &Samples) -> Result<(), SimulationError> {
    let values = samples.to_vec();
    let (values, each) = match (samples.is_of_bytes(), samples.shape()) {
        (false, each) => (Values::F32(values), each),
        (true, each) => {
            // Bytes were divided by 255.
            let bytes = values.iter().map(|value| (value * 255.0).round() as u8);
            let each = match each {
                [1, grey @ ..] if grey.len() == 2 => grey,
                each => each,
            };
            (Values::U8(bytes.collect()), each)
        }
    };
    let shape = [&[samples.len() as u32], each].concat();
    write(&folder.join("images.gz"), &Array { shape, values })
}

fn write(path: &Path, array: &Array) -> Result<(), SimulationError> {
    let written: Result<(), IdxError> = idx::write(path, array);
    Ok(written.map_err(DataError::from)?)
}

#[cfg(test)]
mod tests {
    use fedistill_learning::Dataset;
    use fedistill_protocol::Elements;

    use super::*;

    #[test]
    fn samples_of_any_kind_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let floats = || Elements::F32((0..12).map(|value| value as f32 / 7.0 - 1.0).collect());
        let bytes = || Elements::U8((244..=255).collect());
        for (shape, elements) in [
            (vec![2, 3], floats()),
            (vec![1, 2, 3], floats()),
            (vec![1, 2, 3], bytes()),
            (vec![3, 2, 2], bytes()),
            (vec![4], bytes()),
        ] {
            let samples = Samples::new(shape, elements).unwrap();
            super::samples(folder.path(), &samples).unwrap();
            let read = Samples::idx(&folder.path().join("images.gz")).unwrap();
            assert_eq!(read, samples);
        }
    }

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
        let data = Data::read(&config.data).unwrap();
        let classes = data.train().classes().to_vec();
        let world = data.share_out(&config).unwrap();
        for (name, view) in [
            ("client-2", &world.private[2]),
            ("client-2/held-out", &world.held_out[2]),
        ] {
            let path = folder.path().join(name);
            let (images, labels) = (path.join("images.gz"), path.join("labels.gz"));
            let read = Dataset::idx(&images, &labels, classes.clone()).unwrap();
            assert_eq!(read, view.to_dataset());
        }
        let transfer = Samples::idx(&folder.path().join("transfer/images.gz")).unwrap();
        assert_eq!(transfer, world.transfer);
    }
}
