//! A network for one guest, in a namespace of its own: a tap device, a DHCP and DNS server, an NTP server.
//!
//! Unlike QEMU's own network, its servers say what the test chose, and tell what the guest asked.
//! Nothing of it is seen from outside, and nothing of the host's network is touched.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::qemu::MAC;
use crate::clock;
use crate::process;

/// Where `ip netns` keeps its names.
const NAMESPACES: &str = "/run/netns";

/// All names of ours begin so; the owner's process id follows.
const PREFIX: &str = "xtask-";

/// Name of the servers' device, inside the namespace.
pub(crate) const TAP: &str = "tap0";

/// The server's address: router, name server, NTP server.
pub(crate) const SERVER: &str = "10.67.75.1";

/// The address that the guest is to get.
pub(crate) const GUEST: &str = "10.67.75.77";

/// Length of the network's prefix.
pub(crate) const PREFIX_LENGTH: u8 = 24;

/// An address behind the router: the guest has no route to it but the default one.
const BEHIND: &str = "10.99.0.1";

/// Where the guest's page is.
///
/// # Errors
/// [`GUEST`] is no address.
pub(crate) fn page_address() -> Result<SocketAddr> {
    Ok(SocketAddr::new(
        GUEST.parse().context("read the guest's address")?,
        80,
    ))
}

/// How long the lease holds, in seconds.
pub(crate) const LEASE_SECONDS: u64 = 3600;

/// Who is to be plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plug {
    /// A machine in QEMU, by a tap device.
    Tap,
    /// Programs of ours in another namespace, by the far end of a pair, called `eth0` there.
    Pair,
}

/// The network; dropped, it is gone with its servers.
pub(crate) struct Lan {
    namespace: String,
    device: Option<String>,
    folder: PathBuf,
    servers: Vec<Child>,
}

impl Lan {
    /// Makes the network and starts its servers; they log below `folder`.
    ///
    /// # Errors
    /// What could not be made, or the server that did not start.
    pub(crate) fn new(folder: &Path, plug: Plug) -> Result<Self> {
        sweep();
        fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
        let namespace = format!("{PREFIX}{}", std::process::id());
        ip(&["netns", "add", &namespace]).context("make a network namespace (root is needed)")?;
        let mut lan = Self {
            device: (plug == Plug::Pair).then(|| format!("{namespace}-device")),
            namespace,
            folder: folder.to_owned(),
            servers: Vec::new(),
        };
        lan.wire()?;
        lan.serve("dnsmasq", &dnsmasq())?;
        lan.serve_time()?;
        Ok(lan)
    }

