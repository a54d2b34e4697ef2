//! Flags, and the settings that they become once checked; pure.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{ArgGroup, Parser, ValueEnum};
use gokrazy_core::paths;

use crate::conflict::Check;

/// A DHCP client: leases for all wired interfaces, or for those named.
///
/// Exits 0 when stopped by SIGTERM or SIGINT, with --once when bound, with --test when offered an address; 1 when it
/// cannot work or --once or --test time out; 2 for flags that it cannot accept.
#[derive(Debug, Clone, Parser)]
#[command(name = "dhcp", version, group(ArgGroup::new("short-lived").args(["once", "test"])))]
pub struct Args {
    /// Manage this interface alone, once it exists; may be given several times [default: all wired ones]
    #[arg(long, value_name = "NAME", value_parser = interface_name)]
    pub interface: Vec<String>,
    /// Folder of the last leases
    #[arg(long, value_name = "DIR", default_value = paths::PERM_DHCP)]
    pub state_dir: PathBuf,
    /// Folder of fixed settings, one file per interface
    #[arg(long, value_name = "DIR", default_value = paths::NETWORK_DIR)]
    pub config_dir: PathBuf,
    /// Folder of what holds until the next boot: net/<interface> and resolv.conf
    #[arg(long, value_name = "DIR", default_value = paths::RUN)]
    pub run_dir: PathBuf,
    /// Resolver configuration to write [default: resolv.conf in the run folder]
    #[arg(long, value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// How to try an address before use: full (RFC 5227, 4 to 7 s), fast (200 ms) or off
    #[arg(long, value_name = "MODE", value_enum, default_value_t = CheckMode::Fast)]
    pub conflict_check: CheckMode,
    /// Run this after each change, with the interface's settings in its environment
    #[arg(long, value_name = "COMMAND")]
    pub on_change: Option<String>,
    /// Stay in the foreground and log to standard error (it always does)
    #[arg(long)]
    pub foreground: bool,
    /// Exit when an interface is configured, and leave it so
    #[arg(long)]
    pub once: bool,
    /// Print the first offer and apply nothing
    #[arg(long)]
    pub test: bool,
    /// How long --once and --test try, in seconds (1 to 86400)
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "short-lived",
          value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub timeout: u32,
    /// Tell servers no more than needed (RFC 7844): no host name, no former address
    #[arg(long, conflicts_with_all = ["hostname", "client_id"])]
    pub anonymous: bool,
    /// Take a link-local address (RFC 3927) while no server answers
    #[arg(long, conflicts_with = "test")]
    pub link_local: bool,
    /// Give leases back on exit
    #[arg(long, conflicts_with = "short-lived")]
    pub release: bool,
    /// Host name to send [default: the machine's; empty for none]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Client identifier: the hardware address, or a DUID with interface id (RFC 4361)
    #[arg(long, value_name = "KIND", value_enum, default_value_t = ClientId::Mac)]
    pub client_id: ClientId,
    /// Metric of the routes; the lower wins [default: by the link's speed and number]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub metric: Option<u32>,
    /// Ask for replies by broadcast, for networks that lose the others
    #[arg(long)]
    pub broadcast: bool,
    /// Ignore classless routes (option 121), which can draw traffic off a VPN
    #[arg(long)]
    pub no_classless_routes: bool,
    /// Do not offer to do without IPv4 where the network prefers that (RFC 8925)
    #[arg(long)]
    pub no_ipv6_only: bool,
    /// Leave the lower half of IPv6 addresses to the hardware address, instead of RFC 7217
    #[arg(long)]
    pub no_stable_ipv6: bool,
    /// Log each message too
    #[arg(long)]
    pub verbose: bool,
}

/// The modes of `--conflict-check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckMode {
    /// With the RFC's timing.
    Full,
    /// One probe.
    Fast,
    /// None.
    Off,
}

