//! Flags, checked before anything is touched.
//!
//! What the flags name is read elsewhere; only the port file is looked at here, since it stands for a flag.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use clap::Parser;
use gokrazy_core::paths;

/// Port on which the page is served unless something else is asked for.
const DEFAULT_PORT: u16 = 80;

/// Serves the status page, the HTTP API and metrics of this machine.
///
/// Without --listen, web serves the private addresses that init publishes in RUN-DIR/addresses and follows their
/// changes; without that file it serves loopback.
#[derive(Debug, Parser)]
#[command(name = "web", version)]
pub struct Args {
    /// Folder in which init, logd, dhcp and ntp publish their state
    #[arg(long, value_name = "DIR", default_value = paths::RUN)]
    pub run_dir: PathBuf,
    /// File with the password's hash, a PHC string of Argon2id; without one nobody gets in over TCP
    #[arg(long, value_name = "FILE", default_value = paths::WEB_PASSWORD)]
    pub password_file: PathBuf,
    /// Address and port to listen on, in place of the private addresses; may be repeated; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address, conflicts_with_all = ["port", "port_file"])]
    pub listen: Vec<SocketAddr>,
    /// TCP port on the private addresses, 1 to 65535 [default: what --port-file says, else 80]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "port_file")]
    pub port: Option<u16>,
    /// File with the TCP port as a number; passed over if absent
    #[arg(long, value_name = "FILE", default_value = paths::HTTP_PORT)]
    pub port_file: PathBuf,
    /// Unix socket on which root is served without a password
    #[arg(long, value_name = "PATH", default_value = paths::HTTP_UNIX_SOCKET)]
    pub http_socket: PathBuf,
    /// Folder to which /uploadtemp and /divert are confined
    #[arg(long, value_name = "DIR", default_value = paths::TEMP)]
    pub temp_dir: PathBuf,
    /// Mount point of the lasting data, whose use is shown
    #[arg(long, value_name = "DIR", default_value = paths::PERM)]
    pub perm_dir: PathBuf,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On these and no others.
    Fixed(Vec<SocketAddr>),
    /// On each private address of the address file, at this port.
    Private(u16),
}

/// Settings of a running web.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the others publish their state.
    pub run_dir: PathBuf,
    /// The password's hash.
    pub password_file: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// The socket for root.
    pub http_socket: PathBuf,
    /// What uploads are confined to.
    pub temp_dir: PathBuf,
    /// The lasting data.
    pub perm_dir: PathBuf,
}

impl Config {
    /// Makes settings of flags; a port file that cannot be used is returned as a line for the log.
    pub fn new(args: Args) -> (Self, Option<String>) {
        let (listen, complaint) = match (args.listen.is_empty(), args.port) {
            (false, _) => (Listen::Fixed(args.listen), None),
            (true, Some(port)) => (Listen::Private(port), None),
            (true, None) => {
                let (port, complaint) = port_of_file(&args.port_file);
                (Listen::Private(port), complaint)
            }
        };
        let config = Self {
            run_dir: args.run_dir,
            password_file: args.password_file,
            listen,
            http_socket: args.http_socket,
            temp_dir: args.temp_dir,
            perm_dir: args.perm_dir,
        };
        (config, complaint)
    }
}

/// An unusable file must not keep the page away, so it costs a line in the log and nothing more.
fn port_of_file(path: &Path) -> (u16, Option<String>) {
    let complain = |why: String| {
        let line = format!("{}: {why}; using port {DEFAULT_PORT}", path.display());
        (DEFAULT_PORT, Some(line))
    };
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (DEFAULT_PORT, None),
        Err(error) => complain(error.to_string()),
        Ok(text) => match text.trim().parse() {
            Ok(port) if port > 0 => (port, None),
            Ok(_) | Err(_) => complain("not a port from 1 to 65535".to_owned()),
        },
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or("not ADDR:PORT, as in 127.0.0.1:8080 or [::1]:8080")?;
    let port = port
        .parse()
        .map_err(|_| format!("`{port}` is not a port"))?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner,
        None if host.contains(':') => return Err("put an IPv6 address in brackets".to_owned()),
        None => host,
    };
    with_zone(host, port)
        .ok_or_else(|| format!("`{host}` is not an IP address, or names no interface behind `%`"))
}

