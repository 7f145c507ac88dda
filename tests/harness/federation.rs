use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fedistill_check::Report;

use crate::process::coordinate;
use crate::{Quiet, Running, program, run, small_data};

const CLASSES: &str = "0,1,2,3,4,5,6,7,8,9";

/// The files of a federation of processes, as a person would have made them.
pub struct Deployment {
    folder: tempfile::TempDir,
}

impl Deployment {
    /// Certificates, data and configurations for `clients` clients on a little data; `round` is what
    /// the coordinator's `[round]` and `[training]` sections say.
    pub fn new(clients: usize, rounds: u32, round: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder };
        small_data(&this.path("small"), 1000, 200);
        let mut share_out = Command::new(program("fedistill-simulate"));
        let shared = run(share_out
            .args(["--clients", &clients.to_string(), "--partition", "iid"])
            .arg("--data")
            .arg(this.path("small"))
            .arg("--share-out")
            .arg(this.path("data")));
        assert_eq!(shared.code, Some(0), "{}", shared.told);
        let made = run(this.coordinator("init").arg(this.path("federation")).args([
            "--federation",
            "clinic",
            "--classes",
            CLASSES,
        ]));
        assert_eq!(made.code, Some(0), "{}", made.told);
        let config = format!(
            r#"
federation = "clinic"
listen = "127.0.0.1:0"
classes = [{classes}]
rounds = {rounds}
[transfer]
idx = {{ images = "../data/transfer/images.gz" }}
[teacher]
file = "teacher.safetensors"
model = "mlp-s"
labelled = {{ idx = {{ images = "../data/labelled/images.gz", labels = "../data/labelled/labels.gz" }} }}
probes = true
[held-out]
idx = {{ images = "../data/test/images.gz", labels = "../data/test/labels.gz" }}
{round}
"#,
            classes = quoted(CLASSES)
        );
        fs::write(this.coordinator_config(), config).unwrap();
        for index in 0..clients {
            this.certify(index);
            this.configure(index, "");
        }
        let trained = run(this
            .coordinator("teacher")
            .args(["train", "--epochs", "10", "--config"])
            .arg(this.coordinator_config()));
        assert_eq!(trained.code, Some(0), "{}", trained.told);
        this
    }

    /// One without end, whose clients keep a checkpoint after each pass and soon miss a coordinator that is gone; that,
    /// and where it listens.
    pub fn brisk(clients: usize, round: &str) -> (Self, Running, String) {
        let this = Self::new(clients, 1_000_000, round);
        for index in 0..clients {
            let brisk = "checkpoint-seconds = 0.0\nkeep-alive-seconds = 0.2\n";
            this.configure(index, brisk);
        }
        let (coordinator, address) = this.start("127.0.0.1:0");
        (this, coordinator, address)
    }

    /// A path in the deployment's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The coordinator's configuration.
    pub fn coordinator_config(&self) -> PathBuf {
        self.path("federation/coordinator.toml")
    }

    /// A client's configuration.
    pub fn client_config(&self, index: usize) -> PathBuf {
        self.path(&format!("client-{index}.toml"))
    }

    /// Makes the bundle of a client.
    pub fn certify(&self, index: usize) {
        let made = run(self
            .coordinator("client-cert")
            .arg(format!("client-{index}"))
            .arg("--folder")
            .arg(self.path("federation"))
            .arg("--out")
            .arg(self.path(&format!("client-{index}.pem"))));
        assert_eq!(made.code, Some(0), "{}", made.told);
    }

    /// Writes the configuration of a client, with `more` at its beginning.
    pub fn configure(&self, index: usize, more: &str) {
        let config = format!(
            r#"
coordinator = "127.0.0.1:1"
bundle = "client-{index}.pem"
state = "state-{index}"
classes = [{classes}]
{more}
[data]
idx = {{ images = "data/client-{index}/images.gz", labels = "data/client-{index}/labels.gz" }}
"#,
            classes = quoted(CLASSES)
        );
        fs::write(self.client_config(index), config).unwrap();
    }

    /// `fedistill-coordinator` with this command.
    pub fn coordinator(&self, command: &str) -> Command {
        let mut program = Command::new(program("fedistill-coordinator"));
        program.arg(command).env_remove("FEDISTILL_LOG");
        program
    }

    /// Starts the coordinator on `listen`; returns it, and where it listens.
    pub fn start(&self, listen: &str) -> (Running, String) {
        let mut running = Running::start("coordinator", &mut self.running(listen));
        let line = running.wait_for("listens on ");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        (running, address)
    }

    /// The coordinator's command, where it listens on `listen`.
    pub fn running(&self, listen: &str) -> Command {
        coordinate(&self.coordinator_config(), listen)
    }

    /// Starts a client towards the coordinator at `address`.
    pub fn join(&self, index: usize, address: &str) -> Running {
        Running::start(
            &format!("client-{index}"),
            &mut self.joining(index, address),
        )
    }

    /// Starts the first `clients` of them.
    pub fn join_all(&self, clients: usize, address: &str) -> Vec<Running> {
        let clients = 0..clients;
        clients.map(|index| self.join(index, address)).collect()
    }

    /// A client's command, towards the coordinator at `address`.
    pub fn joining(&self, index: usize, address: &str) -> Command {
        let mut command = self.client("run", &self.client_config(index));
        command.args(["--coordinator", address]);
        command
    }

    /// The state folders of the coordinator and of so many clients.
    pub fn folders(&self, clients: usize) -> Vec<PathBuf> {
        let clients = (0..clients).map(|index| self.path(&format!("state-{index}")));
        let coordinator = self.path("federation/state");
        std::iter::once(coordinator).chain(clients).collect()
    }

    /// Looks at what all have kept, once they have ended: see [`crate::sound`].
    pub fn sound(&self, clients: usize, quiet: Option<Quiet>) -> Report {
        crate::sound(&self.folders(clients), quiet).1
    }

    /// `fedistill-client` with this command and configuration.
    pub fn client(&self, command: &str, config: &Path) -> Command {
        let mut program = Command::new(program("fedistill-client"));
        program
            .arg(command)
            .arg("--config")
            .arg(config)
            .env_remove("FEDISTILL_LOG");
        program
    }
}

fn quoted(classes: &str) -> String {
    let classes: Vec<String> = classes
        .split(',')
        .map(|class| format!("{class:?}"))
        .collect();
    classes.join(", ")
}
