//! The door: no request passes without the password or a peer whom the kernel vouches for.
//!
//! What is compared is [`super::password`]'s, how failures are slowed [`super::throttle`]'s; here they meet
//! the clock, and one check of a hash at a time, so that guesses cost bounded memory and one core's worth of time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::App;
use super::error::Refusal;
use super::password::{self, Credentials, Memory, Store};
use super::peer::Connection;
use super::throttle::{Source, Throttle};

/// Longest `Authorization` value: user, colon and password in base64, with room.
const MAX_HEADER: usize = 1024;

/// What the door needs to judge.
pub struct Door {
    /// The password.
    pub store: Store,
    throttle: Mutex<Throttle>,
    hashing: Arc<Semaphore>,
}

impl Door {
    /// A door with this password.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            throttle: Mutex::default(),
            hashing: Arc::new(Semaphore::new(1)),
        }
    }

    fn throttle<T>(&self, work: impl FnOnce(&mut Throttle) -> T) -> T {
        work(&mut self.throttle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets a request pass or answers it.
pub async fn require(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return Refusal::Unauthorized.into_response();
    };
    match admit(&app, &connection, request.headers()).await {
        Ok(()) => {
            connection.set_proven();
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn admit(
    app: &Arc<App>,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if connection.peer.is_vouched_for(app.uid) {
        return Ok(());
    }
    let credentials = credentials(headers).ok_or(Refusal::Unauthorized)?;
    let recall = || match app.door.store.recall(&credentials) {
        Memory::Known => Ok(None),
        Memory::NoPassword => Err(Refusal::NoPassword),
        Memory::Unknown(stored) => Ok(Some(stored)),
    };
    if recall()?.is_none() {
        return Ok(());
    }
    let (turn, wait) = Turn::take(app, connection.peer.source())?;
    let checking = connection.begin_check();
    tokio::time::sleep(wait).await;
    // Another request may have shown the password meanwhile, or it may have been changed.
    let Some(stored) = recall()? else {
        return Ok(());
    };
    let right = check(app, credentials, stored).await?;
    drop(checking);
    turn.end(right).await
}

/// Compares on a thread of its own: the loop that serves everybody else must not stand still meanwhile.
async fn check(
    app: &Arc<App>,
    credentials: Credentials,
    stored: Arc<web_password::StoredPassword>,
) -> Result<bool, Refusal> {
    let busy = |_| Refusal::Internal("password check was cut off".to_owned());
    let permit = app.door.hashing.clone().acquire_owned().await;
    let permit = permit.map_err(|_| Refusal::Internal("password checks are closed".to_owned()))?;
    let app = app.clone();
    tokio::task::spawn_blocking(move || {
        let right = password::verify(&credentials, &stored);
        if right {
            app.door.store.remember(&credentials, &stored);
        }
        drop(permit);
        right
    })
    .await
    .map_err(busy)
}

/// A source's place in the line of those whose password is being checked; left when dropped.
struct Turn<'a> {
    app: &'a App,
    source: Source,
}

impl<'a> Turn<'a> {
    /// The place, and how long to wait before the check.
    fn take(app: &'a App, source: Source) -> Result<(Self, Duration), Refusal> {
        let now = Instant::now().into_std();
        match app.door.throttle(|throttle| throttle.enter(source, now)) {
            Some(wait) => Ok((Self { app, source }, wait)),
            None => Err(Refusal::TooManyAttempts),
        }
    }

    async fn end(self, right: bool) -> Result<(), Refusal> {
        if right {
            self.app
                .door
                .throttle(|throttle| throttle.succeeded(self.source));
            return Ok(());
        }
        self.app
            .counters
            .failed_logins
            .fetch_add(1, Ordering::Relaxed);
        let now = Instant::now().into_std();
        let delay = self
            .app
            .door
            .throttle(|throttle| throttle.failed(self.source, now));
        tokio::time::sleep(delay).await;
        Err(Refusal::Unauthorized)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.app
            .door
            .throttle(|throttle| throttle.leave(self.source));
    }
}

/// User and password of a request with HTTP Basic authentication (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    if value.len() > MAX_HEADER {
        return None;
    }
    let (scheme, encoded) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    Base64::decode_vec(encoded.trim())
        .ok()
        .map(Credentials::new)
}
