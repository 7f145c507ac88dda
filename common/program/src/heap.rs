//! How the C library hands out memory.
#![allow(unsafe_code, reason = "a call of the C library")]

/// Has all threads share one heap, so that a process which runs for weeks comes to its size and stays there: glibc gives
/// each thread one of its own, up to eight a core, and each of them grows until it has seen the most that its thread
/// ever needs. For a program whose time goes elsewhere; call it before there is a second thread. Does nothing where
/// `MALLOC_ARENA_MAX` is set, and with other C libraries.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: it sets a number of the allocator's, under the allocator's own lock. Where it cannot, all is as before.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}
