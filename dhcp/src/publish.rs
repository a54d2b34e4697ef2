//! The files that others read: `net/<interface>` and the resolver configuration.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::lease::{Ipv4, Lease};
use gokrazy_core::paths;
use nix::errno::Errno;

use crate::log::Log;
use crate::moment::Moment;
use crate::resolver::{self, Contribution};

/// Where the files are, and what was said about them last.
#[derive(Debug)]
pub struct Publisher {
    places: Option<Places>,
    respects: bool,
    /// Files whose last write failed, of which a line has told.
    failed: HashSet<PathBuf>,
    log: Log,
}

#[derive(Debug)]
struct Places {
    folder: PathBuf,
    resolv_conf: PathBuf,
}

impl Publisher {
    /// Publishes below `run_dir` and into `resolv_conf`, whose folders it makes if it can.
    pub fn new(run_dir: &Path, resolv_conf: &Path, log: Log) -> Self {
        let folder = run_dir.join(paths::NET_DIR);
        make_folder(&folder, "what is configured is not published", log);
        if let Some(parent) = resolv_conf.parent() {
            make_folder(parent, "name servers are not published", log);
        }
        let resolv_conf = resolv_conf.to_owned();
        Self {
            places: Some(Places {
                folder,
                resolv_conf,
            }),
            respects: false,
            failed: HashSet::new(),
            log,
        }
    }

    /// Publishes nothing.
    pub fn silent(log: Log) -> Self {
        Self {
            places: None,
            respects: false,
            failed: HashSet::new(),
            log,
        }
    }

    /// Publishes what is configured on an interface.
    pub fn put(&mut self, lease: &Lease) {
        let Some(places) = &self.places else { return };
        let path = places.folder.join(&lease.interface);
        let text = lease.render();
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return;
        }
        self.replace(&path, &text, &lease.interface);
    }

    /// Replaces a file; a disk that stays full is told of once, however often a server renews.
    fn replace(&mut self, path: &Path, text: &str, who: &str) {
        let replaced = atomic::replace(path, text.as_bytes(), 0o644, Durability::Volatile);
        // A resolver configuration is a mount point in most containers, and may be ours where its folder is not.
        let written = replaced.or_else(|error| match stands_fast(error.io_error()) {
            true => atomic::overwrite(path, text.as_bytes()).map_err(|_| error),
            false => Err(error),
        });
        match written {
            Ok(()) => {
                self.failed.remove(path);
            }
            Err(error) if self.failed.insert(path.to_owned()) => {
                let reason = error.io_error();
                self.log.event(who, format!("{error}: {reason}"));
            }
            Err(_) => {}
        }
    }

    /// Says that nothing is configured on an interface.
    pub fn remove(&self, interface: &str) {
        if let Some(places) = &self.places {
            remove(&places.folder.join(interface), interface, self.log);
        }
    }

    /// What interfaces of other processes that share our run folder contribute.
    pub fn others(&self, ours: &[&str], now: Moment) -> Vec<Contribution> {
        let Some(places) = &self.places else {
            return Vec::new();
        };
        let mut names: Vec<String> = fs::read_dir(&places.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.') && !ours.contains(&name.as_str()))
            .collect();
        names.sort();
        let lease = |name: &String| {
            let text = fs::read_to_string(places.folder.join(name)).ok()?;
            let lease = Lease::parse(&text).ok()?;
            let over = lease.expires_at.is_some_and(|end| end <= now.as_secs());
            (!over).then(|| contribution(&lease))
        };
        names.iter().filter_map(lease).collect()
    }

    /// Writes the resolver configuration, unless someone else's is there.
    pub fn resolver(&mut self, contributions: &[Contribution]) {
        let Some(places) = &self.places else { return };
        let path = places.resolv_conf.clone();
        let old = fs::read(&path).ok();
        let old = old.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if old.as_deref().is_some_and(resolver::is_foreign) {
            if !self.respects {
                self.respects = true;
                let path = path.display();
                self.log.event(
                    "dhcp",
                    format!("{path} belongs to someone else; left as it is"),
                );
            }
            return;
        }
        self.respects = false;
        match resolver::render(contributions) {
            Some(text) if old.as_ref() == Some(&text) => {}
            Some(text) => self.replace(&path, &text, "dhcp"),
            // An empty one is somebody's too: what is not ours is not ours to remove.
            None if old.is_some_and(|old| !old.trim().is_empty()) => {
                remove_or_empty(&path, self.log)
            }
            None => {}
        }
    }
}

/// What a published configuration contributes to the resolver's.
pub fn contribution(lease: &Lease) -> Contribution {
    let mut contribution = lease.ipv4.as_ref().map(of_ipv4).unwrap_or_default();
    let servers = lease.dns6.iter();
    let servers = servers.map(|server| resolver::ipv6_server(*server, &lease.interface));
    contribution.servers.extend(servers);
    contribution
}

fn of_ipv4(ipv4: &Ipv4) -> Contribution {
    // Without a search list the domain is one.
    let search = match &ipv4.domain {
        Some(domain) if ipv4.search.is_empty() => vec![domain.clone()],
        Some(_) | None => ipv4.search.clone(),
    };
    Contribution {
        servers: ipv4.dns.iter().map(ToString::to_string).collect(),
        domain: ipv4.domain.clone(),
        search,
    }
}

/// Makes a folder if it is missing, or says what its absence means.
pub fn make_folder(folder: &Path, consequence: &str, log: Log) {
    if let Err(error) = fs::create_dir_all(folder) {
        log.event(
            "dhcp",
            format!("create {}: {error}; {consequence}", folder.display()),
        );
    }
}

/// Whether a file cannot be replaced or removed, but perhaps be written.
fn stands_fast(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EBUSY | Errno::EROFS | Errno::EACCES | Errno::EPERM)
    )
}

fn remove_or_empty(path: &Path, log: Log) {
    match fs::remove_file(path) {
        Err(error) if stands_fast(&error) && atomic::overwrite(path, b"").is_ok() => {}
        Ok(()) => {}
        Err(_) => remove(path, "dhcp", log),
    }
}

fn remove(path: &Path, who: &str, log: Log) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => log.event(who, format!("remove {}: {error}", path.display())),
    }
}
