//! Folders and device nodes of our daemons: who may write where.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use gokrazy_core::{paths, users};

/// Puts owners and modes in place; returns what did not work.
///
/// The run folder is sticky and writable for the group of our daemons: each replaces its own files, and nobody's else.
pub fn prepare(run_dir: &Path) -> Vec<String> {
    let (logd, web, dhcp) = (users::LOGD.id, users::WEB.id, users::DHCP.id);
    let below = |name: &str| run_dir.join(name);
    let wanted = [
        (run_dir.to_owned(), 0, users::PUBLISHERS, 0o1775),
        // What logd makes in it belongs to web's group, which shows it.
        (below(paths::LOG_DIR), logd, web, 0o2750),
        (below(paths::NET_DIR), dhcp, dhcp, 0o755),
        (below(paths::WEB_DIR), web, web, 0o755),
        // Ours before any daemon could make it its own: init hands sockets in it to services by their paths.
        (below(paths::NOTIFY_DIR), 0, 0, 0o755),
    ];
    let mut problems: Vec<String> = wanted
        .iter()
        .filter_map(|(path, owner, group, mode)| {
            let made = folder(path, *owner, *group, *mode);
            made.err()
                .map(|error| format!("prepare {}: {error}", path.display()))
        })
        .collect();
    let socket = below(paths::WEB_DIR).join(paths::WEB_SOCKET);
    match symlink(&socket, paths::HTTP_UNIX_SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            problems.push(format!("link {}: {error}", paths::HTTP_UNIX_SOCKET));
        }
        Ok(()) | Err(_) => {}
    }
    give_rtc();
    problems
}

/// The hardware clock is ntp's; a board without one, or that has it only once its driver is loaded, has nothing to give.
pub fn give_rtc() {
    let _ = chown(paths::RTC, Some(users::NTP.id), None);
}

fn folder(path: &Path, owner: u32, group: u32, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    chown(path, Some(owner), Some(group))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}
