//! User ids of our own daemons, fixed so that the image builder can give them files; pure.
//!
//! Services with `user = "auto"` get ids from [`AUTO_FIRST`] to [`AUTO_LAST`], derived from their names.

/// A user (and group of the same number) that a daemon of ours runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemUser {
    /// Name in `/etc/passwd`.
    pub name: &'static str,
    /// User and group id.
    pub id: u32,
}

/// Keeps output; owns `<run-dir>/log` and `/perm/log`.
pub const LOGD: SystemUser = SystemUser {
    name: "logd",
    id: 901,
};
/// Serves the page; may read the password's hash and talk to init.
pub const WEB: SystemUser = SystemUser {
    name: "web",
    id: 902,
};
/// Configures the network; owns `<run-dir>/net` and `/perm/dhcp`.
pub const DHCP: SystemUser = SystemUser {
    name: "dhcp",
    id: 903,
};
/// Steers the clock; owns `<run-dir>/clock` and `/perm/ntp`.
pub const NTP: SystemUser = SystemUser {
    name: "ntp",
    id: 904,
};
/// Forwards logs to a collector, where one is named.
pub const SYSLOG: SystemUser = SystemUser {
    name: "syslog",
    id: 905,
};

/// All of them, in the order of their ids; randomd runs as root, since crediting entropy needs `CAP_SYS_ADMIN`.
pub const ALL: [SystemUser; 5] = [LOGD, WEB, DHCP, NTP, SYSLOG];

/// Group of our daemons that write files of their own into `<run-dir>`.
pub const PUBLISHERS: u32 = 900;

/// First id of a service's own user.
pub const AUTO_FIRST: u32 = 10_000;
/// Last id of a service's own user.
pub const AUTO_LAST: u32 = 59_999;
