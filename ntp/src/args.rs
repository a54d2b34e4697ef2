//! The command line, and the settings that come of it; pure.

use std::path::PathBuf;

use clap::Parser;
use gokrazy_core::paths;

use crate::names::Spec;

/// Keeps the clock right: sets it at the start, then steers it by several NTP servers.
///
/// Servers come from DHCP (option 42, by the lease files below RUN_DIR/net), else from the command line, else from
/// gokrazy's zone of the NTP pool.
#[derive(Debug, Clone, Parser)]
#[command(name = "ntp", version, about, max_term_width = 100)]
pub struct Args {
    /// Server to ask: HOST, HOST:PORT, ADDRESS, ADDRESS:PORT or [IPV6]:PORT; port 123 by default; repeatable
    #[arg(long = "server", value_name = "SERVER")]
    server: Vec<Spec>,

    /// The same as --server
    #[arg(value_name = "SERVER")]
    servers: Vec<Spec>,

    /// Folder for what outlives a boot: `drift` and `time`
    #[arg(long, value_name = "DIR", default_value = paths::PERM_NTP)]
    state_dir: PathBuf,

    /// Folder for what holds until the next boot: writes `clock`, reads `net/*`
    #[arg(long, value_name = "DIR", default_value = paths::RUN)]
    run_dir: PathBuf,

    /// Hardware clock to read at the start and to write after synchronisation
    #[arg(long, value_name = "DEVICE", default_value = paths::RTC)]
    rtc: PathBuf,

    /// Leave any hardware clock alone
    #[arg(long, conflicts_with = "rtc")]
    no_rtc: bool,

    /// Do not use servers from DHCP
    #[arg(long)]
    no_dhcp: bool,

    /// Ask this server once, print offset and delay in seconds, and touch nothing
    #[arg(
        long,
        value_name = "SERVER",
        conflicts_with_all = ["server", "servers"]
    )]
    query: Option<Spec>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Ask one server and print its answer.
    Query(Spec),
    /// Keep the clock right.
    Keep(Config),
}

/// The daemon's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Servers of the command line.
    pub servers: Vec<Spec>,
    /// Folder for what outlives a boot.
    pub state_dir: PathBuf,
    /// Folder for what holds until the next boot.
    pub run_dir: PathBuf,
    /// The hardware clock, if it may be used.
    pub rtc: Option<PathBuf>,
    /// Whether servers from DHCP come first, or are not used.
    pub dhcp: bool,
}

impl Args {
    /// The task that the command line asks for.
    pub fn task(self) -> Task {
        if let Some(server) = self.query {
            return Task::Query(server);
        }
        let mut servers = Vec::new();
        for server in self.server.into_iter().chain(self.servers) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        Task::Keep(Config {
            servers,
            state_dir: self.state_dir,
            run_dir: self.run_dir,
            rtc: (!self.no_rtc).then_some(self.rtc),
            dhcp: !self.no_dhcp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(line: &str) -> Result<Task, clap::Error> {
        let words = std::iter::once("ntp").chain(line.split_whitespace());
        Args::try_parse_from(words).map(Args::task)
    }

    #[test]
    fn servers_are_collected_in_order_and_once() {
        let Ok(Task::Keep(config)) = parse("--server a:1 b --server [::1]:5 b") else {
            panic!("refused");
        };
        let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["a:1", "[::1]:5", "b"]);
        assert_eq!(config.rtc, Some(PathBuf::from(paths::RTC)));
    }

    #[test]
    fn contradictions_are_refused_with_exit_code_2() {
        for line in [
            "--query a --server b",
            "--query a b",
            "--no-rtc --rtc x",
            "--server a:0",
            "--server",
            "--query",
            "--unknown",
            "1.2.3",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_query_has_no_use_for_the_daemons_settings_and_bears_them() {
        let task = parse("--no-rtc --no-dhcp --state-dir a --run-dir b --query c");
        assert_eq!(task.ok(), "c".parse().ok().map(Task::Query));
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
