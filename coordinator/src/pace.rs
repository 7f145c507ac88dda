//! Pace steering: when clients that are sent away come back (Bonawitz et al. 2019, "Towards federated
//! learning at scale", section 2.3).

use std::time::Duration;

/// A wait so short is waited out connected.
const WORTH: Duration = Duration::from_secs(5);
/// How many clients come back in a second, at most: what two cores can greet.
const A_SECOND: u32 = 400;

/// How long clients stay away of a wait of `left`. Each adds up to half of it by chance, so that they come
/// back one after the other; a tenth is left to the last of them for its way in. `None` where it is not
/// worth it.
pub(crate) fn of_a_wait(left: Duration) -> Option<Duration> {
    (left >= WORTH).then(|| left * 3 / 5)
}

/// How long so many clients stay away from a coordinator that stops: it may be back at once.
pub(crate) fn of_a_stop(clients: usize) -> Duration {
    let clients = u32::try_from(clients).unwrap_or(u32::MAX);
    Duration::from_secs(2) * clients / A_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_back_when_the_next_round_opens() {
        for seconds in [5, 60, 86_400] {
            let wait = Duration::from_secs(seconds);
            let away = of_a_wait(wait).unwrap();
            // What a client adds at the most, and its way in.
            assert!(away + away / 2 + wait / 10 <= wait, "{away:?} of {wait:?}");
            assert!(away >= wait / 2, "{away:?} of {wait:?}");
        }
        assert_eq!(of_a_wait(Duration::from_secs(4)), None);
        assert_eq!(of_a_wait(Duration::ZERO), None);
    }

    #[test]
    fn many_clients_come_back_over_a_longer_time() {
        // The time over which they come back is half of it.
        assert_eq!(of_a_stop(0), Duration::ZERO);
        assert_eq!(of_a_stop(4), Duration::from_millis(20));
        assert_eq!(of_a_stop(4000), Duration::from_secs(20));
        let _ = of_a_stop(usize::MAX);
    }
}
