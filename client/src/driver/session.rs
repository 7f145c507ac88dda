//! One connection, from dialling to its end.

use std::sync::Arc;

use fedistill_transport::{CloseCode, Connection, Metered, TransportError};
use tokio_util::sync::CancellationToken;

use super::conversation::converse;
use super::{Client, Event};
use crate::Stop;

impl Client {
    /// `None` where this side was told to stop.
    pub(super) async fn session(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<Option<Stop>, TransportError> {
        let inner = tokio::select! {
            dialled = self.dial.dial() => dialled?,
            () = stop.cancelled() => return Ok(None),
        };
        let connection: Arc<dyn Connection> =
            Arc::new(Metered::new(inner, Arc::clone(&self.meter)));
        let result = tokio::select! {
            result = converse(self, &connection) => result.map(Some),
            () = stop.cancelled() => Ok(None),
        };
        match &result {
            Ok(None) => connection.close(CloseCode::Stopping, "the client stops"),
            Ok(_) => connection.close(CloseCode::Done, "done"),
            Err(TransportError::Protocol(error)) => {
                connection.close(CloseCode::Violation, &error.to_string());
            }
            Err(_) => connection.close(CloseCode::Done, "lost"),
        }
        let network = connection.network_bytes();
        self.before += network.unwrap_or_default();
        self.tell(Event::Closed { network });
        // A stream that broke off says less than the connection's own reason.
        result.map_err(|error| match (&error, connection.close_reason()) {
            (
                TransportError::Lost(_),
                Some(reason @ (TransportError::Closed { .. } | TransportError::Refused(_))),
            ) => match reason {
                TransportError::Closed {
                    code: CloseCode::Done,
                    ..
                } => error,
                reason => reason,
            },
            _ => error,
        })
    }
}