/// The socket address of `host`, whose zone, if it has one, names an interface (`fe80::1%eth0`, RFC 4007 §11).
///
/// An IPv4 address may carry a zone too, as gokrazy writes link-local ones; it means nothing there.
pub fn with_zone(host: &str, port: u16) -> Option<SocketAddr> {
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    match (address.parse().ok()?, zone) {
        (IpAddr::V6(address), Some(zone)) => {
            let scope = scope_id(zone)?;
            Some(SocketAddrV6::new(address, port, 0, scope).into())
        }
        (address, _) => Some(SocketAddr::new(address, port)),
    }
}

fn scope_id(zone: &str) -> Option<u32> {
    match zone.parse() {
        Ok(index) => Some(index),
        Err(_) => nix::net::if_::if_nametoindex(zone).ok(),
    }
}

/// Addresses that are served when init says nothing.
pub fn loopback() -> [IpAddr; 2] {
    [
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, clap::error::ErrorKind> {
        Args::try_parse_from([&["web"], flags].concat()).map_err(|error| error.kind())
    }

    #[test]
    fn defaults_are_our_paths() {
        let (config, complaint) = Config::new(parse(&["--port-file", "/nonexistent"]).unwrap());
        assert_eq!(config.listen, Listen::Private(80));
        assert_eq!(config.run_dir, Path::new(paths::RUN));
        assert_eq!(complaint, None);
    }

    #[test]
    fn unknown_bad_and_contradictory_flags_are_refused() {
        use clap::error::ErrorKind::{ArgumentConflict, UnknownArgument, ValueValidation};
        let rows: [(&[&str], _); 8] = [
            (&["--frob"], UnknownArgument),
            (&["--port", "0"], ValueValidation),
            (&["--port", "70000"], ValueValidation),
            (&["--listen", "8080"], ValueValidation),
            (&["--listen", "::1:80"], ValueValidation),
            (&["--listen", "localhost:80"], ValueValidation),
            (
                &["--listen", "127.0.0.1:80", "--port", "80"],
                ArgumentConflict,
            ),
            (&["--port", "80", "--port-file", "/x"], ArgumentConflict),
        ];
        for (flags, kind) in rows {
            assert_eq!(parse(flags).map(|_| ()), Err(kind), "{flags:?}");
        }
    }

    #[test]
    fn addresses_with_zones() {
        let text = |host| with_zone(host, 80).map(|address| address.to_string());
        assert_eq!(text("10.0.0.5").as_deref(), Some("10.0.0.5:80"));
        assert_eq!(text("169.254.9.9%eth0").as_deref(), Some("169.254.9.9:80"));
        assert_eq!(text("fe80::1%7").as_deref(), Some("[fe80::1%7]:80"));
        assert_eq!(text("fe80::1%lo").as_deref(), Some("[fe80::1%1]:80"));
        assert_eq!(text("fe80::1%no-such-interface"), None);
        assert_eq!(text("example.org"), None);
    }

    #[test]
    fn a_bad_port_file_costs_a_line_only() {
        let path = std::env::temp_dir().join(format!("gokrazy-web-port-{}", std::process::id()));
        let write = |text: &str| {
            gokrazy_core::atomic::replace(
                &path,
                text.as_bytes(),
                0o600,
                gokrazy_core::atomic::Durability::Volatile,
            )
            .unwrap();
            port_of_file(&path)
        };
        assert_eq!(write("8080\n"), (8080, None));
        let (port, complaint) = write("http");
        assert_eq!(port, 80);
        assert!(complaint.unwrap().contains("not a port"));
        fs::remove_file(&path).unwrap();
    }
}
