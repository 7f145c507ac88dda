//! The places of those who have not yet proved who they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::counted::Counters;

/// So many handshakes may be under way. Where all places are taken, who has been silent for longest gives way: whoever wants
/// in speaks first, and at once.
#[derive(Clone, Debug)]
pub(super) struct Newcomers(Arc<Places>);

#[derive(Debug)]
struct Places {
    most: usize,
    /// In the order in which they came.
    taken: Mutex<BTreeMap<u64, Newcomer>>,
    /// A place is free.
    freed: Notify,
}

#[derive(Debug)]
struct Newcomer {
    crossed: Arc<Counters>,
    /// It is to give way.
    leave: Arc<Notify>,
}

/// A place; free again once this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    newcomers: Newcomers,
    number: u64,
    leave: Arc<Notify>,
}

impl Newcomers {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Places {
            most,
            taken: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// A place for one with whom so much has crossed; waits only while all are taken by those who have spoken.
    pub(super) async fn place(&self, crossed: Arc<Counters>) -> Place {
        loop {
            let freed = self.0.freed.notified();
            if let Some(place) = self.take(&crossed) {
                return place;
            }
            freed.await;
        }
    }

    fn take(&self, crossed: &Arc<Counters>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.len() >= self.0.most {
            let is_silent = |newcomer: &Newcomer| newcomer.crossed.bytes().received == 0;
            let mut numbers = taken.iter();
            let (silent, _) = numbers.find(|(_, newcomer)| is_silent(newcomer))?;
            let silent = *silent;
            if let Some(newcomer) = taken.remove(&silent) {
                newcomer.leave.notify_one();
            }
        }
        let number = taken.last_key_value().map_or(0, |(last, _)| last + 1);
        let leave = Arc::new(Notify::new());
        let newcomer = Newcomer {
            crossed: Arc::clone(crossed),
            leave: Arc::clone(&leave),
        };
        taken.insert(number, newcomer);
        Some(Place {
            newcomers: self.clone(),
            number,
            leave,
        })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u64, Newcomer>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns once whoever has the place is to give way.
    pub(super) async fn is_needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.newcomers.taken();
        // It may be another one's by now.
        if taken
            .get(&self.number)
            .is_some_and(|newcomer| Arc::ptr_eq(&newcomer.leave, &self.leave))
        {
            taken.remove(&self.number);
            self.newcomers.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::super::counted::Counted;
    use super::*;

    /// One that has said something, or has not.
    async fn one(speaks: bool) -> Arc<Counters> {
        let bytes: &[u8] = if speaks { b"hello" } else { b"" };
        let mut counted = Counted::new(bytes);
        let _ = counted.read(&mut [0; 8]).await;
        counted.counters()
    }

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn the_oldest_silent_one_gives_way_and_nobody_who_has_spoken() {
        let newcomers = Newcomers::new(3);
        let (spoken, silent) = (one(true).await, one(false).await);
        let first = newcomers.place(Arc::clone(&spoken)).await;
        let second = newcomers.place(Arc::clone(&silent)).await;
        let third = newcomers.place(Arc::clone(&silent)).await;
        let needed = |place: &Place| now(place.is_needed()).is_some();
        assert!(!needed(&first) && !needed(&second) && !needed(&third));
        let fourth = now(newcomers.place(Arc::clone(&spoken))).unwrap();
        assert!(!needed(&first) && needed(&second) && !needed(&third));
        // That one's end frees no place: it is taken.
        drop(second);
        let fifth = now(newcomers.place(Arc::clone(&spoken))).unwrap();
        assert!(needed(&third));
        drop(third);
        let mut sixth = std::pin::pin!(newcomers.place(silent));
        assert!(now(&mut sixth).is_none(), "all have spoken");
        drop(first);
        let sixth = now(&mut sixth).unwrap();
        assert!(!needed(&fourth) && !needed(&fifth) && !needed(&sixth));
        assert_eq!(newcomers.taken().len(), 3);
        drop((fourth, fifth, sixth));
        assert!(newcomers.taken().is_empty());
    }
}
