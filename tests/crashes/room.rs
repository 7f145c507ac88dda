//! Full disks: those that say so at once, and those that say only when data leaves memory that there is no room for it. What
//! was acknowledged is on disk, once.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fedistill_tests::{Deployment, Faults, Quiet, Running};

use crate::pair::{TWICE, next_round, pair};

/// Longer than a line takes from one process through another.
const SOON: Duration = Duration::from_millis(500);

/// In the middle of rounds there is no room for a while; and none again when it is told to stop.
#[test]
fn a_coordinator_whose_disk_is_full_acknowledges_nothing_and_goes_on_when_there_is_room() {
    let faults = Faults::build();
    let (deployment, running, address) = pair();
    let mut clients = deployment.join_all(2, &address);
    running.kill();
    let full = deployment.path("full");
    let mut command = deployment.running(&address);
    faults.fill(&mut command, &full);
    let mut coordinator = Running::start("coordinator", &mut command);
    for _ in 0..2 {
        coordinator.wait_for(" is over, with");
        fs::write(&full, "").unwrap();
        let told = coordinator.wait_for("no room left on its disk");
        assert!(told.contains("rounds.redb"), "{told}");
        sleep(SOON);
        clients.iter_mut().for_each(Running::skip);
        sleep(6 * SOON);
        for client in &mut clients {
            let said = client.said();
            assert!(!said.contains(" counts"), "{said}");
        }
        // Once is enough.
        let said = coordinator.said();
        assert!(
            !said.contains("no room left") && !said.contains(" is over, with"),
            "{said}"
        );
        fs::remove_file(&full).unwrap();
        coordinator.wait_for("there is room again");
        clients[0].wait_for(" counts");
    }
    coordinator.wait_for(" is over, with");
    fs::write(&full, "").unwrap();
    coordinator.wait_for("no room left on its disk");
    Running::stop(vec![coordinator]);
    fs::remove_file(&full).unwrap();
    let quiet = Quiet::begins(TWICE);
    let (mut coordinator, _) = deployment.start(&address);
    coordinator.wait_for(" is over, with");
    clients.push(coordinator);
    Running::stop(clients);
    deployment.sound(2, Some(quiet));
}

#[test]
fn a_client_whose_disk_is_full_says_nothing_and_goes_on_when_there_is_room() {
    let faults = Faults::build();
    let (deployment, mut coordinator, address) = pair();
    let other = deployment.join(0, &address);
    let full = deployment.path("full");
    let mut command = deployment.joining(1, &address);
    faults.fill(&mut command, &full);
    let mut client = Running::start("client-1", &mut command);
    client.wait_for(" counts");
    fs::write(&full, "").unwrap();
    let told = client.wait_for("nothing is ");
    assert!(
        told.contains("journal.redb") && told.contains("no room left on its disk"),
        "{told}"
    );
    sleep(SOON);
    client.skip();
    // Others do not wait for it.
    coordinator.skip();
    coordinator.wait_for(" is over, with 1 ");
    let said = client.said();
    assert!(!said.contains(" counts"), "{said}");
    fs::remove_file(&full).unwrap();
    let quiet = Quiet::begins(TWICE);
    client.wait_for(" counts");
    next_round(&mut coordinator);
    Running::stop(vec![client, other, coordinator]);
    deployment.sound(2, Some(quiet));
}

/// What people look at is no part of a round: rounds go on, and the log does not grow with them.
#[test]
fn files_beside_the_state_that_cannot_be_written_are_told_of_once() {
    let (deployment, running, address) = pair();
    running.kill();
    let names = ["status.json", "teacher.safetensors"];
    let paths = names.map(|name| deployment.path("federation/state").join(name));
    for path in &paths {
        // The process may have been killed before it wrote it.
        let _ = fs::remove_file(path);
        fs::create_dir(path).unwrap();
    }
    let begun = Instant::now();
    let (mut coordinator, _) = deployment.start(&address);
    let client = deployment.join(0, &address);
    for _ in 0..4 {
        coordinator.wait_for(" is over, with");
    }
    let minutes = begun.elapsed().as_secs() as usize / 60;
    for path in &paths {
        fs::remove_dir(path).unwrap();
    }
    next_round(&mut coordinator);
    next_round(&mut coordinator);
    Running::stop(vec![client]);
    coordinator.terminate();
    let ended = coordinator.end();
    assert_eq!(ended.code, Some(0), "{}", ended.told);
    for name in names {
        let lines = ended.told.lines().filter(|line| line.contains(name));
        let count = |part| lines.clone().filter(|line| line.contains(part)).count();
        let failed = count("tried again after each round");
        assert!((1..=1 + minutes).contains(&failed), "{}", ended.told);
        assert_eq!(count("is written again"), 1, "{}", ended.told);
    }
}

/// Three clients, all of whom a round waits for; they train for long enough to be frozen before they answer.
fn three() -> (Deployment, Running, String) {
    let round =
        "[round]\nleast = 3\nopen-with = 3\nsamples = 40\n[training]\nprivate-epochs = 60\n";
    Deployment::brisk(3, round)
}

/// Longer than a deadline that no round here comes to.
const LONG: Duration = Duration::from_secs(600);

/// A contribution is written, and the disk says that it is not: tried again, it is there once.
#[test]
fn a_contribution_of_which_it_is_said_that_it_had_no_room_is_there_once() {
    let faults = Faults::build();
    let (deployment, running, address) = three();
    let mut clients = deployment.join_all(3, &address);
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
    Running::stop(clients);
    println!("came to: {}", deployment.sound(3, Some(quiet)));
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
    let clients = deployment.join_all(3, &address);
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
    Running::stop(clients);
    thin.replug();
    let report = deployment.sound(3, None);
    println!("came to: {report}");
    assert!(report.receipts >= 60, "{report}");
}
