//! `fedistill-coordinator`.

mod args;
mod probing;
mod teacher_command;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use fedistill_coordinator::config::{
    Config, TeacherConfig, check_classes, template, without_effect,
};
use fedistill_coordinator::status::{self, Bookkeeper, Stage};
use fedistill_coordinator::{
    Coordinator, CoordinatorError, Ended, FileStore, NetTeacher, Store, StoreError, Teacher,
};
use fedistill_federation::MethodError;
use fedistill_learning::Learner;
use fedistill_learning::checkpoint::{self, About};
use fedistill_program::lock::{self, Lock};
use fedistill_program::{
    Exit, Failure, OrExit, arguments, finish, heap, log, print, told_to_stop, unless_stopped,
};
use fedistill_protocol::Name;
use fedistill_transport::identity::{Authority, Identity, Validity, write_new};
use fedistill_transport::quic::{Limits, QuicListener};
use fedistill_transport::tcp::TcpListener;
use fedistill_transport::{Doors, Listen, Peer};
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    heap::share_one_heap();
    log::start("info");
    let result = match arguments::<Args>("fedistill-coordinator").command {
        Command::Init {
            folder,
            federation,
            hosts,
            classes,
            days,
        } => init(&folder, federation, &hosts, &classes, days),
        Command::ClientCert {
            name,
            folder,
            out,
            days,
        } => {
            let out = out.unwrap_or_else(|| folder.join(format!("{name}.pem")));
            client_cert(&name, &folder, &out, days)
        }
        Command::Teacher(command) => teacher_command::run(command),
        Command::Run {
            config,
            listen,
            epoch,
        } => Config::from_file(&config.config)
            .or_exit(Exit::Usage)
            .and_then(|mut config| {
                config.listen = listen.unwrap_or(config.listen);
                run(config, epoch)
            }),
        Command::Status { config, json } => show(&config.config, json),
    };
    finish("fedistill-coordinator", result)
}

fn init(
    folder: &Path,
    federation: Name,
    hosts: &[String],
    classes: &[String],
    days: u32,
) -> Result<(), Failure> {
    check_classes(classes).or_exit(Exit::Usage)?;
    let shown = folder.display();
    fs::create_dir_all(folder)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot make {shown}: {error}")))?;
    let config = folder.join("coordinator.toml");
    for taken in [&config, &folder.join("root.key")] {
        if taken.exists() {
            let why = format!(
                "{} is there already: choose another folder",
                taken.display()
            );
            return Err(Failure::new(Exit::Usage, why));
        }
    }
    let authority = Authority::create(federation.clone()).or_exit(Exit::Identity)?;
    let bundle = authority
        .coordinator(hosts, Validity::days(days))
        .or_exit(Exit::Identity)?;
    authority.save(folder).or_exit(Exit::Identity)?;
    write_new(&folder.join("coordinator.pem"), &bundle, true).or_exit(Exit::Identity)?;
    write_new(&config, &template(&federation, classes), false).or_exit(Exit::Failed)?;
    let (hosts, config) = (hosts.join(", "), config.display());
    print(format_args!(
        "made federation {federation} in {shown}:
  root.key          signs certificates: keep it safe, best on no server
  root.pem          what all sides trust
  coordinator.pem   the coordinator's certificate and key, for {hosts}
  coordinator.toml  name your data in it
next: fedistill-coordinator client-cert NAME --folder {shown}
      fedistill-coordinator teacher train --config {config}
      fedistill-coordinator run --config {config}"
    ))
}

fn client_cert(name: &Name, folder: &Path, out: &Path, days: u32) -> Result<(), Failure> {
    let authority = Authority::load(folder).or_exit(Exit::Identity)?;
    let bundle = authority
        .client(name, Validity::days(days))
        .or_exit(Exit::Identity)?;
    write_new(out, &bundle, true).or_exit(Exit::Identity)?;
    print(format_args!(
        "{}: client {name} of federation {}, valid for {days} days",
        out.display(),
        authority.federation()
    ))
}

fn show(config: &Path, json: bool) -> Result<(), Failure> {
    let config = Config::from_file(config).or_exit(Exit::Usage)?;
    let status = status::read(&config.state).or_exit(Exit::Failed)?;
    match json {
        true => print(serde_json::to_string_pretty(&status).or_exit(Exit::Failed)?),
        false => print(status),
    }
}

