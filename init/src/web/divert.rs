//! `/uploadtemp` and `/divert`: try a program on the device until the next boot.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use gokrazy_core::control;
use http_body_util::BodyExt;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::Refusal;
use super::params::{Params, body, content_type};
use super::router::json;
use super::temporary::{self, Upload, confined};

/// An upload that brings nothing for so long has ended.
const STALL: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Uploaded<'a> {
    dest: &'a FilePath,
}

/// `PUT /uploadtemp/<path>`: a file below the temporary folder, replaced whole.
///
/// A path without a slash gets a folder of its own, as in gokrazy.
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let mut path = confined(&path).ok_or_else(|| {
        Refusal::BadRequest(format!(
            "{path:?} is not a path to a file below the temporary folder"
        ))
    })?;
    let unique = app.numbers.draw();
    if path.components().count() == 1 {
        path = FilePath::new(&format!("uploadtemp{unique:016x}")).join(path);
    }
    let root = &app.config.temp_dir;
    let upload = Upload::begin(root, &path, unique).map_err(|errno| refusal(&path, errno))?;
    // The temporary folder is memory: half of what is left stays for those who run already.
    let limit = match app.sources.kernel.memory().available {
        0 => u64::MAX,
        available => available / 2,
    };
    receive(request.into_body(), upload, limit, &path).await?;
    Ok(json(&Uploaded {
        dest: &root.join(path),
    }))
}

async fn receive(
    mut body: Body,
    mut upload: Upload,
    limit: u64,
    path: &FilePath,
) -> Result<(), Refusal> {
    let mut left = limit;
    loop {
        let frame = match tokio::time::timeout(STALL, body.frame()).await {
            Err(_elapsed) => return Err(Refusal::TooSlow),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Refusal::BadRequest("the body was cut short".to_owned()));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        left = left.checked_sub(length).ok_or(Refusal::NoSpace)?;
        upload
            .write(&data)
            .map_err(|error| match error.raw_os_error() {
                Some(errno) => refusal(path, Errno::from_raw(errno)),
                None => Refusal::Internal(format!("write {}: {error}", path.display())),
            })?;
    }
    upload.finish().map_err(|errno| refusal(path, errno))
}

/// What `POST /divert` takes as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Diversion {
    path: String,
    diversion: String,
    #[serde(default)]
    flags: Option<Vec<String>>,
}

/// `POST /divert`: run another program in a service's place until the next boot.
pub(super) async fn divert(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let wish = wish(request).await?;
    let file = confined(&wish.diversion).ok_or_else(|| {
        Refusal::BadRequest(format!(
            "`diversion`: {:?} is not a path to a file below the temporary folder",
            wish.diversion
        ))
    })?;
    let known = app.sources.service(&wish.path);
    let name = known.map_or_else(|| last_part(&wish.path), |service| service.status.name);
    if name.is_empty() {
        return Err(Refusal::BadRequest("`path` names no service".to_owned()));
    }
    let root = &app.config.temp_dir;
    temporary::make_executable(root, &file).map_err(|errno| refusal(&file, errno))?;
    app.ask(control::Request::Divert {
        name,
        program: root.join(&file).to_string_lossy().into_owned(),
        arguments: wish.flags.unwrap_or_default(),
    })
    .await?;
    Ok(Response::new(Body::empty()))
}

async fn wish(request: Request) -> Result<Diversion, Refusal> {
    if content_type(request.headers()).starts_with("application/json") {
        let bytes = body(request.into_body()).await?;
        return serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::BadRequest(format!("read the body: {error}")));
    }
    let params = <Params as axum::extract::FromRequest<()>>::from_request(request, &()).await?;
    Ok(Diversion {
        path: params.required("path")?.to_owned(),
        diversion: params.required("diversion")?.to_owned(),
        flags: None,
    })
}

fn last_part(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn refusal(path: &FilePath, errno: Errno) -> Refusal {
    let path = path.display();
    match errno {
        Errno::ENOENT => Refusal::NotFound(format!("{path} below the temporary folder")),
        Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => Refusal::NoSpace,
        Errno::ELOOP | Errno::EXDEV => {
            Refusal::BadRequest(format!("{path} leads over a symbolic link"))
        }
        Errno::EISDIR | Errno::ENOTDIR => Refusal::BadRequest(format!(
            "{path}: a folder where a file should be, or the reverse"
        )),
        Errno::EACCES => Refusal::BadRequest(format!("{path} is no file that may be run")),
        Errno::EPERM => Refusal::BadRequest(format!(
            "{path} belongs to another user of this machine, or lies in a folder that does"
        )),
        other => Refusal::Internal(format!("{path}: {}", other.desc())),
    }
}
