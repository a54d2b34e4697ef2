//! The connections that are open, and who makes room when there are too many.
//!
//! A connection that has shown no password is the first to go, the oldest first, once it has had its chance; so
//! nobody without the password can keep others out, however many connections he opens and however slowly he writes.
//! Connections that have shown it are left alone, and newcomers wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::peer::Connection;

/// Connections at a time: each costs some 12 KiB while it is being read.
pub const MAX_CONNECTIONS: usize = 256;

/// For so long a connection may be silent without making room: a slow machine behind a slow link needs some.
const GRACE: Duration = Duration::from_secs(2);

struct Entry {
    connection: Arc<Connection>,
    abort: AbortHandle,
}

/// The table of open connections.
#[derive(Default)]
pub struct Connections {
    entries: Mutex<Vec<Entry>>,
    left: Notify,
}

impl Connections {
    /// Waits until there is room for one more, making some if that is fair.
    pub async fn room(&self, now: impl Fn() -> Instant) {
        loop {
            let left = self.left.notified();
            match self.evict_or_wait(now()) {
                Room::Free => return,
                Room::In(delay) => {
                    // Woken early or not: look again.
                    let _ = tokio::time::timeout(delay, left).await;
                }
                Room::WhenOneLeaves => left.await,
            }
        }
    }

    /// Notes a connection and the task that serves it.
    pub fn add(&self, connection: Arc<Connection>, abort: AbortHandle) {
        self.with(|entries| entries.push(Entry { connection, abort }));
    }

    /// Forgets a connection that has ended.
    pub fn remove(&self, connection: &Arc<Connection>) {
        self.with(|entries| entries.retain(|entry| !Arc::ptr_eq(&entry.connection, connection)));
        self.left.notify_one();
    }

    /// Waits until the last one has ended.
    pub async fn none(&self) {
        loop {
            let left = self.left.notified();
            if self.open() == 0 {
                return;
            }
            left.await;
        }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.with(|entries| entries.len())
    }

    fn evict_or_wait(&self, now: Instant) -> Room {
        self.with(|entries| {
            if entries.len() < MAX_CONNECTIONS {
                return Room::Free;
            }
            let oldest = entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| !entry.connection.is_proven())
                .min_by_key(|(_, entry)| entry.connection.since)
                .map(|(index, entry)| (index, entry.connection.since));
            let Some((index, since)) = oldest else {
                return Room::WhenOneLeaves;
            };
            let age = now.saturating_duration_since(since);
            match GRACE.checked_sub(age) {
                Some(delay) if !delay.is_zero() => Room::In(delay),
                Some(_) | None => {
                    entries.swap_remove(index).abort.abort();
                    Room::Free
                }
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        work(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Room {
    Free,
    In(Duration),
    WhenOneLeaves,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::peer::Peer;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    /// Fills the table; the connection of each number is so many seconds old.
    fn full(now: Instant, proven: impl Fn(u64) -> bool) -> Connections {
        let connections = Connections::default();
        for n in 0..MAX_CONNECTIONS as u64 {
            let since = now.checked_sub(Duration::from_secs(n)).unwrap();
            let connection = Arc::new(Connection::new(Peer::Unix(0), since));
            if proven(n) {
                connection.set_proven();
            }
            let task = tokio::task::spawn(std::future::pending::<()>());
            connections.add(connection, task.abort_handle());
        }
        connections
    }

    #[test]
    fn the_oldest_without_password_makes_room() {
        runtime().block_on(async {
            #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
            let now = Instant::now() + Duration::from_secs(1000);
            let connections = full(now, |n| n > 100);
            assert_eq!(connections.evict_or_wait(now), Room::Free);
            assert_eq!(connections.open(), MAX_CONNECTIONS - 1);
            let oldest = connections.with(|entries| {
                entries
                    .iter()
                    .filter(|entry| !entry.connection.is_proven())
                    .map(|entry| entry.connection.since)
                    .min()
            });
            assert_eq!(oldest, now.checked_sub(Duration::from_secs(99)));
        });
    }

    #[test]
    fn the_young_and_the_proven_stay() {
        runtime().block_on(async {
            #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
            let now = Instant::now() + Duration::from_secs(1000);
            let young = full(now, |n| n > 1);
            assert_eq!(young.evict_or_wait(now), Room::In(Duration::from_secs(1)));
            let proven = full(now, |_| true);
            assert_eq!(proven.evict_or_wait(now), Room::WhenOneLeaves);
            let one = proven.with(|entries| entries.first().unwrap().connection.clone());
            proven.remove(&one);
            assert_eq!(proven.evict_or_wait(now), Room::Free);
        });
    }
}
