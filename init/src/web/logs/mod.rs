//! Output of services over HTTP: replayed, followed, or downloaded.
//!
//! logd writes it; here it is only read.
//! Following costs nothing while nothing is printed: inotify wakes us, and the stream ends with its connection.
//!
//! | module | what |
//! |---|---|
//! | [`format`] | records to what a client reads |

pub mod format;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use gokrazy_core::paths;
use hyper::body::Frame;
use nix::sys::inotify::AddWatchFlags;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::error::Refusal;
use super::params::{self, Params};
use super::watch::Watch;
use crate::logd::reader::{Place, Reader, Wanted};
use format::{Style, Writer};

/// Clients that may follow logs at a time: each costs an inotify instance, of which a user has 128.
pub const MAX_FOLLOWERS: usize = 32;

/// Records that are replayed of each stream before new ones follow, as in gokrazy.
const REPLAY: usize = 100;

/// `/log`: as gokrazy's, an endless stream as text or as server-sent events; `follow=no` ends it with what is there.
pub(super) async fn log(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    let wanted = match params.get("stream") {
        Some("both") => Wanted::All,
        Some("stdout") => Wanted::Out,
        Some("stderr") => Wanted::Err,
        other => {
            let name = other.unwrap_or_default();
            return Err(Refusal::NotFound(format!(
                "stream {name:?} (stdout, stderr or both)"
            )));
        }
    };
    let events = params::format(&headers) == params::Format::Events;
    let style = match (events, wanted) {
        (false, _) => Style::Text,
        (true, Wanted::All) => Style::NamedEvents,
        (true, Wanted::Out | Wanted::Err) => Style::Events,
    };
    let folder = folder(&app, params.required("path")?)?;
    let place = match headers.get("last-event-id").and_then(|id| id.to_str().ok()) {
        Some(id) if events => place_of(id, &boot(&app)),
        Some(_) | None => None,
    };
    let replay = if wanted == Wanted::All {
        REPLAY * 2
    } else {
        REPLAY
    };
    let reader = match place {
        Some(place) => Reader::at(folder, wanted, place),
        None => Reader::from_end(folder, wanted, replay),
    };
    stream(&app, reader, style, !is_no(&params, "follow"))
}

/// `GET /api/v1/services/{name}/log`: the whole log with times, from the oldest record on.
pub(super) async fn download(
    State(app): State<Arc<App>>,
    axum::extract::Path(name): axum::extract::Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    let folder = folder(&app, &name)?;
    let reader = match params.get("lines") {
        None => Reader::at(folder, Wanted::All, Place::START),
        Some(text) => {
            let lines = text
                .parse()
                .map_err(|_| Refusal::BadRequest(format!("`lines`: {text:?} is not a number")))?;
            Reader::from_end(folder, Wanted::All, lines)
        }
    };
    let follow = params.get("follow").is_some() && !is_no(&params, "follow");
    stream(&app, reader, Style::Records, follow)
}

/// Names this boot in the ids of events.
fn boot(app: &App) -> String {
    let id = app.sources.kernel.boot_id().unwrap_or_default();
    id.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect()
}

/// The place behind the event of this id, if it is one of this boot.
fn place_of(id: &str, boot: &str) -> Option<Place> {
    let (place, of_boot) = id.rsplit_once('-')?;
    Place::parse(place).filter(|_| of_boot == boot)
}

fn is_no(params: &Params, name: &str) -> bool {
    matches!(params.get(name), Some("no" | "false" | "0"))
}

/// Where the log of a service is; init and the kernel have logs too, and no service file.
fn folder(app: &App, name: &str) -> Result<PathBuf, Refusal> {
    let logs = app.config.run_dir.join(paths::LOG_DIR);
    let known = app.sources.service(name).map(|service| service.status.name);
    let name = known.unwrap_or_else(|| name.to_owned());
    let folder = folder_of(&logs, &name).filter(|folder| {
        // A service that never printed has no folder yet.
        folder.is_dir() || app.sources.service(&name).is_some()
    });
    folder.ok_or_else(|| Refusal::NotFound(format!("service {name}")))
}

/// The folder of a log, if the name is one that cannot lead elsewhere.
pub fn folder_of(logs: &Path, name: &str) -> Option<PathBuf> {
    let sane = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    sane.then(|| logs.join(name))
}

fn stream(app: &Arc<App>, reader: Reader, style: Style, follow: bool) -> Result<Response, Refusal> {
    let busy = "too many clients follow logs; close one";
    let live = if follow {
        let permit = app.followers.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::Busy(busy))?;
        let watch =
            Watch::new().map_err(|error| Refusal::Internal(format!("watch the log: {error}")))?;
        let ending = Box::pin(app.ending.begun());
        Some(Live {
            watch,
            ending,
            _permit: permit,
        })
    } else {
        None
    };
    let body = Follow {
        reader: if follow { reader } else { reader.to_here() },
        writer: Writer::new(style, boot(app)),
        live,
    };
    body.arm();
    let content_type = match style {
        Style::Events | Style::NamedEvents => "text/event-stream",
        Style::Text | Style::Records => "text/plain; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, Body::new(body)).into_response())
}

/// A log as the body of an answer.
struct Follow {
    reader: Reader,
    writer: Writer,
    /// `None`: ends with what is there.
    live: Option<Live>,
}

/// What a stream that goes on waits for.
struct Live {
    watch: Watch,
    /// The process's end is the stream's too.
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Counts us among the followers.
    _permit: OwnedSemaphorePermit,
}

impl Follow {
    /// Watches the log's folder, or the nearest one around it while it is absent.
    fn arm(&self) {
        let Some(Live { watch, .. }) = &self.live else {
            return;
        };
        let changes =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        for folder in self.reader.folder().ancestors().take(3) {
            if watch.add(folder, changes).is_ok() {
                return;
            }
        }
    }
}

impl HttpBody for Follow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let me = &mut *self;
            // First, since a service that floods its log leaves no moment with nothing to read.
            if let Some(Live { ending, .. }) = &mut me.live
                && ending.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(None);
            }
            let mut text = Vec::new();
            let more = me
                .reader
                .read(|record, place| me.writer.put(record, place, &mut text));
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
            if more {
                // A flood of the other stream is passed over, and all other clients get their turns meanwhile.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(Live { watch, .. }) = &mut me.live else {
                return Poll::Ready(None);
            };
            match std::task::ready!(watch.poll_events(context)) {
                Ok(_) => me.arm(),
                Err(_) => return Poll::Ready(None),
            }
        }
    }
}
