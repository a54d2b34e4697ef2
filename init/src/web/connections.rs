//! The connections that are open, and who makes room when there are too many.
//!
//! A connection that has shown no password is the first to go, the oldest first, once it has had its chance; so
//! nobody without the password can keep others out, however many connections he opens and however slowly he writes.
//! Who holds more than his share of them has had his chance: however fast he opens them, nobody waits for his.
//! Connections that have shown it are left alone, and newcomers wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::peer::Connection;
use super::throttle::Source;

/// Connections at a time: each costs some 12 KiB while it is being read.
pub const MAX_CONNECTIONS: usize = 256;

/// For so long a connection may be silent without making room: a slow machine behind a slow link needs some.
const GRACE: Duration = Duration::from_secs(2);

/// Connections without password that one source may have before its oldest makes room at once.
const SHARE: usize = MAX_CONNECTIONS / 4;

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
            if let Some((index, _)) = greediest(entries).and_then(|who| oldest(entries, Some(who)))
            {
                entries.swap_remove(index).abort.abort();
                return Room::Free;
            }
            let Some((index, since)) = oldest(entries, None) else {
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

/// The place and birth of the oldest connection without password, of `source` or of whomever.
fn oldest(entries: &[Entry], source: Option<Source>) -> Option<(usize, Instant)> {
    let is_meant = |entry: &Entry| {
        let of_source = source.is_none_or(|source| entry.connection.peer.source() == source);
        of_source && !entry.connection.is_proven()
    };
    entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| is_meant(entry))
        .map(|(index, entry)| (index, entry.connection.since))
        .min_by_key(|(_, since)| *since)
}

/// The source with the most connections without password, if they are more than its [`SHARE`].
fn greediest(entries: &[Entry]) -> Option<Source> {
    let mut counts: Vec<(Source, usize)> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.connection.is_proven()) {
        let source = entry.connection.peer.source();
        match counts.iter_mut().find(|(known, _)| *known == source) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => counts.push((source, 1)),
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.filter(|(_, count)| *count > SHARE)
        .map(|(source, _)| source)
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

    /// Fills the table from as many addresses; the connection of each number is so many seconds old.
    fn full(now: Instant, proven: impl Fn(u64) -> bool) -> Connections {
        full_from(now, proven, |n| n)
    }

    /// The same, with connection `n` from address `source(n)`.
    fn full_from(
        now: Instant,
        proven: impl Fn(u64) -> bool,
        source: impl Fn(u64) -> u64,
    ) -> Connections {
        let connections = Connections::default();
        for n in 0..MAX_CONNECTIONS as u64 {
            let since = now.checked_sub(Duration::from_secs(n)).unwrap();
            let address = u32::try_from(source(n)).unwrap().to_be_bytes();
            let peer = Peer::Tcp((address, 1000).into());
            let connection = Arc::new(Connection::new(peer, since));
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
    fn nobody_waits_for_the_connections_of_who_has_too_many() {
        runtime().block_on(async {
            #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
            let now = Instant::now() + Duration::from_secs(1000);
            // All of them are young: the clock was put back to when the first was opened.
            let then = now.checked_sub(Duration::from_secs(1000)).unwrap();
            let share = SHARE as u64;
            let within = full_from(now, |_| false, |n| n / share);
            assert!(matches!(within.evict_or_wait(then), Room::In(_)));
            let greedy = |n: u64| if n > 100 { 7 } else { 1000 + n };
            let over = full_from(now, |n| n == 200, greedy);
            assert_eq!(over.evict_or_wait(then), Room::Free);
            let gone = |n: u64| {
                let since = now.checked_sub(Duration::from_secs(n)).unwrap();
                over.with(|entries| !entries.iter().any(|entry| entry.connection.since == since))
            };
            let last = MAX_CONNECTIONS as u64 - 1;
            assert!(gone(last) && !gone(last - 1) && !gone(100) && !gone(200));
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
