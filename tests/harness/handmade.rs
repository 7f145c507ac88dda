//! A federation made by hand: identities, a transfer set, settings and data as small as they can be, for what
//! is about rounds and connections and not about learning.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fedistill_client::{Client, Policy, Student};
use fedistill_coordinator::{Coordinator, Settings, Store};
use fedistill_federation::Quorum;
use fedistill_learning::idx::{self, Idx};
use fedistill_learning::{Dataset, Samples};
use fedistill_protocol::{Elements, Name, Precision, TransferSet};
use fedistill_transport::Dial;
use fedistill_transport::identity::{Authority, Identity, Validity};

use crate::process::coordinate;
use crate::{Running, Scripted, clinic};

/// How the coordinator packs answers, and what a device's digest is of.
pub(crate) const PRECISION: Precision = Precision::F16;
/// Values of a sample.
const VALUES: u32 = 4;
/// Longer than anything made by hand takes.
const LONG: Duration = Duration::from_secs(600);

/// A federation and its root key.
pub struct Handmade {
    authority: Authority,
    classes: usize,
    rows: u32,
}

/// A device that a federation has enrolled.
pub struct Device {
    /// Its name.
    pub name: Name,
    /// Its certificate and key.
    pub identity: Identity,
}

impl Handmade {
    /// A federation of so many classes, and a transfer set of `rows` samples: each round speaks about all
    /// of them.
    pub fn new(classes: usize, rows: u32) -> Self {
        Self {
            authority: Authority::create("clinic".parse().unwrap()).unwrap(),
            classes,
            rows,
        }
    }

    /// Its name.
    pub fn name(&self) -> Name {
        self.authority.federation().clone()
    }

    /// The names of its classes.
    pub fn classes(&self) -> Vec<String> {
        (0..self.classes).map(|class| class.to_string()).collect()
    }

    /// Rounds of `logit-mean` that wait for all of `clients`.
    pub fn settings(&self, clients: usize, rounds: u32) -> Settings {
        let all = Quorum::new(clients, clients, Duration::ZERO, LONG).unwrap();
        let mut settings = Settings {
            rounds,
            asked: clients,
            open_with: clients,
            quorum: all,
            patience: Some(LONG),
            precision: PRECISION,
            ..clinic::settings(self.name(), self.classes(), self.rows)
        };
        settings.training.batch = u16::MAX;
        settings
    }

    /// A coordinator in this process, without a teacher.
    pub fn coordinator(&self, settings: Settings, store: Box<dyn Store>) -> Coordinator {
        Coordinator::new(settings, self.transfer(), None, store).unwrap()
    }

    /// The public samples.
    pub fn transfer(&self) -> TransferSet {
        samples(self.rows as usize).publish().unwrap()
    }

    /// The coordinator's certificate and key, for 127.0.0.1.
    pub fn host(&self) -> Identity {
        parse(&self.host_bundle())
    }

    fn host_bundle(&self) -> String {
        let hosts = ["127.0.0.1".to_owned()];
        let bundle = self.authority.coordinator(&hosts, Validity::days(1));
        bundle.unwrap()
    }

    /// A new device, `ward-NUMBER`.
    pub fn enrol(&self, number: usize) -> Device {
        let name: Name = format!("ward-{number}").parse().unwrap();
        let bundle = self.authority.client(&name, Validity::days(1)).unwrap();
        Device {
            name,
            identity: parse(&bundle),
        }
    }

    /// A device's client, with one private sample.
    pub fn client(
        &self,
        device: &Device,
        student: impl Student + 'static,
        dial: impl Dial + 'static,
    ) -> Client {
        let private = Dataset::new(Path::new("private"), samples(1), vec![0], self.classes());
        Client::new(
            self.name(),
            device.name.clone(),
            student,
            private.unwrap(),
            Policy::default(),
            dial,
        )
        .unwrap()
    }

    /// A student that says the same about every sample, which no device of another number says.
    pub fn student(&self, number: usize) -> Scripted {
        Scripted::new(number, self.classes, self.rows)
    }

    /// Files for a coordinator that is a process of its own; `round` is what the `[round]` section of its
    /// configuration says, beside how many samples and how answers are packed.
    pub fn hosted(&self, rounds: u32, round: &str) -> Hosted {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("coordinator.pem"), self.host_bundle()).unwrap();
        let idx = Idx {
            shape: vec![self.rows, VALUES],
            values: vec![0; (self.rows * VALUES) as usize],
        };
        idx::write(&folder.path().join("transfer.gz"), &idx.into()).unwrap();
        let hosted = Hosted { folder };
        self.configure(&hosted, rounds, round);
        hosted
    }

    /// Writes the configuration of a coordinator: its next process takes it up.
    pub fn configure(&self, hosted: &Hosted, rounds: u32, round: &str) {
        let config = format!(
            r#"
federation = "{name}"
listen = "127.0.0.1:0"
classes = {classes:?}
method = "logit-mean"
rounds = {rounds}
[transfer]
idx = {{ images = "transfer.gz" }}
[training]
distillation-epochs = 1
[round]
samples = {rows}
packing = "f16"
{round}
"#,
            name = self.name(),
            classes = self.classes(),
            rows = self.rows,
        );
        fs::write(hosted.config(), config).unwrap();
    }
}

fn parse(bundle: &str) -> Identity {
    Identity::parse(Path::new("bundle"), bundle.as_bytes()).unwrap()
}

fn samples(count: usize) -> Samples {
    let values = vec![0; count * VALUES as usize];
    Samples::new(vec![VALUES], Elements::U8(values)).unwrap()
}

/// The files of a coordinator that is a process of its own.
pub struct Hosted {
    folder: tempfile::TempDir,
}

impl Hosted {
    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("coordinator.toml")
    }

    /// The folder that outlives its process.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Starts it on `listen`; returns it, and where it listens.
    pub fn start(&self, listen: &str) -> (Running, String) {
        let mut running = Running::start("coordinator", &mut coordinate(&self.config(), listen));
        let line = running.wait_for("listens on ");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        (running, address)
    }
}
