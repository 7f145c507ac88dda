use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::{Exit, Failure};

/// Writes `text` and the end of its line to standard output. A reader that has seen enough
/// (`| head`) is no failure.
///
/// # Errors
/// Anything else that keeps the text from being written: a full disk.
pub fn print(text: impl Display) -> Result<(), Failure> {
    print_to(std::io::stdout().lock(), text)
}

fn print_to(mut to: impl Write, text: impl Display) -> Result<(), Failure> {
    match writeln!(to, "{text}").and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Failed,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure_and_a_full_disk_is() {
        let mut text = Vec::new();
        print_to(&mut text, "one\ntwo").unwrap();
        assert_eq!(text, b"one\ntwo\n");
        print_to(Broken(ErrorKind::BrokenPipe), "one").unwrap();
        let failure = print_to(Broken(ErrorKind::StorageFull), "one").unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
    }
}