/// The kinds of `--client-id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientId {
    /// Type 1 and the hardware address.
    Mac,
    /// RFC 4361.
    Duid,
}

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Never, until told.
    Serve,
    /// When bound.
    Once(Duration),
    /// When offered an address.
    Offer(Duration),
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Interfaces to manage; all wired ones if empty.
    pub interfaces: Vec<String>,
    /// Folder of leases.
    pub state_dir: PathBuf,
    /// Folder of fixed settings.
    pub config_dir: PathBuf,
    /// Folder of published files.
    pub run_dir: PathBuf,
    /// The resolver configuration.
    pub resolv_conf: PathBuf,
    /// How addresses are tried.
    pub check: Check,
    /// Command for changes.
    pub on_change: Option<String>,
    /// When to end.
    pub goal: Goal,
    /// RFC 7844.
    pub anonymous: bool,
    /// RFC 3927.
    pub link_local: bool,
    /// Give leases back on exit.
    pub release: bool,
    /// Host name to send, `None` for the machine's, empty for none.
    pub hostname: Option<String>,
    /// Kind of client identifier.
    pub client_id: ClientId,
    /// Metric, if fixed.
    pub metric: Option<u32>,
    /// The broadcast flag.
    pub broadcast: bool,
    /// Follow option 121.
    pub classless_routes: bool,
    /// Heed option 108.
    pub ipv6_only: bool,
    /// RFC 7217.
    pub stable_ipv6: bool,
    /// Log each message.
    pub verbose: bool,
}

impl Config {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// The flag, what is wrong with it, and what would be right.
    pub fn new(args: Args) -> Result<Self> {
        if let Some(name) = args.hostname.as_deref().filter(|name| !name.is_empty())
            && crate::names::domain(name.as_bytes()).is_none()
        {
            bail!("--hostname {name:?} is not a host name: letters, digits, hyphens and dots");
        }
        let timeout = Duration::from_secs(args.timeout.into());
        let goal = match (args.once, args.test) {
            (true, _) => Goal::Once(timeout),
            (_, true) => Goal::Offer(timeout),
            (false, false) => Goal::Serve,
        };
        let resolv_conf = args.resolv_conf;
        Ok(Self {
            resolv_conf: resolv_conf.unwrap_or_else(|| args.run_dir.join(paths::RESOLV_CONF)),
            interfaces: args.interface,
            state_dir: args.state_dir,
            config_dir: args.config_dir,
            run_dir: args.run_dir,
            check: match args.conflict_check {
                CheckMode::Full => Check::Full,
                CheckMode::Fast => Check::Fast,
                CheckMode::Off => Check::Off,
            },
            on_change: args.on_change.filter(|command| !command.trim().is_empty()),
            goal,
            anonymous: args.anonymous,
            link_local: args.link_local,
            release: args.release,
            hostname: args.hostname,
            client_id: args.client_id,
            metric: args.metric,
            broadcast: args.broadcast,
            classless_routes: !args.no_classless_routes,
            ipv6_only: !args.no_ipv6_only,
            stable_ipv6: !args.no_stable_ipv6,
            verbose: args.verbose,
        })
    }
}

/// What the kernel accepts as an interface's name (`dev_valid_name`), which is then safe in paths too.
fn interface_name(text: &str) -> Result<String, String> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(odd) {
        return Err(
            "not an interface name: 1 to 15 bytes without slash, colon or blank".to_owned(),
        );
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Config, String> {
        let args = std::iter::once("dhcp").chain(flags.iter().copied());
        let args = Args::try_parse_from(args).map_err(|error| error.to_string())?;
        Config::new(args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_ours() {
        let config = parse(&[]).unwrap();
        assert_eq!(
            config.resolv_conf,
            PathBuf::from("/run/gokrazy/resolv.conf")
        );
        assert_eq!((config.check, config.goal), (Check::Fast, Goal::Serve));
    }

    #[test]
    fn resolv_conf_follows_the_run_folder() {
        let config = parse(&["--run-dir", "r"]).unwrap();
        assert_eq!(config.resolv_conf, PathBuf::from("r/resolv.conf"));
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for flags in [
            &["--once", "--test"][..],
            &["--timeout", "5"],
            &["--once", "--timeout", "0"],
            &["--anonymous", "--hostname", "x"],
            &["--anonymous", "--client-id", "duid"],
            &["--once", "--release"],
            &["--test", "--link-local"],
            &["--conflict-check", "sometimes"],
            &["--interface", ""],
            &["--interface", "a/b"],
            &["--interface", "far-too-long-name"],
            &["--metric", "0"],
            &["--hostname", "a b"],
            &["--what"],
            &["stray"],
        ] {
            assert!(parse(flags).is_err(), "{flags:?}");
        }
    }
}
