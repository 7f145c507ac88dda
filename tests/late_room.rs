//! Disks that say only when data leaves memory that there is no room for it: what was acknowledged is on disk, once.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use fedistill_tests::{Deployment, Faults, Quiet, Running};

/// Three clients, all of whom a round waits for; they train for long enough to be frozen before they answer.
fn three() -> (Deployment, Running, String) {
    let round =
        "[round]\nleast = 3\nopen-with = 3\nsamples = 40\n[training]\nprivate-epochs = 60\n";
    let deployment = Deployment::new(3, 1_000_000, round);
    for index in 0..3 {
        let brisk = "checkpoint-seconds = 0.0\nkeep-alive-seconds = 0.2\n";
        deployment.configure(index, brisk);
    }
    let (coordinator, address) = deployment.start("127.0.0.1:0");
    (deployment, coordinator, address)
}

/// Longer than a deadline that no round here comes to.
const LONG: Duration = Duration::from_secs(600);

/// A contribution is written, and the disk says that it is not: tried again, it is there once.
#[test]
fn a_contribution_of_which_it_is_said_that_it_had_no_room_is_there_once() {
    let faults = Faults::build();
    let (deployment, running, address) = three();
    let mut clients: Vec<Running> = (0..3)
        .map(|index| deployment.join(index, &address))
        .collect();
    running.kill();
    let late = deployment.path("late");
    let mut command = deployment.running(&address);
    faults.fill_late(&mut command, &late);
    let mut coordinator = Running::start("coordinator", &mut command);
    coordinator.wait_for(" is over, with");
    clients[1].freeze();
    clients[2].freeze();
    clients[0].skip();
    clients[0].wait_for(" counts");
    fs::write(&late, "").unwrap();
    clients[1].thaw();
    coordinator.wait_for("no room left on its disk");
    fs::remove_file(&late).unwrap();
    coordinator.wait_for("there is room again");
    coordinator.kill();
    let quiet = Quiet::begins(LONG);
    let (mut coordinator, _) = deployment.start(&address);
    clients[2].thaw();
    coordinator.wait_for(" is over, with 3 ");
    clients.push(coordinator);
    stop(clients);
    deployment.sound(3, Some(quiet));
}

fn stop(processes: Vec<Running>) {
    processes.iter().for_each(Running::terminate);
    for process in processes {
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{}", ended.told);
    }
}

/// A file system without a journal in a file that has no room to grow: it takes what is written and cannot keep it.
struct Thin {
    folder: tempfile::TempDir,
}

impl Thin {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder };
        for name in ["below", "disk"] {
            fs::create_dir(this.path(name)).unwrap();
        }
        let below = this.path("below");
        shell(&format!("mount -t tmpfs -o size=12m tmpfs {below}"));
        shell(&format!("truncate -s 40m {below}/image"));
        shell(&format!(
            "mkfs.ext4 -q -F -b 4096 -O ^has_journal {below}/image"
        ));
        this.plug();
        this
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn plug(&self) {
        let (below, disk) = (self.path("below"), self.path("disk"));
        shell(&format!("mount -o loop {below}/image {disk}"));
    }

    /// What is only in memory is gone.
    fn replug(&self) {
        shell(&format!("umount {}", self.path("disk")));
        self.plug();
    }

    fn fill(&self) {
        let fill = format!("{}/fill", self.path("below"));
        // It ends with an error: the disk is full.
        let _ = fs::write(fill, vec![0; 12 << 20]);
    }

    fn make_room(&self) {
        fs::remove_file(format!("{}/fill", self.path("below"))).unwrap();
    }
}

impl Drop for Thin {
    fn drop(&mut self) {
        for name in ["disk", "below"] {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(self.path(name))
                .status();
        }
    }
}

fn shell(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status().unwrap();
    assert!(status.success(), "{line}: {status}");
}

/// What the system could not write it takes for written, and says so once.
#[test]
#[ignore = "needs root and mkfs.ext4: it mounts a file system"]
fn what_is_acknowledged_on_a_disk_that_promises_too_much_is_there_after_a_reboot() {
    let thin = Thin::mount();
    let round = "[round]\nleast = 3\nopen-with = 3\nsamples = 200\n";
    let deployment = Deployment::new(3, 1_000_000, round);
    let state = deployment.path("federation/state");
    std::os::unix::fs::symlink(thin.path("disk"), state).unwrap();
    let (mut coordinator, address) = deployment.start("127.0.0.1:0");
    thin.fill();
    let clients: Vec<Running> = (0..3)
        .map(|index| deployment.join(index, &address))
        .collect();
    coordinator.wait_for("no room left on its disk");
    // It is tried again each second, and said once what the system takes for written the next time.
    std::thread::sleep(Duration::from_secs(4));
    let said = coordinator.said();
    assert!(!said.contains("there is room again"), "{said}");
    thin.make_room();
    coordinator.wait_for("there is room again");
    coordinator.skip();
    for _ in 0..20 {
        coordinator.wait_for(" is over, with 3 ");
    }
    coordinator.kill();
    stop(clients);
    thin.replug();
    let report = deployment.sound(3, None);
    assert!(report.receipts >= 60, "{report}");
}
