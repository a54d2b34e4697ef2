//! The web page, the HTTP API and metrics, as a process of their own.
//!
//! Web holds no state of the machine: it reads the files that init, logd, dhcp and ntp publish, and what is to be
//! changed it asks of init over the control socket.
//! It runs as its own user on one thread, and a restart of it loses open connections and nothing else.
//! Told to end, it finishes the answers that are under way ([`ending`]).
//!
//! | module | what |
//! |---|---|
//! | [`config`] | flags |
//! | [`listen`], [`listeners`], [`watch`] | which addresses are served, and sockets that follow them |
//! | [`connections`], [`eviction`], [`serve`], [`peer`], [`ending`] | connections, bounded in number and time |
//! | [`auth`], [`password`], [`throttle`], [`origin`], [`tokens`] | who gets in, and what a browser may be made to do |
//! | [`router`], [`params`], [`error`] | routes, what requests carry, refusals |
//! | [`machine`], [`snapshot`], [`logs`] | what the machine says of itself, and its services print |
//! | [`pages`], [`assets`], [`gokrazy`], [`api`], [`metrics`] | how it looks: for people, gokrazy's clients, programs, and metrics |
//! | [`report`] | lines of our own log |
//! | [`services`], [`power`], [`divert`], [`temporary`], [`update`], [`control`] | what is changed, and how init is asked for it |

pub mod api;
pub mod assets;
pub mod auth;
pub mod config;
pub mod connections;
pub mod control;
pub mod divert;
pub mod ending;
pub mod error;
pub mod eviction;
pub mod gokrazy;
pub mod listen;
pub mod listeners;
pub mod logs;
pub mod machine;
pub mod metrics;
pub mod origin;
pub mod pages;
pub mod params;
pub mod password;
pub mod peer;
pub mod power;
pub mod report;
pub mod router;
pub mod serve;
pub mod services;
pub mod snapshot;
pub mod temporary;
pub mod throttle;
pub mod tokens;
pub mod update;
pub mod watch;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use gokrazy_core::control::{Reply, Request};
use gokrazy_core::paths;
use tokio::sync::Semaphore;

use auth::Door;
use config::Config;
use ending::Ending;
use error::Refusal;
use password::{KEY_LENGTH, Store};
use report::report;
use serve::Server;
use snapshot::{Snapshot, Sources};
use tokens::Numbers;

/// What has been counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Requests whose head was read.
    pub requests: AtomicU64,
    /// Wrong passwords.
    pub failed_logins: AtomicU64,
}

/// What every handler can reach.
pub struct App {
    /// Settings.
    pub config: Config,
    /// Where the machine's state is read.
    pub sources: Sources,
    /// Who gets in.
    pub door: Door,
    /// Tokens and names that nobody can guess.
    pub numbers: Numbers,
    /// One permit for each client that follows a log.
    pub followers: Arc<Semaphore>,
    /// Whether the process is about to end.
    pub ending: Ending,
    /// For metrics.
    pub counters: Counters,
    /// Our user id: its processes are served on the unix socket without a password.
    pub uid: u32,
}

impl App {
    /// An application whose memory of credentials and tokens is keyed by `key`.
    pub fn new(config: Config, key: [u8; KEY_LENGTH]) -> Arc<Self> {
        let store = Store::new(config.password_file.clone(), key);
        let sources = Sources {
            run_dir: config.run_dir.clone(),
            perm_dir: config.perm_dir.clone(),
            etc_dir: paths::ETC_GOKRAZY.into(),
            kernel: machine::Kernel {
                proc: paths::PROC.into(),
                sys: paths::SYS.into(),
            },
        };
        Arc::new(Self {
            config,
            sources,
            door: Door::new(store),
            numbers: Numbers::new(key),
            followers: Arc::new(Semaphore::new(logs::MAX_FOLLOWERS)),
            ending: Ending::default(),
            counters: Counters::default(),
            uid: nix::unistd::geteuid().as_raw(),
        })
    }

    /// The machine at this moment.
    pub fn snapshot(&self) -> Snapshot {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where web looks at the clock on the wall"
        )]
        let now = std::time::SystemTime::now();
        self.sources.snapshot(now)
    }

    /// Has init do something.
    ///
    /// # Errors
    /// init refuses, or cannot be asked.
    pub async fn ask(self: &Arc<Self>, request: Request) -> Result<(), Refusal> {
        let path = self.config.run_dir.join(paths::CONTROL_SOCKET);
        let what = request.render().replace('\n', " ");
        let answer = tokio::task::spawn_blocking(move || control::ask(&path, &request)).await;
        match answer {
            Ok(Ok(Reply::Done)) => {
                report(format_args!("asked init: {what}"));
                Ok(())
            }
            Ok(Ok(Reply::Refused(refusal))) => Err(Refusal::Init(refusal)),
            Ok(Err(error)) => Err(Refusal::InitUnreachable(error.to_string())),
            Err(error) => Err(Refusal::Internal(error.to_string())),
        }
    }
}

/// Serves until a signal asks for the end, and then finishes what is under way.
///
/// # Errors
/// Neither the network nor the unix socket can be served.
pub fn run(args: config::Args) -> anyhow::Result<()> {
    let (config, complaint) = Config::new(args);
    if let Some(line) = complaint {
        report(line);
    }
    let mut key = [0; KEY_LENGTH];
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where web draws chance"
    )]
    getrandom::fill(&mut key).context("draw a key")?;
    let signals = ending::take_signals().context("take signals")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let app = App::new(config, key);
        let server = Server::new(app.clone(), router::router(app.clone()));
        ending::follow(signals, app.ending.clone()).context("wait for signals")?;
        let served = pin!(serve_all(app.clone(), server.clone()));
        match app.ending.cuts(served).await {
            Some(served) => served,
            None => {
                server.drain().await;
                Ok(())
            }
        }
    })
}

async fn serve_all(app: Arc<App>, server: Arc<Server>) -> anyhow::Result<()> {
    let config = app.config.clone();
    let unix = {
        let server = server.clone();
        let path = config.http_socket.clone();
        tokio::spawn(async move { listeners::run_unix(server, &path).await })
    };
    let local = async {
        // A device whose socket cannot be bound is still managed over the network.
        if let Ok(Err(error)) = unix.await {
            report(format_args!("{error:#}"));
        }
    };
    let watch_local = tokio::spawn(local);
    let served = listeners::run(server, config.listen, &config.run_dir).await;
    watch_local.abort();
    served
}
