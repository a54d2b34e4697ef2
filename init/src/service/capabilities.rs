//! Capabilities by name, as `capabilities(7)` has them; pure.

const NAMES: [&str; 41] = [
    "chown",
    "dac-override",
    "dac-read-search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux-immutable",
    "net-bind-service",
    "net-broadcast",
    "net-admin",
    "net-raw",
    "ipc-lock",
    "ipc-owner",
    "sys-module",
    "sys-rawio",
    "sys-chroot",
    "sys-ptrace",
    "sys-pacct",
    "sys-admin",
    "sys-boot",
    "sys-nice",
    "sys-resource",
    "sys-time",
    "sys-tty-config",
    "mknod",
    "lease",
    "audit-write",
    "audit-control",
    "setfcap",
    "mac-override",
    "mac-admin",
    "syslog",
    "wake-alarm",
    "block-suspend",
    "audit-read",
    "perfmon",
    "bpf",
    "checkpoint-restore",
];

/// The number of a capability given as `net-admin`, `NET_ADMIN` or `CAP_NET_ADMIN`.
pub fn parse(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase().replace('_', "-");
    let short = lower.strip_prefix("cap-").unwrap_or(&lower);
    (0..)
        .zip(NAMES)
        .find(|(_, name)| *name == short)
        .map(|(number, _)| number)
}

/// The numbers in a set.
pub fn numbers(set: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |number| set & (1 << number) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_headers_numbers() {
        for (text, want) in [
            ("net-bind-service", Some(10)),
            ("CAP_NET_ADMIN", Some(12)),
            ("sys_time", Some(25)),
            ("checkpoint-restore", Some(40)),
            ("fly", None),
        ] {
            assert_eq!(parse(text), want, "{text:?}");
        }
        assert_eq!(numbers(1 << 10 | 1 << 25).collect::<Vec<_>>(), [10, 25]);
    }
}