/// What a run needs, as it was found on disk.
struct Loaded {
    config: Config,
    identity: Identity,
    coordinator: Coordinator,
    epoch: u64,
    /// Of the state folder.
    _lock: Lock,
}

fn run(config: Config, epoch: Option<u64>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().or_exit(Exit::Failed)?;
    let stop = CancellationToken::new();
    let told = {
        let _within = runtime.enter();
        told_to_stop().or_exit(Exit::Failed)?
    };
    let until = stop.clone();
    runtime.spawn(async move {
        told.await;
        tracing::info!("told to stop");
        until.cancel();
    });
    let loaded = unless_stopped(&runtime, stop.cancelled(), move || prepare(config, epoch));
    let Some(loaded) = loaded else {
        // What it is at is not waited for: on disk, everything is as after a crash at the worst.
        runtime.shutdown_background();
        tracing::info!("stopped before it had begun");
        return Ok(());
    };
    let Loaded {
        config,
        identity,
        coordinator,
        epoch,
        _lock,
    } = loaded.or_exit(Exit::Failed)??;
    let ended = runtime.block_on(async {
        let listener = doors(&config, &identity, epoch)?;
        coordinator.run(listener, stop).await.map_err(failure)
    });
    // What the teacher was learning is learnt again from what is on disk: nobody waits for it.
    runtime.shutdown_background();
    let (stage, told) = match &ended {
        Ok(Ended::Finished) => (Stage::Finished, "all rounds are done"),
        Ok(Ended::Stopped) => (
            Stage::Stopped,
            "stopped; started again, it goes on from here",
        ),
        Err(_) => (Stage::Failed, "ended early"),
    };
    tracing::info!("{told}");
    if let Err(error) = status::end(&config.state, stage) {
        tracing::warn!("{error}");
    }
    ended.map(|_| ())
}

/// Finds everything that a run needs.
fn prepare(config: Config, epoch: Option<u64>) -> Result<Loaded, Failure> {
    // What is written wrong is told of before anything is read.
    config.settings(u32::MAX).or_exit(Exit::Usage)?;
    let identity = identify(&config)?;
    let samples = config.transfer.samples().or_exit(Exit::Data)?;
    let count = samples.len().try_into().unwrap_or(u32::MAX);
    let settings = config.settings(count).or_exit(Exit::Usage)?;
    for why in without_effect(&config, &settings, count) {
        tracing::warn!("{why}");
    }
    let teacher = match &config.teacher {
        Some(teacher) if teacher.untrained => Some(untrained(&config, teacher, samples.shape())?),
        Some(teacher) => Some(load(&teacher.file, samples.shape(), &config.classes)?),
        None => None,
    };
    let (samples, probes) = probing::hide(&config, &settings, samples)?;
    let transfer = samples.publish().or_exit(Exit::Data)?;
    let held_out = config.held_out.as_ref();
    let held_out = held_out
        .map(|source| source.labelled(config.classes.clone()))
        .transpose()
        .or_exit(Exit::Data)?;
    let folder = config.state.as_path();
    fs::create_dir_all(folder).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot make {}: {error}", folder.display()),
        )
    })?;
    let _lock = lock::take(folder)?;
    let store = FileStore::open_at(&folder.join("rounds.redb")).map_err(unusable)?;
    let mut store = store.remembering(config.history);
    let rolled_back = epoch.map(|named| Ok((named, store.roll_back(named)?)));
    let rolled_back = rolled_back.transpose().map_err(unusable)?;
    let epoch = store.epoch().number;
    if let Some((named, false)) = rolled_back {
        tracing::info!(
            "--epoch {named} changes nothing: epoch {epoch} has come; a rollback that is meant takes a later one"
        );
    }
    let bookkeeper = Bookkeeper::new(folder, &settings.federation, settings.rounds, held_out);
    let mut coordinator = Coordinator::new(settings, transfer, teacher, Box::new(store))
        .map_err(failure)?
        .observed_by(bookkeeper);
    if let Some(probes) = probes {
        coordinator = coordinator.probing(probes).map_err(failure)?;
    }
    Ok(Loaded {
        config,
        identity,
        coordinator,
        epoch,
        _lock,
    })
}

