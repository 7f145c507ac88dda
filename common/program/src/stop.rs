//! How a program is told to stop.

use std::io;

/// From now on SIGTERM and Ctrl-C are heard, and kill nothing; what is returned waits for the first of them. To
/// be called within a runtime, before anyone could think that the program is there.
///
/// # Errors
/// A system that lets nobody listen.
#[cfg(unix)]
pub fn told_to_stop() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// From now on Ctrl-C is heard, and kills nothing; what is returned waits for it. To be called within a runtime.
///
/// # Errors
/// A system that lets nobody listen.
#[cfg(windows)]
pub fn told_to_stop() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        let _ = interrupt.recv().await;
    })
}
