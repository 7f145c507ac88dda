//! What a run leaves behind: `summary.json`, `rounds.jsonl` and `report.html` in one folder.

use std::fs;
use std::io::{Error, Result};
use std::path::Path;

use fedistill_learning::checkpoint::write_whole;

use crate::{Experiment, Summary, report};

/// Makes the folder, and writes to it once, before the work is done, not after it.
///
/// # Errors
/// A folder that cannot be made or written to.
pub fn prepare(folder: &Path) -> Result<()> {
    let probe = folder.join("report.html.new");
    let made = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&probe, "-"))
        .and_then(|()| fs::remove_file(&probe));
    made.map_err(|error| {
        let folder = folder.display();
        Error::new(
            error.kind(),
            format!("cannot write results to {folder}: {error}"),
        )
    })
}

/// Writes all three files, each whole or not at all.
///
/// # Errors
/// A file that cannot be written.
pub fn write(experiment: &Experiment, folder: &Path) -> Result<()> {
    let summary = Summary::from(experiment);
    let summary = serde_json::to_string_pretty(&summary)?;
    let mut rounds = String::new();
    for row in &experiment.federated.rounds {
        rounds += &serde_json::to_string(row)?;
        rounds.push('\n');
    }
    let report = report::html(experiment).map_err(Error::other)?;
    for (name, text) in [
        ("summary.json", summary),
        ("rounds.jsonl", rounds),
        ("report.html", report),
    ] {
        write_file(&folder.join(name), &text)?;
    }
    Ok(())
}

/// Writes a file whole or not at all.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    write_whole(path, text.as_bytes()).map_err(|error| {
        Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    })
}