    /// The namespace's name.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `work` on a thread inside the servers' namespace, and returns what it returns.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` says so.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.namespace, work)
    }

    /// Runs `work` on a thread inside the namespace of what is plugged in, and returns what it returns.
    ///
    /// # Errors
    /// There is none, it cannot be entered, or `work` says so.
    pub(crate) fn at_the_plug<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        inside(
            self.device.as_deref().context("a namespace at the plug")?,
            work,
        )
    }

    /// A program that runs inside the namespace and dies with us.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "ip",
            "netns",
            "exec",
            &self.namespace,
            program,
        ]);
        command
    }

    /// Opens a connection to the guest's page from an address behind the router: the answer comes only if the guest
    /// sends it there.
    ///
    /// # Errors
    /// No answer came.
    pub(crate) fn reaches_by_default_route(&self) -> Result<()> {
        let seconds = "20";
        let url = format!("http://{GUEST}/");
        let mut command = self.command("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            seconds,
            "--interface",
            BEHIND,
            &url,
        ]);
        process::capture(&mut command).map(drop)
    }

    /// Tells the servers' side the guest's hardware address, so that it need not be asked for.
    ///
    /// # Errors
    /// The neighbour cannot be added.
    pub(crate) fn introduce_guest(&self) -> Result<()> {
        let neighbour = ["neigh", "replace", GUEST, "lladdr", MAC, "dev", TAP];
        ip(&[
            &["-n", &self.namespace][..],
            &neighbour,
            &["nud", "permanent"],
        ]
        .concat())
    }

    /// What a server logged so far.
    pub(crate) fn log_of(&self, server: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{server}.log"))).unwrap_or_default()
    }

    fn wire(&self) -> Result<()> {
        let inside = |arguments: &[&str]| {
            let in_namespace = ["-n", &self.namespace];
            ip(&[&in_namespace, arguments].concat())
        };
        inside(&["link", "set", "lo", "up"])?;
        inside(&["addr", "add", &format!("{BEHIND}/32"), "dev", "lo"])?;
        match &self.device {
            None => inside(&["tuntap", "add", "dev", TAP, "mode", "tap"])?,
            Some(device) => {
                ip(&["netns", "add", device])?;
                ip(&["-n", device, "link", "set", "lo", "up"])?;
                let pair = [
                    "link", "add", TAP, "type", "veth", "peer", "name", "eth0", "address", MAC,
                    "netns", device,
                ];
                inside(&pair)?;
            }
        }
        inside(&[
            "addr",
            "add",
            &format!("{SERVER}/{PREFIX_LENGTH}"),
            "dev",
            TAP,
        ])?;
        inside(&["link", "set", TAP, "up"])
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a server reads it only after we have written it"
    )]
    fn serve_time(&mut self) -> Result<()> {
        let path = self.folder.join("chrony.conf");
        let settings = format!(
            "local stratum 3\nallow\nbindaddress {SERVER}\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
            // Of this run: a run that was killed may have left its chronyd, and the file, behind.
            self.folder
                .join(format!("chronyd-{}.pid", std::process::id()))
                .display()
        );
        fs::write(&path, settings).with_context(|| format!("write {}", path.display()))?;
        // -x: it serves this machine's clock and never sets it; -d: it stays ours; -u: its package's own user need not exist.
        let path = path.to_string_lossy();
        let arguments = ["-x", "-d", "-u", "root", "-f", &path];
        self.serve("chronyd", &arguments.map(str::to_owned))
    }

    fn serve(&mut self, program: &str, arguments: &[String]) -> Result<()> {
        let log = self.folder.join(format!("{program}.log"));
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share a log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        // A server that does not like its settings ends at once.
        let early = clock::poll(
            Duration::from_millis(500),
            Duration::from_millis(50),
            || child.try_wait().ok().flatten(),
        );
        if let Some(status) = early {
            bail!("{program} ended with {status}:\n{}", self.log_of(program));
        }
        self.servers.push(child);
        Ok(())
    }
}

impl Drop for Lan {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is no supervisor: nobody else reaps these children"
    )]
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Both fail only if the server is gone already, which is what is wanted.
            let _ = server.kill();
            let _ = server.wait();
        }
        for namespace in self.device.iter().chain([&self.namespace]) {
            if let Err(error) = ip(&["netns", "delete", namespace]) {
                eprintln!("xtask: {error:#}");
            }
        }
    }
}

/// One lease, with a route, a name server that takes every name to be ours, and an NTP server.
fn dnsmasq() -> Vec<String> {
    [
        "--keep-in-foreground",
        "--conf-file=",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--log-dhcp",
        "--no-resolv",
        "--no-hosts",
        "--dhcp-authoritative",
        "--leasefile-ro",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("--interface={TAP}"),
        "--bind-interfaces".to_owned(),
        format!("--dhcp-range={GUEST},{GUEST},{LEASE_SECONDS}"),
        format!("--dhcp-host={MAC},{GUEST}"),
        format!("--dhcp-option=option:router,{SERVER}"),
        format!("--dhcp-option=option:ntp-server,{SERVER}"),
        format!("--address=/#/{SERVER}"),
    ])
    .collect()
}

fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new(NAMESPACES).join(namespace);
    let file = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let enter_and_work = move || {
        setns(file, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
        work()
    };
    let ended = thread::scope(|scope| scope.spawn(enter_and_work).join());
    ended.unwrap_or_else(|_| bail!("work inside the network namespace panicked"))
}

fn ip(arguments: &[&str]) -> Result<()> {
    process::capture(Command::new("ip").args(arguments)).map(drop)
}

/// Removes namespaces whose owner is gone: a run that was killed could not.
fn sweep() {
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let gone = owner.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists());
        if gone && let Err(error) = ip(&["netns", "delete", &name]) {
            eprintln!("xtask: {error:#}");
        }
    }
}
