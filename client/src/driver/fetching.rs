//! The blob that is under way.

use std::sync::Arc;

use fedistill_protocol::Digest;
use fedistill_transport::{Connection, TransportError};
use tokio::task::JoinSet;

use super::streams::Errand;
use crate::Wanted;
use crate::agent::Input;

/// Fetches what an agent asks for. It needs one blob at a time: what it asks for next replaces what it asked for
/// before, unless it is the same, which then goes on. On a slow line a blob takes longer than a round, and each plan
/// asks for it again.
#[derive(Default)]
pub(super) struct Fetching {
    /// At most one; it ends with this, and what has come by then is parked.
    task: JoinSet<Box<Result<Input, TransportError>>>,
    what: Option<What>,
}

#[derive(Debug)]
struct What {
    blob: Digest,
    bytes: u64,
    wanted: Option<Wanted>,
    /// Whether it was asked for once more since this began.
    again: bool,
}

/// What came of a fetch.
pub(super) struct Fetched {
    pub(super) blob: Digest,
    pub(super) bytes: u64,
    /// Whether it was asked for once more meanwhile, by a plan that may offer what the one before does not any more.
    pub(super) again: bool,
    pub(super) got: Result<Input, TransportError>,
}

impl Fetching {
    pub(super) fn begin(&mut self, errand: Errand, connection: &Arc<dyn Connection>) {
        if let Some(what) = &mut self.what
            && (what.blob, what.bytes, &what.wanted) == (errand.blob, errand.bytes, &errand.wanted)
        {
            what.again = true;
            return;
        }
        self.stop();
        self.what = Some(What {
            blob: errand.blob,
            bytes: errand.bytes,
            wanted: errand.wanted.clone(),
            again: false,
        });
        let connection = Arc::clone(connection);
        self.task
            .spawn(async move { Box::new(errand.run(connection.as_ref()).await) });
    }

    /// What is fetched.
    pub(super) fn blob(&self) -> Option<Digest> {
        self.what.as_ref().map(|what| what.blob)
    }

    /// Nobody wants it any more.
    pub(super) fn stop(&mut self) {
        self.what = None;
        self.task = JoinSet::new();
    }

    /// Waits for what is fetched; `None` at once where nothing is.
    pub(super) async fn ended(&mut self) -> Option<Fetched> {
        let got = self.task.join_next().await?;
        let What {
            blob, bytes, again, ..
        } = self.what.take()?;
        let got =
            got.unwrap_or_else(|error| Box::new(Err(TransportError::Lost(error.to_string()))));
        Some(Fetched {
            blob,
            bytes,
            again,
            got: *got,
        })
    }
}
