//! The steps of boot as data; pure.

use std::fmt;

use crate::paths;
use crate::users::{DHCP, LOGD, NTP};

/// What the plan depends on.
#[derive(Debug, Clone, Default)]
pub struct EarlyFacts {
    /// Where something is mounted already, by stage 1 or by the kernel.
    pub mounted: Vec<String>,
    /// The image's host name, if it has one.
    pub host_name: Option<String>,
    /// The image's `/etc/sysctl.conf`, if it has one.
    pub sysctls: Option<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// mount(2) of a file system that lives in the kernel.
    Mount {
        /// File system type; the source has the same name.
        kind: &'static str,
        /// Mount point.
        target: &'static str,
        /// Whether device nodes on it work (`/dev`) or not.
        devices: bool,
        /// Options of the file system.
        options: &'static str,
    },
    /// mkdir(2), owner and mode; what is there is put right.
    Folder {
        /// The folder.
        path: String,
        /// Permission bits.
        mode: u32,
        /// User and group id.
        owner: u32,
    },
    /// symlink(2); what is there is left as it is.
    Link {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Allow the controllers to be used below the root control group.
    Controllers,
    /// sethostname(2).
    HostName(String),
    /// Switch the loopback interface on.
    Loopback,
    /// Write a kernel setting.
    Sysctl {
        /// File below `/proc/sys`.
        key: String,
        /// What to write.
        value: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { kind, target, .. } => write!(f, "mount {kind} on {target}"),
            Self::Folder { path, mode, owner } => {
                write!(f, "make folder {path} {mode:04o} of {owner}")
            }
            Self::Link { path, target } => write!(f, "link {path} to {target}"),
            Self::Controllers => f.write_str("enable control group controllers"),
            Self::HostName(name) => write!(f, "set host name {name}"),
            Self::Loopback => f.write_str("switch on the loopback interface"),
            Self::Sysctl { key, value } => write!(f, "set {key} to {value}"),
        }
    }
}

/// The host name of an image that names none.
const FALLBACK_HOST_NAME: &str = "gokrazy";

/// Kernel settings, each with its reason; `/etc/sysctl.conf` of the image has the last word.
const SYSCTLS: [(&str, &str); 20] = [
    // Addresses in the kernel's log help an attacker and nobody who has no shell; the log itself too.
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
    // A service may not read the memory of another one of the same user.
    ("kernel/yama/ptrace_scope", "1"),
    ("kernel/unprivileged_bpf_disabled", "2"),
    // Whatever the command line says: a kernel that is not itself any more, starts anew.
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    // `/tmp` is shared by services that run as root: no link or file that another one left there leads them astray.
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "2"),
    // With 512 MB a burst of dirty pages stalls every writer; and less is lost when the power is pulled.
    ("vm/dirty_bytes", "16777216"),
    ("vm/dirty_background_bytes", "4194304"),
    // A port that a service has just left is free for its successor at once; only for connections that went out.
    ("net/ipv4/tcp_tw_reuse", "1"),
    // No sender chooses the way that a packet takes. Redirects are taken where `all` or the interface says so, and
    // interfaces that are yet to come have the word of `default` (Documentation/networking/ip-sysctl.rst).
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/default/accept_source_route", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    // Everybody may ping: it needs no raw socket.
    ("net/ipv4/ping_group_range", "0 2147483647"),
];

/// Settings of `/etc/sysctl.conf` (sysctl.conf(5)), by their files below `/proc/sys`; other lines are passed over.
fn sysctls(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches('-');
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        let key = file_of(key.trim());
        let is_inside =
            !key.is_empty() && !key.split('/').any(|part| part.is_empty() || part == "..");
        is_inside.then(|| (key, value.trim().to_owned()))
    })
}

/// `net.ipv4.ip_forward` is `net/ipv4/ip_forward`; where the first separator is `/`, dots belong to names (`eth0.1`).
fn file_of(key: &str) -> String {
    let first = key.find(['.', '/']).and_then(|at| key.get(at..));
    match first {
        Some(rest) if rest.starts_with('/') => key.to_owned(),
        Some(_) | None => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    }
}

