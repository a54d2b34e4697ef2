//! The connections that are open, and room for the next one.
//!
//! Who makes room is [`super::eviction`]'s decision.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::eviction::{Verdict, choose};
use super::peer::Connection;

/// Connections at a time: each costs some 12 KiB while it is being read.
pub const MAX_CONNECTIONS: usize = 256;

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
            let candidates = entries.iter().map(|entry| entry.connection.candidate());
            match choose(&candidates.collect::<Vec<_>>(), now) {
                Verdict::Evict(place) => {
                    entries.swap_remove(place).abort.abort();
                    Room::Free
                }
                Verdict::In(delay) => Room::In(delay),
                Verdict::WhenOneLeaves => Room::WhenOneLeaves,
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

    #[test]
    fn who_is_chosen_goes_and_who_leaves_makes_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
            let now = Instant::now() + Duration::from_secs(1000);
            let connections = Connections::default();
            let all: Vec<_> = (0..MAX_CONNECTIONS as u32)
                .map(|n| {
                    assert_eq!(connections.evict_or_wait(now), Room::Free);
                    let peer = Peer::Tcp((n.to_be_bytes(), 1000).into());
                    let since = now.checked_sub(Duration::from_secs(n.into())).unwrap();
                    let connection = Arc::new(Connection::new(peer, since));
                    let task = tokio::task::spawn(std::future::pending::<()>());
                    connections.add(connection.clone(), task.abort_handle());
                    connection
                })
                .collect();
            let is_open = |n: usize| {
                let is_it = |entry: &Entry| Arc::ptr_eq(&entry.connection, &all[n]);
                connections.with(|entries| entries.iter().any(is_it))
            };
            all[255].set_proven();
            let check = all[254].begin_check();
            assert_eq!(connections.evict_or_wait(now), Room::Free);
            assert!(is_open(255) && is_open(254) && !is_open(253));
            connections.add(all[253].clone(), connections.with(|e| e[0].abort.clone()));
            drop(check);
            assert_eq!(connections.evict_or_wait(now), Room::Free);
            assert!(is_open(255) && !is_open(254) && is_open(253));
            connections.add(all[254].clone(), connections.with(|e| e[0].abort.clone()));
            for connection in &all {
                connection.set_proven();
            }
            assert_eq!(connections.evict_or_wait(now), Room::WhenOneLeaves);
            connections.remove(&all[7]);
            assert_eq!(connections.evict_or_wait(now), Room::Free);
        });
    }
}