/// Opens the doors that the configuration names, and says where they are.
fn doors(config: &Config, identity: &Identity, epoch: u64) -> Result<Arc<dyn Listen>, Failure> {
    let limits = Limits::default();
    let quic = QuicListener::bind(config.listen, identity, limits).or_exit(Exit::Network)?;
    let address = quic.address().or_exit(Exit::Network)?;
    let federation = &config.federation;
    tracing::info!("epoch {epoch} of federation {federation} listens on {address}");
    let Some(address) = config.fallback.tcp else {
        tracing::info!(
            "over UDP alone: who gets none through cannot connect, unless [fallback] names an address for TCP"
        );
        return Ok(Arc::new(quic));
    };
    let tcp = TcpListener::bind(address, identity, limits).or_exit(Exit::Network)?;
    let address = tcp.address();
    tracing::info!("who gets no UDP through is let in over TCP on {address}");
    Ok(Arc::new(Doors::new(quic, tcp)))
}

/// Reads the bundle and holds it against the federation that it is to serve.
fn identify(config: &Config) -> Result<Identity, Failure> {
    let identity = Identity::load(&config.bundle).or_exit(Exit::Identity)?;
    let refuse = |why: String| {
        let bundle = config.bundle.display();
        Err(Failure::new(Exit::Identity, format!("{bundle}: {why}")))
    };
    if let Peer::Client { federation, name } = identity.peer() {
        return refuse(format!(
            "it is the bundle of client {name} of federation {federation}: name the coordinator's, which init wrote"
        ));
    }
    match identity.federation() {
        Some(federation) if federation.as_str() == config.federation => Ok(identity),
        Some(federation) => refuse(format!(
            "it is the bundle of federation {federation}, the configuration's is {}: make them the same",
            config.federation
        )),
        None => {
            refuse("its root is none of a federation: name the bundle that init wrote".to_owned())
        }
    }
}

/// Reads a teacher and holds it against the data that it is to teach.
fn load(file: &Path, shape: &[u32], classes: &[String]) -> Result<Box<dyn Teacher>, Failure> {
    if !file.exists() {
        let why = format!(
            "teacher {} is not there: make it with `fedistill-coordinator teacher train` or `teacher import`",
            file.display()
        );
        return Err(Failure::new(Exit::Data, why));
    }
    let saved = checkpoint::load(file).or_exit(Exit::Data)?;
    let about = saved.about.clone();
    if about.input != shape || about.classes != classes {
        return Err(Failure::new(
            Exit::Data,
            format!(
                "teacher {} is for samples of shape {:?} and the classes {}; the transfer set has shape {shape:?}, the configuration the classes {}",
                file.display(),
                about.input,
                about.classes.join(", "),
                classes.join(", ")
            ),
        ));
    }
    let net = saved.net().or_exit(Exit::Data)?;
    Ok(Box::new(NetTeacher::new(Learner::new(net), about)))
}

/// A teacher that knows nothing yet; its first parameters follow from the federation's seed.
fn untrained(
    config: &Config,
    teacher: &TeacherConfig,
    shape: &[u32],
) -> Result<Box<dyn Teacher>, Failure> {
    let net = teacher
        .model
        .build(shape, config.classes.len(), config.seed)
        .or_exit(Exit::Data)?;
    let about = About {
        architecture: Some(teacher.model),
        input: shape.to_vec(),
        classes: config.classes.clone(),
    };
    Ok(Box::new(NetTeacher::untrained(Learner::new(net), about)))
}

/// A store that a run cannot begin with.
fn unusable(error: StoreError) -> Failure {
    match error {
        StoreError::NoRoom { .. } => {
            Failure::new(Exit::Failed, format!("{error}: make room, and start again"))
        }
        other => Failure::new(Exit::Data, other),
    }
}

fn failure(error: CoordinatorError) -> Failure {
    let exit = match &error {
        CoordinatorError::TooFewClients { .. } | CoordinatorError::NoQuorum { .. } => {
            Exit::TooFewClients
        }
        CoordinatorError::Settings(_) | CoordinatorError::Quorum(_) => Exit::Usage,
        // Kept in a state folder that is not of this federation, or no longer, or no longer this process's.
        CoordinatorError::Method(MethodError::Memory(_))
        | CoordinatorError::Store(StoreError::Overtaken { .. })
        | CoordinatorError::Log(_)
        | CoordinatorError::State(_) => Exit::Data,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}
