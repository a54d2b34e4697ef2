//! How each supervisor is told of its services, and how it becomes PID 1.

use std::fmt::Write as _;
use std::path::Path;

/// A supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// Ours.
    Ours,
    /// BusyBox's.
    Busybox,
    /// finit.
    Finit,
    /// s6-svscan, with an s6-supervise for each service.
    S6,
    /// runsvdir, with a runsv for each service.
    Runit,
}

/// The folder in memory in which a run has its files, as its shell knows it.
pub(super) const MEMORY: &str = "$PWD";

impl Peer {
    /// Those that we are compared with.
    pub(super) const OTHERS: [Self; 4] = [Self::Busybox, Self::Finit, Self::S6, Self::Runit];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Busybox => "BusyBox",
            Self::Finit => "finit",
            Self::S6 => "s6",
            Self::Runit => "runit",
        }
    }

    /// Further words for unshare(1): finit mounts, and switches swap off at its end, as far as it may.
    pub(super) fn namespaces(self) -> &'static [&'static str] {
        match self {
            Self::Finit => &["--user", "--map-root-user"],
            Self::Ours | Self::Busybox | Self::S6 | Self::Runit => &[],
        }
    }

    /// A shell script that prepares and becomes the supervisor of `count` services that run `idle`.
    ///
    /// `s6` is the folder of that package's programs, if they are not installed.
    pub(super) fn script(self, count: usize, idle: &Path, init: &Path, s6: &Path) -> String {
        let (prepare, become_it) = match self {
            Self::Ours => (
                table(count, idle),
                format!(
                    "{} --no-boot --services {MEMORY}/services.toml --run-dir {MEMORY}/gokrazy",
                    init.display()
                ),
            ),
            Self::Busybox => (
                lines(count, "../etc/inittab", |number| {
                    format!("::respawn:{} 100000 {number}", idle.display())
                }),
                "busybox init".to_owned(),
            ),
            Self::Finit => (
                lines(count, "../etc/finit.conf", |number| {
                    format!(
                        "service :{number} [S12345] log:null {} 100000 -- s{number}",
                        idle.display()
                    )
                }),
                "finit".to_owned(),
            ),
            // It starts s6-supervise where Debian installs it; it itself is looked for before that place has its
            // namesake, which does not know where its libraries are unpacked.
            Self::S6 => (
                format!(
                    "{}svscan=$(command -v s6-svscan)\nmount -t overlay -o lowerdir={}:/usr/bin none /usr/bin\n",
                    folders(count, idle),
                    s6.display()
                ),
                format!("$svscan -c {} {MEMORY}/services", count + 1),
            ),
            Self::Runit => (folders(count, idle), format!("runsvdir {MEMORY}/services")),
        };
        format!(
            "{ROOM}{prepare}echo go\nexec {become_it} </dev/null >/dev/null 2>{MEMORY}/errors\n"
        )
    }
}

/// A run's own `/run` and `/etc`, where BusyBox and finit look for what to do.
const ROOM: &str = "mount -t tmpfs none /run\nmount -t tmpfs none /etc\nmkdir /etc/finit.d\ntouch /etc/fstab\n\
                    echo root:x:0:0::/:/bin/sh >/etc/passwd\necho root:x:0: >/etc/group\ncd /run\n";

fn table(count: usize, idle: &Path) -> String {
    lines(count, &format!("{MEMORY}/services.toml"), |number| {
        format!(
            "[[service]]\nname = \"s{number}\"\nuser = \"root\"\ncommand = [\"{}\", \"100000\"]",
            idle.display()
        )
    })
}

/// A file with some lines for each service.
fn lines(count: usize, path: &str, line: impl Fn(usize) -> String) -> String {
    let mut text = format!("cat >{path} <<'END'\n");
    for number in 0..count {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line(number));
    }
    text.push_str("END\n");
    text
}

/// A folder with a `run` script for each service.
fn folders(count: usize, idle: &Path) -> String {
    format!(
        "mkdir {MEMORY}/services\nn=0\nwhile [ $n -lt {count} ]; do\n\
         mkdir {MEMORY}/services/s$n\n\
         printf '#!/bin/sh\\nexec {} 100000\\n' >{MEMORY}/services/s$n/run\n\
         n=$((n + 1))\ndone\nchmod 755 {MEMORY}/services/*/run\n",
        idle.display()
    )
}
