//! Which labelled samples `run` lets the method measure by.

use std::path::Path;

use fedistill_coordinator::config::{Config, TeacherConfig};
use fedistill_coordinator::stand_ins::file;
use fedistill_coordinator::{Labelled, Settings};
use fedistill_federation::Probes;
use fedistill_learning::{Dataset, Samples, Source};
use fedistill_program::{Exit, Failure, OrExit};

/// Hides labelled samples among those of the transfer set, where there are some and the method wants
/// them.
pub(crate) fn hide(
    config: &Config,
    settings: &Settings,
    samples: Samples,
) -> Result<(Samples, Option<Probes>), Failure> {
    let wanted = settings.method.wants_probes();
    if !wanted && config.probes.is_some() {
        let method = settings.method.name();
        tracing::info!("method {method} measures nothing by labelled samples: probes stay unused");
    }
    if !wanted {
        return Ok((samples, None));
    }
    let found = match &config.probes {
        Some(source) => Some(given(config, source)?),
        None => learnt(config, settings)?,
    };
    let Some((data, labelled)) = found else {
        return Ok((samples, None));
    };
    match labelled.hide_in(&samples, settings.seed) {
        Some((samples, probes)) => Ok((samples, Some(probes))),
        None => Err(Failure::new(
            Exit::Data,
            format!(
                "probes have samples of shape {:?}, the transfer set has {:?}, or one has bytes and the other numbers: prepare both in the same way",
                data.samples().shape(),
                samples.shape()
            ),
        )),
    }
}

/// Samples that the teacher has not seen.
fn given(config: &Config, source: &Source) -> Result<(Dataset, Labelled), Failure> {
    let data = source
        .labelled(config.classes.clone())
        .or_exit(Exit::Data)?;
    let labelled = Labelled::new(&data, None).or_exit(Exit::Data)?;
    Ok((data, labelled))
}

/// Samples that the teacher was trained on, with what its stand-ins said of them; none where there is no
/// teacher with a vote, or nothing was said.
fn learnt(config: &Config, settings: &Settings) -> Result<Option<(Dataset, Labelled)>, Failure> {
    let Some(teacher) = &config.teacher else {
        return Ok(None);
    };
    if teacher.untrained {
        return Ok(None);
    }
    let path = file::beside(&teacher.file);
    let may = teacher.probes && path.exists();
    let source = teacher.labelled.as_ref().filter(|_| may);
    let Some(source) = source else {
        let method = settings.method.name();
        tracing::info!(
            "{method} has no labelled samples to measure the teacher by, so its weight stays at the default: name some that it has not seen in [probes], or set probes = true in [teacher] and train it with `fedistill-coordinator teacher train`"
        );
        return Ok(None);
    };
    let (data, labelled) = said(config, teacher, source, &path)?;
    tracing::info!(
        "{} of the teacher's labelled samples travel unmarked, without labels, with the transfer set, to measure the teacher by, as [teacher] probes = true says",
        data.len().min(Labelled::MOST)
    );
    Ok(Some((data, labelled)))
}

fn said(
    config: &Config,
    teacher: &TeacherConfig,
    source: &Source,
    path: &Path,
) -> Result<(Dataset, Labelled), Failure> {
    let data = source.labelled(config.classes.clone()).map_err(|error| {
        let path = path.display();
        let why = format!(
            "{error} (teacher.labelled, which {path} is about: remove that to go without, or write probes = false in [teacher])"
        );
        Failure::new(Exit::Data, why)
    })?;
    let about = file::About::of(&teacher.file, &data).or_exit(Exit::Data)?;
    let logits = file::load(path, &about).or_exit(Exit::Data)?;
    let labelled = Labelled::new(&data, Some(logits)).or_exit(Exit::Data)?;
    Ok((data, labelled))
}