/// Steps before `/perm` is there.
pub fn early(facts: &EarlyFacts) -> Vec<Step> {
    let mut steps = mounts(facts);
    steps.extend(runtime_folders());
    steps.push(Step::Link {
        path: "/tmp/resolv.conf".to_owned(),
        target: format!("{}/{}", paths::RUN, paths::RESOLV_CONF),
    });
    steps.push(Step::Controllers);
    steps.push(Step::HostName(host_name(facts.host_name.as_deref())));
    steps.push(Step::Loopback);
    let own = SYSCTLS.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let settings = own
        .into_iter()
        .chain(sysctls(facts.sysctls.as_deref().unwrap_or_default()));
    steps.extend(settings.map(|(key, value)| Step::Sysctl { key, value }));
    steps
}

/// Steps when `/perm` is there, be it the real one or a temporary one, and `/dev` holds what the kernel itself made;
/// `serial` is the terminal on the header.
pub fn late(serial: Option<String>) -> Vec<Step> {
    let folder = |path: &str, mode, owner| Step::Folder {
        path: path.to_owned(),
        mode,
        owner,
    };
    let mut steps = vec![
        folder(paths::PERM_RANDOM, 0o700, 0),
        folder(paths::PERM_DHCP, 0o700, DHCP.id),
        folder(paths::PERM_NTP, 0o755, NTP.id),
        folder(paths::PERM_LOG, 0o750, LOGD.id),
        folder(paths::PERM_HOME, 0o755, 0),
        folder(paths::PERM_VAR, 0o755, 0),
        Step::Link {
            path: paths::PERM_VAR_RUN.to_owned(),
            target: paths::RUN_ROOT.to_owned(),
        },
    ];
    steps.extend(serial.map(|target| Step::Link {
        path: paths::SERIAL0.to_owned(),
        target,
    }));
    steps
}

fn mounts(facts: &EarlyFacts) -> Vec<Step> {
    let mount = |kind, target, devices, options| Step::Mount {
        kind,
        target,
        devices,
        options,
    };
    let all = [
        mount("proc", paths::PROC, false, ""),
        mount("sysfs", paths::SYS, false, ""),
        mount("devtmpfs", paths::DEV, true, ""),
        mount("tmpfs", paths::RUN_ROOT, false, "mode=0755"),
        mount("tmpfs", "/tmp", false, "mode=1777"),
        mount("devpts", paths::DEV_PTS, true, "mode=0620,ptmxmode=0666"),
        mount("tmpfs", paths::DEV_SHM, false, "mode=1777"),
        mount("cgroup2", paths::CGROUP, false, ""),
    ];
    let mut steps = Vec::new();
    for step in all {
        let Step::Mount { target, .. } = step else {
            continue;
        };
        if facts.mounted.iter().any(|known| known == target) {
            continue;
        }
        if [paths::DEV_PTS, paths::DEV_SHM].contains(&target) {
            steps.push(Step::Folder {
                path: target.to_owned(),
                mode: 0o755,
                owner: 0,
            });
        }
        steps.push(step);
    }
    steps
}

fn runtime_folders() -> Vec<Step> {
    let below = |name: &str, mode, owner| Step::Folder {
        path: format!("{}/{name}", paths::RUN),
        mode,
        owner,
    };
    vec![
        Step::Folder {
            path: paths::RUN.to_owned(),
            mode: 0o755,
            owner: 0,
        },
        below(paths::SERVICE_DIR, 0o755, 0),
        below(paths::LOG_DIR, 0o750, LOGD.id),
        below(paths::NET_DIR, 0o755, DHCP.id),
    ]
}

