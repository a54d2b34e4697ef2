//! One connection after another, from its first byte to its last; bounded in time, memory and number.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version, header};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::App;
use super::connections::Connections;
use super::ending;
use super::error::Refusal;
use super::peer::{Connection, Peer};

/// A request's head must be complete so long after the connection fell idle; it also ends idle connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Most header fields of a request; browsers send some twenty.
const MAX_FIELDS: usize = 64;

/// All that connections share.
pub struct Server {
    app: Arc<App>,
    router: Router,
    connections: Connections,
}

impl Server {
    /// A server of `router`.
    pub fn new(app: Arc<App>, router: Router) -> Arc<Self> {
        Arc::new(Self {
            app,
            router,
            connections: Connections::default(),
        })
    }

    /// Serves a connection just accepted, on a task of its own, as soon as there is room for it.
    pub async fn take<S>(self: &Arc<Self>, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.app.ending.has_begun() {
            return;
        }
        self.connections.room(|| Instant::now().into_std()).await;
        let connection = Arc::new(Connection::new(peer, Instant::now().into_std()));
        if peer.is_vouched_for(self.app.uid) {
            connection.set_proven();
        }
        let leave = Leave {
            server: self.clone(),
            connection: connection.clone(),
        };
        let server = self.clone();
        let task = tokio::spawn(async move {
            server.serve(stream, &leave.connection).await;
        });
        self.connections.add(connection, task.abort_handle());
        self.app
            .counters
            .connections
            .fetch_add(1, Ordering::Relaxed);
    }

    async fn serve<S>(&self, stream: S, connection: &Arc<Connection>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            self.app.counters.requests.fetch_add(1, Ordering::Relaxed);
            let router = TowerToHyperService::new(self.router.clone());
            async move {
                if !names_its_host(&request) {
                    let why = "a request names its host, once: one `Host` field is wanted";
                    return Ok(Refusal::BadRequest(why.to_owned()).into_response());
                }
                router.call(request.map(Body::new)).await
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_FIELDS)
            .serve_connection(TokioIo::new(stream), service);
        let mut served = pin!(served);
        // What goes wrong here is the client's doing and told by its end; a line a time would let it fill the log.
        let done = self.app.ending.cuts(served.as_mut()).await;
        if done.is_none() && connection.is_proven() {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }

    /// Waits for the connections that the end leaves time, at most [`ending::LIMIT`].
    pub async fn drain(&self) {
        let _ = tokio::time::timeout(ending::LIMIT, self.connections.none()).await;
    }
}

/// Whether the host is named as often as RFC 9112 §3.2 wants it: what judges a request by one field, as [`super::origin`]
/// does, must not be shown another than who stands in front of us.
fn names_its_host<T>(request: &Request<T>) -> bool {
    let fields = request.headers().get_all(header::HOST).iter().count();
    fields == 1 || fields == 0 && request.version() != Version::HTTP_11
}

/// Takes a connection off the table however its task ends.
struct Leave {
    server: Arc<Server>,
    connection: Arc<Connection>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.server.connections.remove(&self.connection);
    }
}
