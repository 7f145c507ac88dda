//! What is told on standard error while a program runs.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Tells what `FEDISTILL_LOG` asks for, or else `default` (`info`, `warn`, or `target=level`
/// pairs, as in tracing-subscriber's `EnvFilter`).
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_env("FEDISTILL_LOG").unwrap_or_else(|_| default.into());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A program that has a subscriber already keeps it.
    let _ = subscriber.try_init();
}
