//! `fedistill-client`.

mod args;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use fedistill_client::config::Config;
use fedistill_client::journal::{Journal, JournalError};
use fedistill_client::{BlobFolder, Client, ClientError, Ended, Keeper, ModelCard, kept};
use fedistill_learning::checkpoint::About;
use fedistill_learning::{Source, seed, softmax};
use fedistill_program::lock::{self, Lock};
use fedistill_program::{
    Exit, Failure, OrExit, arguments, finish, log, print, told_to_stop, unless_stopped,
};
use fedistill_transport::identity::Identity;
use fedistill_transport::quic::{Manner, QuicDialer};
use fedistill_transport::tcp::TcpDialer;
use fedistill_transport::{Dial, FallbackDialer, Peer, TransportError};
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command, ConfigFlag};

/// In the state folder.
const JOURNAL: &str = "journal.redb";

fn main() -> ExitCode {
    log::start("info");
    let result = match arguments::<Args>("fedistill-client").command {
        Command::Run {
            config,
            coordinator,
            fallback,
        } => read(&config).and_then(|mut config| {
            config.coordinator = coordinator.unwrap_or(config.coordinator);
            config.fallback = fallback.unwrap_or(config.fallback);
            run(config)
        }),
        Command::Evaluate { config, private } => {
            read(&config).and_then(|config| evaluate(config, private))
        }
        Command::Predict {
            config,
            input,
            label,
            all,
        } => read(&config).and_then(|config| predict(&config, input, label, all)),
    };
    finish("fedistill-client", result)
}

fn read(flag: &ConfigFlag) -> Result<Config, Failure> {
    Config::from_file(&flag.config).or_exit(Exit::Usage)
}

fn run(config: Config) -> Result<(), Failure> {
    // One thread talks, one trains.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .or_exit(Exit::Failed)?;
    let stop = CancellationToken::new();
    let told = {
        let _within = runtime.enter();
        told_to_stop().or_exit(Exit::Failed)?
    };
    let until = stop.clone();
    runtime.spawn(async move {
        told.await;
        until.cancel();
    });
    let loaded = unless_stopped(&runtime, stop.cancelled(), move || prepare(config));
    let Some(loaded) = loaded else {
        // What it is at is not waited for: on disk, everything is as after a crash at the worst.
        runtime.shutdown_background();
        tracing::info!("stopped before it had begun");
        return Ok(());
    };
    let (client, _lock) = loaded.or_exit(Exit::Failed)??;
    let ended = runtime.block_on(client.run_until(stop));
    // Training that is under way is not waited for: the round counts without it.
    runtime.shutdown_background();
    match ended {
        Ok(Ended::Finished(why)) => tracing::info!("done: {why}"),
        Ok(Ended::Stopped) => tracing::info!("stopped; started again, it goes on from here"),
        Err(error @ ClientError::NoData(_)) => return Err(Failure::new(Exit::Data, error)),
        Err(error) => return Err(Failure::new(Exit::NotWelcome, error)),
    }
    Ok(())
}

