//! What is read from disks: data sets, models, configurations.

use std::path::Path;

use fedistill_coordinator::stand_ins::file as stand_ins;
use fedistill_coordinator::{Exchange, StateRecord};
use fedistill_federation::State;
use fedistill_learning::idx::{self as format, Values};
use fedistill_learning::{Dataset, Model, Samples, checkpoint};
use fedistill_program::config::{self, Packing, Steps};
use fedistill_protocol::Digest;
use serde::Deserialize;

/// An IDX file of any type, raw or gzip.
pub(crate) fn idx(bytes: &[u8]) -> bool {
    let Ok(read) = format::read_any_from(Path::new("fuzzed"), bytes) else {
        return false;
    };
    let sides = read.shape.iter().map(|side| u64::from(*side));
    let held = match &read.values {
        Values::U8(values) => values.len(),
        Values::I16(values) => values.len(),
        Values::I32(values) => values.len(),
        Values::F32(values) => values.len(),
    };
    assert_eq!(sides.product::<u64>(), held as u64);
    true
}

/// A CSV file with a column of labels.
pub(crate) fn table(bytes: &[u8]) -> bool {
    let classes = vec!["calm".to_owned(), "storm".to_owned()];
    let Ok(data) = Dataset::csv_from(Path::new("fuzzed"), bytes, "kind", classes) else {
        return false;
    };
    assert_eq!(data.labels().len(), data.samples().len());
    assert!(data.labels().iter().all(|label| *label < 2));
    assert!(
        data.samples()
            .to_vec()
            .iter()
            .all(|value| value.is_finite())
    );
    true
}

/// A PNG or JPEG file.
pub(crate) fn image(bytes: &[u8]) -> bool {
    let Ok(samples) = Samples::image_from(Path::new("fuzzed"), bytes, &[3, 4, 5]) else {
        return false;
    };
    assert_eq!((samples.len(), samples.shape()), (1, &[3, 4, 5][..]));
    true
}

/// A model.
pub(crate) fn checkpoint(bytes: &[u8]) -> bool {
    let Ok(read) = checkpoint::load_from(Path::new("fuzzed"), bytes) else {
        return false;
    };
    for (name, shape, values) in &read.tensors {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
    }
    let Ok(net) = read.net() else {
        return false;
    };
    assert_eq!(net.classes(), read.about.classes.len());
    true
}

/// What stand-ins of a teacher said of four labelled samples.
pub(crate) fn stand_ins_said(bytes: &[u8]) -> bool {
    let about = stand_ins_about();
    let Ok(read) = stand_ins::decode(bytes, &about) else {
        return false;
    };
    assert_eq!((read.rows(), read.classes()), (about.rows, about.classes));
    assert!(read.values().iter().all(|value| value.is_finite()));
    let written = stand_ins::encode(&about, &read);
    assert_eq!(stand_ins::decode(&written, &about), Ok(read));
    true
}

/// What those files are about.
pub fn stand_ins_about() -> stand_ins::About {
    stand_ins::About {
        teacher: Digest::of(b"teacher"),
        labelled: Digest::of(b"labelled"),
        rows: 4,
        classes: 3,
    }
}

/// What rounds hand on to each other, as a coordinator's store has it: the length of a record in 2 bytes, the record, and
/// the bytes that belong to it.
pub(crate) fn state(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((record, values)) = rest.split_at_checked(length) else {
        return false;
    };
    let Ok(record) = serde_json::from_slice::<StateRecord>(record) else {
        return false;
    };
    let Ok((state, exchange)) = record.restore(values) else {
        return false;
    };
    let (record, values) = StateRecord::of(&state, &exchange);
    let again = record.restore(&values).expect("what was written is read");
    assert_eq!(again, (state, exchange));
    true
}

/// The same, of these.
pub fn parted(state: &State, exchange: &Exchange) -> Vec<u8> {
    let (record, values) = StateRecord::of(state, exchange);
    let record = serde_json::to_vec(&record).expect("a record is text");
    let length = u16::try_from(record.len()).expect("a short one");
    [&length.to_le_bytes(), &record[..], &values].concat()
}

/// A configuration, of keys that all programs share.
pub(crate) fn config(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Config {
        precision: Packing,
        optimiser: Steps,
        #[serde(default)]
        rounds: u32,
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match config::parse::<Config>(Path::new("fuzzed"), text) {
        Ok(Config {
            precision,
            optimiser,
            rounds,
        }) => {
            let _ = (fedistill_protocol::Precision::from(precision), rounds);
            optimiser.check().is_ok()
        }
        Err(error) => {
            assert!(
                !error.to_string().contains('\n'),
                "an error of several lines: {error}"
            );
            false
        }
    }
}
