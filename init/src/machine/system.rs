//! Our own daemons on a device, each with no more than it needs; pure.

use std::time::Duration;

use gokrazy_core::{paths, users};

use crate::service::{Isolation, Restart, Role, Service, User, capabilities};

/// Our daemons come back faster than services, since others wait for what they do.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// One that cannot live is not tried more often than this.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Our daemons: entropy first, since keys may be made by anything that starts later.
pub fn services() -> Vec<Service> {
    let http_socket = format!("{}/{}/{}", paths::RUN, paths::WEB_DIR, paths::WEB_SOCKET);
    vec![
        daemon("randomd", 0, &["sys-admin"], &[]),
        daemon(
            "dhcp",
            users::DHCP.id,
            &["net-admin", "net-raw", "net-bind-service"],
            &[],
        ),
        daemon("ntp", users::NTP.id, &["sys-time"], &[]),
        Service {
            critical: true,
            ..daemon(
                "web",
                users::WEB.id,
                &["net-bind-service"],
                &["--http-socket", &http_socket],
            )
        },
    ]
}

fn daemon(name: &str, user: u32, needs: &[&str], arguments: &[&str]) -> Service {
    let program = format!("{}/{name}", paths::SYSTEM_BIN);
    let command: Vec<&str> = [program.as_str()]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let numbers = needs.iter().filter_map(|need| capabilities::parse(need));
    Service {
        user: User::Id(user),
        groups: vec![users::PUBLISHERS],
        capabilities: numbers.fold(0, |set, number| set | 1 << number),
        restart: Restart::Always,
        restart_delay: FIRST_DELAY,
        restart_delay_max: LONGEST_DELAY,
        working_directory: Some("/".into()),
        isolation: Isolation {
            no_new_privileges: Some(true),
            ..Isolation::default()
        },
        role: Role::System,
        ..Service::new(name, &command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_daemon_has_just_what_it_needs() {
        let got: Vec<_> = services()
            .into_iter()
            .map(|service| (service.name, service.user, service.capabilities))
            .collect();
        let want = [
            ("randomd", 0, 1 << 21),
            ("dhcp", 903, 1 << 12 | 1 << 13 | 1 << 10),
            ("ntp", 904, 1 << 25),
            ("web", 902, 1 << 10),
        ];
        assert_eq!(
            got,
            want.map(|(name, user, set)| (name.to_owned(), User::Id(user), set))
        );
    }
}
