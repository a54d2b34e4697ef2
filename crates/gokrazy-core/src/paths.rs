//! Every well-known path, spelled once; `docs/files.md` tells owner, readers, format and lifetime.
//!
//! Functions that use a path take it as an argument; these constants meet them in `main` or in `run`.

/// Where our daemons publish what holds until the next boot; each daemon's `--run-dir` defaults to it.
pub const RUN: &str = "/run/gokrazy";

/// File below [`RUN`]: what booted ([`crate::boot_info::BootInfo`]). Writer: init.
pub const BOOT_INFO: &str = "boot";

/// Folder below [`RUN`]: one [`crate::service_status::ServiceStatus`] per service. Writer: init.
pub const SERVICE_DIR: &str = "service";

/// Folder below [`RUN`]: one [`crate::mount_status::MountStatus`] per `[[mount]]` table, in their order. Writer: init.
pub const MOUNT_DIR: &str = "mount";

/// Folder below [`RUN`]: one socket per service that says what it does (`sd_notify(3)`). Listener: init.
pub const NOTIFY_DIR: &str = "notify";

/// Folder below [`RUN`], web's own: holds [`WEB_SOCKET`].
pub const WEB_DIR: &str = "web";

/// Socket below [`WEB_DIR`]; [`HTTP_UNIX_SOCKET`] leads to it, since web cannot write to `/run`.
pub const WEB_SOCKET: &str = "http.sock";

/// Folder below [`RUN`]: one folder of log segments per service. Writer: logd.
pub const LOG_DIR: &str = "log";

/// Socket below [`RUN`]: requests to init ([`crate::control`]).
pub const CONTROL_SOCKET: &str = "control.sock";

/// Folder below [`RUN`]: one [`crate::lease::Lease`] per interface. Writer: dhcp.
pub const NET_DIR: &str = "net";

/// File below [`RUN`]: the resolver configuration. Writer: dhcp.
pub const RESOLV_CONF: &str = "resolv.conf";

/// File below [`RUN`]: the state of the clock ([`crate::clock::ClockState`]). Writer: ntp.
pub const CLOCK: &str = "clock";

/// File below [`RUN`]: private and public interface addresses ([`crate::addresses::Addresses`]). Writer: init.
pub const ADDRESSES: &str = "addresses";

/// The socket on which web serves HTTP without a network (gokrazy's constant).
pub const HTTP_UNIX_SOCKET: &str = "/run/gokrazy-http.sock";

/// Where the data partition is mounted: all that outlives a boot.
pub const PERM: &str = "/perm";

/// The device's lasting identity, made on its first boot. Writer: init.
pub const PERM_MACHINE_ID: &str = "/perm/machine-id";

/// The seeds that carry entropy over a restart. Writer: randomd.
pub const PERM_RANDOM: &str = "/perm/random";

/// Last leases, one file per interface. Writer: dhcp.
pub const PERM_DHCP: &str = "/perm/dhcp";

/// Drift and last known time. Writer: ntp.
pub const PERM_NTP: &str = "/perm/ntp";

/// Logs that outlive a boot, for services that ask for it. Writer: logd.
pub const PERM_LOG: &str = "/perm/log";

/// Where logs are forwarded to, `[udp://|tcp://]HOST[:PORT]` (gokrazy's file). Writer: the operator.
pub const PERM_SYSLOG_TARGET: &str = "/perm/remote_syslog/target";

/// One home folder per service.
pub const PERM_HOME: &str = "/perm/home";

/// File in the folder of the homes: which user each service got. Writer: init.
pub const USERS_RECORD: &str = ".users";

/// Where `/var` leads, for programs that keep state there.
pub const PERM_VAR: &str = "/perm/var";

/// Build-time configuration on the device.
pub const ETC_GOKRAZY: &str = "/etc/gokrazy";

/// The services of this image.
pub const SERVICES_TOML: &str = "/etc/gokrazy/services.toml";

/// Fixed network settings, one file per interface; dhcp reads them.
pub const NETWORK_DIR: &str = "/etc/gokrazy/network";

/// Identifies the build; made by the image builder ([`crate::boot_info`] carries it on).
pub const BUILD_ID: &str = "/etc/gokrazy/build-id";

/// The web password as a hash, readable by web's user alone.
pub const WEB_PASSWORD: &str = "/etc/gokrazy/web-password";

/// A machine id shipped in the image, if any.
pub const ETC_MACHINE_ID: &str = "/etc/machine-id";

/// The host name shipped in the image.
pub const ETC_HOSTNAME: &str = "/etc/hostname";

/// Kernel settings of the image, beside those that init makes (sysctl.conf(5)).
pub const ETC_SYSCTL: &str = "/etc/sysctl.conf";

/// The program that Enter on the console runs, in the first line; only images that were built with one have the file.
pub const EMERGENCY_SHELL: &str = "/etc/gokrazy/emergency-shell";

/// The machine's console (console(4)).
pub const CONSOLE: &str = "/dev/console";

/// Names of the devices behind the console, the one that is read last.
pub const ACTIVE_CONSOLES: &str = "/sys/class/tty/console/active";

/// Input devices.
pub const DEV_INPUT: &str = "/dev/input";

/// Names the operating system (os-release(5)).
pub const OS_RELEASE: &str = "/etc/os-release";

/// Where logs are forwarded to unless the device says otherwise (gokrazy's file).
pub const ETC_SYSLOG_TARGET: &str = "/etc/gokrazy/remote_syslog/target";