/// The name as the kernel takes it: one label or several, at most 64 bytes (RFC 1123, `HOST_NAME_MAX`).
fn host_name(configured: Option<&str>) -> String {
    let name = configured.map(str::trim).unwrap_or_default();
    let valid = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if valid {
        name.to_owned()
    } else {
        FALLBACK_HOST_NAME.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(steps: &[Step]) -> Vec<String> {
        steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_whole_plan_of_a_device() {
        let mounted = ["/", "/dev", "/proc", "/sys", "/run"]
            .map(str::to_owned)
            .to_vec();
        let steps = early(&EarlyFacts {
            mounted,
            host_name: Some("shop\n".to_owned()),
            sysctls: Some("net.ipv4.ip_forward = 1\n".to_owned()),
        });
        let want = [
            "mount tmpfs on /tmp",
            "make folder /dev/pts 0755 of 0",
            "mount devpts on /dev/pts",
            "make folder /dev/shm 0755 of 0",
            "mount tmpfs on /dev/shm",
            "mount cgroup2 on /sys/fs/cgroup",
            "make folder /run/gokrazy 0755 of 0",
            "make folder /run/gokrazy/service 0755 of 0",
            "make folder /run/gokrazy/log 0750 of 901",
            "make folder /run/gokrazy/net 0755 of 903",
            "link /tmp/resolv.conf to /run/gokrazy/resolv.conf",
            "enable control group controllers",
            "set host name shop",
            "switch on the loopback interface",
        ];
        assert_eq!(text(&steps)[..want.len()], want);
        let rest = &text(&steps)[want.len()..];
        assert!(rest.iter().all(|step| step.starts_with("set ")));
        assert_eq!(rest.last().unwrap(), "set net/ipv4/ip_forward to 1");
    }

    #[test]
    fn interfaces_that_come_later_take_no_redirects_either() {
        let steps = text(&early(&EarlyFacts::default()));
        for family in ["ipv4", "ipv6"] {
            for whose in ["all", "default"] {
                let step = format!("set net/{family}/conf/{whose}/accept_redirects to 0");
                assert!(steps.contains(&step), "{step}");
            }
        }
    }

    #[test]
    fn settings_of_the_image_are_read_as_sysctl_reads_them() {
        let text = "# a\n; b\n\nnet.ipv4.ip_forward=1\n -vm/swappiness = 10 \nnet/ipv4/conf/eth0.1/rp_filter = 2\n\
                    net.ipv4.conf.eth0/1.rp_filter = 0\n../../etc/x = 1\nkernel..x = 1\nnonsense\n= 1\n";
        let found: Vec<_> = sysctls(text).collect();
        let want = [
            ("net/ipv4/ip_forward", "1"),
            ("vm/swappiness", "10"),
            ("net/ipv4/conf/eth0.1/rp_filter", "2"),
            ("net/ipv4/conf/eth0.1/rp_filter", "0"),
        ];
        assert_eq!(
            found,
            want.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn without_stage_1_the_kernels_file_systems_come_first() {
        let steps = text(&early(&EarlyFacts::default()));
        assert_eq!(
            steps[..3],
            [
                "mount proc on /proc",
                "mount sysfs on /sys",
                "mount devtmpfs on /dev"
            ]
        );
    }

    #[test]
    fn the_header_s_serial_line_has_a_name_of_its_own() {
        let steps = text(&late(Some("/dev/ttyS1".to_owned())));
        assert_eq!(
            steps.last().map(String::as_str),
            Some("link /dev/serial0 to /dev/ttyS1")
        );
        assert!(!text(&late(None)).concat().contains("serial0"));
    }

    #[track_caller]
    fn check(configured: Option<&str>, want: &str) {
        assert_eq!(host_name(configured), want);
    }

    #[test]
    fn a_host_name_that_is_none_is_replaced() {
        check(Some("pi-1.example"), "pi-1.example");
        check(None, "gokrazy");
        check(Some(""), "gokrazy");
        check(Some("a b"), "gokrazy");
        check(Some(&"x".repeat(65)), "gokrazy");
    }
}
