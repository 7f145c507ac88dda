//! Faults between a program and its disk or its clock, put before the C library's functions: programs as they are shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that faults come from, built by the C compiler.
pub struct Faults {
    folder: tempfile::TempDir,
}

impl Faults {
    /// Builds it; Linux with glibc only.
    pub fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = crate::root().join("tests/harness/faults.c");
        let mut compile = Command::new("cc");
        compile
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("faults.so"))
            .arg(source)
            .arg("-ldl");
        assert!(
            compile.status().unwrap().success(),
            "the faults do not compile"
        );
        Self { folder }
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("faults.so")
    }

    /// Has a program killed at the `number`-th instant at which something has just become durable, or has got its name.
    pub fn kill_at(&self, command: &mut Command, number: u32) {
        command
            .env("LD_PRELOAD", self.library())
            .env("FEDISTILL_FAULT_KILL_AT", number.to_string());
    }

    /// Lets a program find its disk full while `switch` exists.
    pub fn fill(&self, command: &mut Command, switch: &Path) {
        command
            .env("LD_PRELOAD", self.library())
            .env("FEDISTILL_FAULT_FULL", switch);
    }

    /// Lets a program hear, while `switch` exists, that what it wrote had no room after all, though all of it is there.
    pub fn fill_late(&self, command: &mut Command, switch: &Path) {
        command
            .env("LD_PRELOAD", self.library())
            .env("FEDISTILL_FAULT_LATE", switch);
    }

    /// Lets a program's wall clock be wrong by as many seconds as the file `setting` says, while it exists.
    pub fn misread(&self, command: &mut Command, setting: &Path) {
        command
            .env("LD_PRELOAD", self.library())
            .env("FEDISTILL_FAULT_CLOCK", setting);
    }

    /// Lets a program find no locks on its file systems.
    pub fn unlock(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", self.library())
            .env("FEDISTILL_FAULT_NO_LOCKS", "1");
    }
}
