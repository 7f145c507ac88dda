//! How frames and blobs travel, and who is at the other end.
//!
//! * [`Connection`], [`Dial`], [`Listen`]: the seam. [`quic`] carries it over the internet with mutual
//!   TLS 1.3, [`tcp`] where no UDP gets through ([`FallbackDialer`] tries one after the other), [`memory`]
//!   within a process.
//! * [`Frames`] and [`blobs`]: control messages on the stream that a client opens first, bulk
//!   payloads on streams of their own.
//! * [`identity`]: the federation's root, and certificates for its coordinator and each client.
//! * [`Meter`]: counts what crosses, and can listen in on it; [`Traffic`] is what it comes to, by what it
//!   is for.
#![forbid(unsafe_code)]

mod address;
pub mod blobs;
mod connection;
mod error;
mod fallback;
mod frames;
pub mod identity;
mod limits;
pub mod memory;
mod meter;
pub mod quic;
mod strangers;
pub mod tcp;
mod tls;
mod traffic;

pub use connection::{
    BoxFuture, CloseCode, Connection, Dial, Listen, Peer, Reader, Stream, Writer,
};
pub use error::TransportError;
pub use fallback::{Doors, Fallback, FallbackDialer, TCP_FIRST};
pub use frames::{FrameReader, FrameWriter, Frames};
pub use meter::{Direction, Meter, Metered, Payload, Tap};
pub use traffic::{Flow, NetworkBytes, Traffic};