/// The TCP port of the web page as a number, if not 80 (gokrazy's file).
pub const HTTP_PORT: &str = "/etc/http-port.txt";

/// What the kernel tells of processes, memory and mounts (proc(5)).
pub const PROC: &str = "/proc";

/// What the kernel tells of devices (sysfs(5)).
pub const SYS: &str = "/sys";

/// Where anybody may leave files until the next boot; web confines uploads and diversions to it.
pub const TEMP: &str = "/tmp";

/// Folder of our own programs.
pub const SYSTEM_BIN: &str = "/gokrazy";

/// Folder of the user's programs.
pub const USER_BIN: &str = "/user";

/// The hardware clock.
pub const RTC: &str = "/dev/rtc0";

/// The kernel's random name of this boot.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's command line (proc(5)).
pub const PROC_CMDLINE: &str = "/proc/cmdline";

/// Where a line reaches the kernel's log and so every console.
pub const KMSG: &str = "/dev/kmsg";

/// Folder of the kernel's modules, one sub-folder a release.
pub const MODULES: &str = "/lib/modules";

/// The modules that are loaded, one folder each.
pub const SYS_MODULE: &str = "/sys/module";

/// Names of modules to load at boot whatever devices there are, one a line, in the order of loading.
pub const MODULE_LIST: &str = "/etc/gokrazy/modules";

/// The block devices, one folder each.
pub const SYS_BLOCK: &str = "/sys/block";

/// Device nodes.
pub const DEV: &str = "/dev";

/// The kernel's random pool: takes bytes and credit, never blocks (random(4)).
pub const URANDOM: &str = "/dev/urandom";

/// The kernel's random pool: readable, for poll(2), once it is initialised (random(4)).
pub const RANDOM: &str = "/dev/random";

/// The size of the kernel's random pool in bits (random(4)).
pub const RANDOM_POOLSIZE: &str = "/proc/sys/kernel/random/poolsize";

/// What is mounted, as this process sees it.
pub const PROC_MOUNTINFO: &str = "/proc/self/mountinfo";

/// Which control groups this process is in.
pub const PROC_SELF_CGROUP: &str = "/proc/self/cgroup";

/// Swallows what is written, and is empty.
pub const DEV_NULL: &str = "/dev/null";

/// Users by name (`passwd(5)`).
pub const ETC_PASSWD: &str = "/etc/passwd";

/// Groups by name (group(5)).
pub const ETC_GROUP: &str = "/etc/group";

/// The hardware watchdog.
pub const WATCHDOG: &str = "/dev/watchdog";

/// Which users the user namespace of this process knows.
pub const PROC_SELF_UID_MAP: &str = "/proc/self/uid_map";

/// Whether groups may be set in it.
pub const PROC_SELF_SETGROUPS: &str = "/proc/self/setgroups";

/// Descriptors of this process as paths (proc(5)).
pub const PROC_SELF_FD: &str = "/proc/self/fd";

/// The program of this process.
pub const PROC_SELF_EXE: &str = "/proc/self/exe";

/// Lives in memory, and is empty at boot.
pub const RUN_ROOT: &str = "/run";

/// Configuration that the image carries.
pub const ETC: &str = "/etc";

/// Pseudo-terminals.
pub const DEV_PTS: &str = "/dev/pts";

/// Shared memory (shm_overview(7)).
pub const DEV_SHM: &str = "/dev/shm";

/// The tree of control groups (cgroups(7)).
pub const CGROUP: &str = "/sys/fs/cgroup";

/// Controllers that the root control group has.
pub const CGROUP_CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.controllers";

/// Controllers that its children may use.
pub const CGROUP_SUBTREE: &str = "/sys/fs/cgroup/cgroup.subtree_control";

/// What is mounted, in the older form.
pub const PROC_MOUNTS: &str = "/proc/self/mounts";

/// Kernel settings (sysctl(8)).
pub const PROC_SYS: &str = "/proc/sys";

/// Disks and partitions, by name.
pub const SYS_CLASS_BLOCK: &str = "/sys/class/block";

/// Network interfaces, by name.
pub const SYS_CLASS_NET: &str = "/sys/class/net";

/// Leads to `/run`, for programs that know only the older name.
pub const PERM_VAR_RUN: &str = "/perm/var/run";

/// What leads to the serial line on the header (gokrazy's and Raspberry Pi OS's name).
pub const SERIAL0: &str = "/dev/serial0";

/// Terminals, by name.
pub const SYS_CLASS_TTY: &str = "/sys/class/tty";

/// The device tree, as the firmware handed it over.
pub const DEVICE_TREE: &str = "/proc/device-tree";

/// The board, as its device tree names it.
pub const DEVICE_TREE_MODEL: &str = "/proc/device-tree/model";

/// The board's serial number, as its firmware wrote it into the device tree.
pub const DEVICE_TREE_SERIAL: &str = "/proc/device-tree/serial-number";

/// The machine's number, as its firmware tells it; root alone reads it.
pub const DMI_UUID: &str = "/sys/class/dmi/id/product_uuid";

/// The machine, as its firmware names it.
pub const DMI: &str = "/sys/class/dmi/id";

/// Variables of a UEFI firmware, where it is one; empty until their file system is mounted.
pub const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";

/// The image's bill of materials (gokrazy's place).
pub const SBOM_JSON: &str = "/etc/gokrazy/sbom.json";
