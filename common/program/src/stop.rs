//! How a program is told to stop.

use std::io;

use tokio::runtime::Runtime;
use tokio::task::JoinError;

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

/// Finds what a program needs, on a thread of its own, so that it can be told to stop meanwhile; `None` where it was.
/// What is under way then is not waited for, if the runtime is shut down without that.
pub fn unless_stopped<T: Send + 'static>(
    runtime: &Runtime,
    stopped: impl Future<Output = ()>,
    prepare: impl FnOnce() -> T + Send + 'static,
) -> Option<Result<T, JoinError>> {
    let loading = runtime.spawn_blocking(prepare);
    runtime.block_on(async {
        tokio::select! {
            loaded = loading => Some(loaded),
            () = stopped => None,
        }
    })
}
