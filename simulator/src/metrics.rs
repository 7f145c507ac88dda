//! The three measures of a federation. Each is a type of its own, because they answer different
//! questions and differ widely under skew: a student that knows two classes of ten well is right on
//! a fifth of the global test set and on nearly all of what its device sees.

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// A share of samples that are classified rightly, 0 to 1, of one kind of model on one kind of samples.
pub trait Measure: Copy + private::OfShare {
    /// The bare number, for arithmetic and for people.
    fn share(self) -> f64;
}

mod private {
    /// Only this crate says what a number measures.
    #[allow(
        unnameable_types,
        reason = "nobody else is to make a measure of a bare number"
    )]
    pub trait OfShare {
        fn of_share(share: f64) -> Self;
    }
}

macro_rules! measures {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(f64);

        impl Measure for $name {
            fn share(self) -> f64 {
                self.0
            }
        }

        impl private::OfShare for $name {
            fn of_share(share: f64) -> Self {
                Self(share)
            }
        }

        impl $name {
            /// A number that was measured so.
            pub(crate) fn of(share: f64) -> Self {
                Self(share)
            }
        }
    )*};
}

measures! {
    /// The server's model on the global test set: the teacher, or the averaged model.
    ///
    /// No measure stands in for another:
    /// ```compile_fail,E0308
    /// use fedistill_simulator::{ClientOnTest, ServerOnTest};
    /// fn server(client: ClientOnTest) -> ServerOnTest {
    ///     client
    /// }
    /// ```
    ServerOnTest;

    /// A client's model on the global test set, which has all classes: what it knows.
    ///
    /// It is not compared with how good it is for its own client:
    /// ```compile_fail,E0308
    /// use fedistill_simulator::{ClientOnOwn, ClientOnTest};
    /// fn is_better(test: ClientOnTest, own: ClientOnOwn) -> bool {
    ///     test > own
    /// }
    /// ```
    ClientOnTest;

    /// A client's model on samples such as the client's own (personal accuracy): what it is worth there.
    ///
    /// Where a share of the client's samples is set apart and never trained on, it is the accuracy on
    /// those; where some of the test samples are known to be the client's, on them. Otherwise it is that on the global test set as the client would have drawn it: the recall
    /// of each class, weighted by the client's own label frequencies, over the classes that the test
    /// set has.
    ///
    /// A mean is over clients of one measure:
    /// ```compile_fail,E0271
    /// use fedistill_simulator::{ClientOnOwn, ClientOnTest, OverClients};
    /// fn mean(test: Vec<ClientOnTest>) -> Option<OverClients<ClientOnOwn>> {
    ///     OverClients::<ClientOnOwn>::of(test)
    /// }
    /// ```
    ClientOnOwn;
}

/// A measure over clients.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct OverClients<M> {
    /// Its mean.
    pub mean: M,
    /// Its standard deviation, of these clients and not of a sample of others: divided by their number.
    pub std: f64,
    /// The mean of the worst tenth of the clients, rounded up: of at least one (q-FFL, Li et al. 2020,
    /// reports it so).
    pub worst_decile: M,
}

impl<M: Measure> OverClients<M> {
    /// Over these clients, if there are any.
    pub fn of(clients: impl IntoIterator<Item = M>) -> Option<Self> {
        let mut shares: Vec<f64> = clients.into_iter().map(Measure::share).collect();
        if shares.is_empty() {
            return None;
        }
        let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
        let all = mean(&shares);
        shares.sort_by(f64::total_cmp);
        let squares: Vec<f64> = shares.iter().map(|share| (share - all).powi(2)).collect();
        let worst = &shares[..shares.len().div_ceil(10)];
        Some(Self {
            mean: M::of_share(all),
            std: mean(&squares).sqrt(),
            worst_decile: M::of_share(mean(worst)),
        })
    }
}

/// How good a client's model is, by both measures at the same moment.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct ClientScore {
    /// On the global test set.
    pub on_test: ClientOnTest,
    /// On its own; `None` where nothing of its own can be tested.
    pub on_own: Option<ClientOnOwn>,
    /// Expected calibration error on the global test set, 0 to 1.
    pub ece: f64,
}

/// How good the server's model is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServerScore {
    /// On the global test set.
    pub on_test: ServerOnTest,
    /// Expected calibration error on it, 0 to 1.
    pub ece: f64,
}

/// All three measures of a federation at its end.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Metrics {
    /// The server's model on the global test set, where there is one.
    pub server_on_test: Option<ServerOnTest>,
    /// The clients' models on the global test set.
    pub clients_on_test: Option<OverClients<ClientOnTest>>,
    /// The clients' models on their own.
    pub clients_on_own: Option<OverClients<ClientOnOwn>>,
}

impl From<&Outcome> for Metrics {
    fn from(outcome: &Outcome) -> Self {
        let clients = outcome.clients.iter();
        Self {
            server_on_test: outcome.server_after.map(|server| server.on_test),
            clients_on_test: OverClients::of(clients.clone().map(|client| client.on_test)),
            clients_on_own: OverClients::of(clients.filter_map(|client| client.on_own)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_tenth_is_of_at_least_one_client() {
        let over = |shares: &[f64]| OverClients::of(shares.iter().map(|&s| ClientOnOwn::of(s)));
        assert_eq!(over(&[]), None);
        let one = over(&[0.25]).unwrap();
        assert_eq!(
            (one.mean.share(), one.std, one.worst_decile.share()),
            (0.25, 0.0, 0.25)
        );
        let ten: Vec<f64> = (0..10).map(|client| f64::from(client) / 10.0).collect();
        let ten = over(&ten).unwrap();
        assert_eq!(ten.worst_decile.share(), 0.0);
        assert!((ten.mean.share() - 0.45).abs() < 1e-12);
        assert!((ten.std - 0.0825f64.sqrt()).abs() < 1e-12);
        // A tenth of eleven is two.
        let eleven = over(&[1.0, 0.2, 1.0, 1.0, 1.0, 1.0, 0.4, 1.0, 1.0, 1.0, 1.0]).unwrap();
        assert!((eleven.worst_decile.share() - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_measure_is_written_as_its_number() {
        let over = OverClients::of([0.5, 1.0].map(ClientOnTest::of)).unwrap();
        let text = serde_json::to_string(&over).unwrap();
        assert_eq!(text, r#"{"mean":0.75,"std":0.25,"worst_decile":0.5}"#);
        let read: OverClients<ClientOnTest> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, over);
    }
}