/// The client that this configuration describes, and the lock of its state folder.
fn prepare(config: Config) -> Result<(Client, Lock), Failure> {
    let identity = Identity::load(&config.bundle).or_exit(Exit::Identity)?;
    let Peer::Client { federation, name } = identity.peer().clone() else {
        let why = format!(
            "{}: it is a coordinator's bundle: make one with fedistill-coordinator client-cert",
            config.bundle.display()
        );
        return Err(Failure::new(Exit::Identity, why));
    };
    let dialer = dialer(&config, &identity).map_err(|error| match error {
        TransportError::Address { .. } => Failure::new(Exit::Usage, error),
        error => Failure::new(Exit::Identity, error),
    })?;
    let data = config
        .data
        .labelled(config.classes.clone())
        .or_exit(Exit::Data)?;
    let held_out = config.held_out.as_ref();
    let held_out = held_out
        .map(|source| source.labelled(config.classes.clone()))
        .transpose()
        .or_exit(Exit::Data)?;
    let about = About {
        architecture: Some(config.model),
        input: data.samples().shape().to_vec(),
        classes: config.classes.clone(),
    };
    let own = || seed::stream(0, &format!("{federation}/{name}")).random();
    let card = ModelCard::new(name.as_str(), federation.as_str(), config.model, data.len());
    let drawn = config.seed.unwrap_or_else(own);
    let state = config.state.as_path();
    fs::create_dir_all(state).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot make {}: {error}", state.display()),
        )
    })?;
    let lock = lock::take(state)?;
    let (keeper, student) =
        Keeper::open(state, about, config.model, drawn, card, held_out).or_exit(Exit::Data)?;
    tracing::info!(
        "client {name} of federation {federation}: {} private samples, {}",
        data.len(),
        config.model
    );
    let opened = Journal::open(&state.join(JOURNAL), &federation, &name);
    let (journal, kept) = opened.map_err(|error| match error {
        JournalError::NoRoom { .. } => {
            Failure::new(Exit::Failed, format!("{error}: make room, and start again"))
        }
        other => Failure::new(Exit::Data, other),
    })?;
    let every = config.checkpoint_seconds;
    let client = Client::new(federation, name, student, data, config.policy, dialer)
        .or_exit(Exit::Data)?
        .watched_by(keeper)
        .caching(BlobFolder::new(state.join("blobs")))
        .journaled(journal, kept, every)
        .map_err(|error| {
            let why = format!(
                "{}: it is of another student than the configuration describes ({error}): move {} away to begin afresh",
                state.join(JOURNAL).display(),
                state.display()
            );
            Failure::new(Exit::Data, why)
        })?;
    Ok((client, lock))
}

/// The ways to the coordinator that the configuration names.
fn dialer(config: &Config, identity: &Identity) -> Result<Box<dyn Dial>, TransportError> {
    let manner = Manner {
        // Without a pause it would do nothing else.
        keep_alive: config.keep_alive_seconds,
        ..Manner::default()
    };
    let (address, name) = (config.coordinator.clone(), config.server_name.clone());
    let quic = QuicDialer::new(address, name, identity)?.with(manner, identity)?;
    let Some(address) = config.fallback.address(&config.coordinator) else {
        return Ok(Box::new(quic));
    };
    // Whoever answers over TCP must prove to be the same.
    let name = Some(quic.server_name().to_owned());
    let tcp = TcpDialer::new(address, name, identity, manner)?;
    Ok(Box::new(FallbackDialer::new(quic, tcp)))
}

fn evaluate(config: Config, private: bool) -> Result<(), Failure> {
    let source = match (&config.held_out, private) {
        (_, true) => &config.data,
        (Some(held_out), false) => held_out,
        (None, false) => {
            let why =
                "the configuration names no held-out samples: add [held-out], or give --private";
            return Err(Failure::new(Exit::Usage, why));
        }
    };
    let (mut student, about) = kept(&config.state).or_exit(Exit::Data)?;
    let data = source
        .labelled(config.classes.clone())
        .or_exit(Exit::Data)?;
    let what = format!("the student in {}", config.state.display());
    about.check(&what, &data).or_exit(Exit::Data)?;
    let evaluation = student
        .evaluate(data.samples(), data.labels())
        .or_exit(Exit::Data)?;
    print(format_args!("student: {evaluation}"))
}

fn predict(
    config: &Config,
    input: PathBuf,
    label: Option<String>,
    all: bool,
) -> Result<(), Failure> {
    let (mut student, about) = kept(&config.state).or_exit(Exit::Data)?;
    let shown = input.display().to_string();
    let samples = Source::guess(input, &about.input, label)
        .samples()
        .or_exit(Exit::Data)?;
    if samples.shape() != about.input {
        let why = format!(
            "{shown}: its samples have shape {:?}, the student takes {:?}",
            samples.shape(),
            about.input
        );
        return Err(Failure::new(Exit::Data, why));
    }
    let logits = student.logits(&samples).or_exit(Exit::Data)?;
    let classes = about.classes.len();
    let mut text = String::from("sample,class,probability");
    if all {
        text.extend(about.classes.iter().map(|class| format!(",{class}")));
    }
    for (index, row) in softmax(&logits, classes).chunks(classes).enumerate() {
        let best = (0..classes).fold(
            0,
            |best, class| if row[class] > row[best] { class } else { best },
        );
        text += &format!("\n{index},{},{:.4}", about.classes[best], row[best]);
        if all {
            text.extend(row.iter().map(|probability| format!(",{probability:.4}")));
        }
    }
    print(text)
}
