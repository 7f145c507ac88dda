use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The path of one of our programs, built as this one is; beside one that was copied elsewhere, its copy.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM
        let own = std::env::current_exe().unwrap();
        let folder = own.parent().unwrap();
        let folder = match folder.ends_with("deps") {
            true => folder.parent().unwrap().to_owned(),
            false => folder.to_owned(),
        };
        let profile: &[&str] = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") => &[],
            Some("release") => &["--release"],
            _ => return folder,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        let what = ["build", "--quiet", "--locked", "--workspace", "--bins"];
        build.current_dir(crate::root()).args(what).args(profile);
        assert!(
            build.status().unwrap().success(),
            "the programs do not build"
        );
        folder
    });
    folder.join(name)
}

/// The command that runs a coordinator with this configuration, where it listens on `listen`.
pub(crate) fn coordinate(config: &Path, listen: &str) -> Command {
    let mut command = Command::new(program("fedistill-coordinator"));
    command
        .env_remove("FEDISTILL_LOG")
        .arg("run")
        .arg("--config")
        .arg(config)
        .args(["--listen", listen]);
    command
}

/// How a process has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none where a signal has ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub told: String,
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ended {
    let done = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: done.status.code(),
        output: String::from_utf8(done.stdout).unwrap(),
        told: String::from_utf8(done.stderr).unwrap(),
    }
}

/// A program that runs beside the test; it is killed when dropped.
pub struct Running {
    name: String,
    child: Child,
    /// What it says, and when it was heard.
    lines: Receiver<(Instant, String)>,
    told: String,
}

impl Running {
    /// Starts a program; `name` is for messages.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Self {
            name: name.to_owned(),
            child,
            lines,
            told: String::new(),
        }
    }

    /// Waits for a line with `part` in it.
    pub fn wait_for(&mut self, part: &str) -> String {
        let line = self.waited_for(part);
        line.unwrap_or_else(|| self.never_said(part))
    }

    /// As [`Self::wait_for`]; `None` if the process ends before it says so.
    pub fn waited_for(&mut self, part: &str) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((_, line)) => {
                    self.note(&line);
                    if line.contains(part) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.never_said(part),
            }
        }
    }

    fn never_said(&self, part: &str) -> ! {
        panic!("{} never said {part:?}, but:\n{}", self.name, self.told)
    }

    fn note(&mut self, line: &str) {
        self.told += line;
        self.told.push('\n');
    }

    /// Passes over what it has said so far.
    pub fn skip(&mut self) {
        self.said();
    }

    /// What it has said since it was last listened to.
    pub fn said(&mut self) -> String {
        let said: String = self.lines.try_iter().map(|(_, line)| line + "\n").collect();
        self.told += &said;
        said
    }

    /// When it said `part` first, since it was last listened to; passes over all that it has said.
    pub fn heard(&mut self, part: &str) -> Option<Instant> {
        let mut first = None;
        while let Ok((when, line)) = self.lines.try_recv() {
            if first.is_none() && line.contains(part) {
                first = Some(when);
            }
            self.note(&line);
        }
        first
    }

    /// Its number with the system.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would: without a word.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, as a service manager does.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Asks all of them to stop, and waits until they have, without a complaint.
    pub fn stop(processes: Vec<Self>) {
        processes.iter().for_each(Self::terminate);
        for process in processes {
            let ended = process.end();
            assert_eq!(ended.code, Some(0), "{}", ended.told);
        }
    }

    /// Lets no time pass for it, as a laptop that is shut.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.child.id().to_string();
        let told = Command::new("kill").args([signal, &process]).status();
        assert!(told.unwrap().success());
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let end = Instant::now() + PATIENCE;
        while let Ok((_, line)) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.note(&line);
        }
        // Its standard error is closed, so it is at its end, or it hangs.
        assert!(
            Instant::now() < end,
            "{} does not end:\n{}",
            self.name,
            self.told
        );
        Ended {
            code: self.child.wait().unwrap().code(),
            output: String::new(),
            told: std::mem::take(&mut self.told),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
