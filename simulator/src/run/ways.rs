//! Who takes part, and how each comes to the coordinator.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use fedistill_protocol::Name;
use fedistill_transport::identity::{Authority, Identity, Validity};
use fedistill_transport::quic::{Limits, QuicDialer, QuicListener};
use fedistill_transport::{Dial, Listen, Peer, memory};

use super::Transport;
use crate::SimulationError;

/// Names of so many clients, in their order.
pub(crate) fn names(clients: usize) -> Result<Vec<Name>, SimulationError> {
    let width = clients.max(1).ilog10() as usize + 1;
    let name = |index| format!("client-{index:0width$}").parse();
    Ok((0..clients).map(name).collect::<Result<_, _>>()?)
}

pub(super) type Ways = (Arc<dyn Listen>, Vec<Box<dyn Dial>>);

/// A door, and a way to it for each client.
pub(super) fn connect(
    transport: Transport,
    federation: &Name,
    names: &[Name],
) -> Result<Ways, SimulationError> {
    match transport {
        Transport::Memory => {
            let (listener, door) = memory::listen();
            let dialer = |name: &Name| -> Box<dyn Dial> {
                let (federation, name) = (federation.clone(), name.clone());
                Box::new(door.dialer(Peer::Client { federation, name }))
            };
            Ok((Arc::new(listener), names.iter().map(dialer).collect()))
        }
        Transport::Quic => {
            let authority = Authority::create(federation.clone())?;
            let identity =
                |bundle: String| Identity::parse(Path::new("simulated bundle"), bundle.as_bytes());
            let valid = Validity::days(7);
            let host = "127.0.0.1".to_owned();
            let bundle = authority.coordinator(std::slice::from_ref(&host), valid)?;
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = QuicListener::bind(any, &identity(bundle)?, Limits::default())?;
            let address = listener.address()?.to_string();
            let dialers = names.iter().map(|name| {
                let identity = identity(authority.client(name, valid)?)?;
                let dialer = QuicDialer::new(address.clone(), None, &identity)?;
                let dialer: Box<dyn Dial> = Box::new(dialer);
                Ok(dialer)
            });
            let dialers = dialers.collect::<Result<_, SimulationError>>()?;
            Ok((Arc::new(listener), dialers))
        }
    }
}
