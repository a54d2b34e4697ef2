//! Our own daemons on a device, each with no more than it needs; pure.

use std::path::PathBuf;
use std::time::Duration;

use gokrazy_core::{paths, users};

use crate::service::{Isolation, Restart, Role, Service, User, capabilities};
use crate::syslog::target::Target;

/// Our daemons come back faster than services, since others wait for what they do.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// One that cannot live is not tried more often than this.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// The nice value of what leads to the device: the one who looks for what keeps it busy shall not wait for that.
const FIRST: i32 = -5;

/// Our daemons: the network and the page first, since a lease takes its time, in which the others start. The pool has
/// got the last boot's seed by then; randomd keeps the next one.
pub fn services() -> Vec<Service> {
    let web_dir = format!("{}/{}", paths::RUN, paths::WEB_DIR);
    let http_socket = format!("{web_dir}/{}", paths::WEB_SOCKET);
    vec![
        Service {
            nice: FIRST,
            ..publisher(writing(
                &[paths::RUN, paths::PERM_DHCP],
                daemon(
                    "dhcp",
                    users::DHCP.id,
                    &["net-admin", "net-raw", "net-bind-service"],
                ),
            ))
        },
        Service {
            critical: true,
            nice: FIRST,
            role: Role::Networked,
            ..with_arguments(
                writing(
                    &[&web_dir],
                    daemon("web", users::WEB.id, &["net-bind-service"]),
                ),
                &["--http-socket", &http_socket],
            )
        },
        writing(&[paths::PERM_RANDOM], daemon("randomd", 0, &["sys-admin"])),
        publisher(writing(
            &[paths::RUN, paths::PERM_NTP],
            daemon("ntp", users::NTP.id, &["sys-time"]),
        )),
    ]
}

/// What forwards the logs to a collector, on devices that name one; it may read them as the page may.
pub fn forwarder(target: &Target) -> Service {
    let program = format!("{}/{}", paths::SYSTEM_BIN, users::LOGD.name);
    Service {
        name: users::SYSLOG.name.to_owned(),
        command: vec![program, "--forward".to_owned(), target.to_string()],
        groups: vec![users::WEB.id],
        role: Role::Networked,
        ..daemon(users::SYSLOG.name, users::SYSLOG.id, &[])
    }
}

/// One that writes there, and nowhere else but to devices, `/proc` and `/tmp`.
fn writing(places: &[&str], service: Service) -> Service {
    Service {
        writable: places.iter().map(PathBuf::from).collect(),
        ..service
    }
}

/// One that writes files of its own into the run folder.
fn publisher(service: Service) -> Service {
    Service {
        groups: vec![users::PUBLISHERS],
        ..service
    }
}

fn with_arguments(mut service: Service, arguments: &[&str]) -> Service {
    service
        .command
        .extend(arguments.iter().map(|&word| word.to_owned()));
    service
}

fn daemon(name: &str, user: u32, needs: &[&str]) -> Service {
    let program = format!("{}/{name}", paths::SYSTEM_BIN);
    let numbers = needs.iter().filter_map(|need| capabilities::parse(need));
    Service {
        user: User::Id(user),
        capabilities: numbers.fold(0, |set, number| set | 1 << number),
        restart: Restart::Always,
        restart_delay: FIRST_DELAY,
        restart_delay_max: LONGEST_DELAY,
        working_directory: Some("/".into()),
        isolation: Isolation {
            no_new_privileges: Some(true),
            // What a capability is for stays allowed: ntp sets the clock.
            seccomp: Some(true),
            landlock: Some(true),
            ..Isolation::default()
        },
        role: Role::System,
        ..Service::new(name, &[&program])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fences::Fences;
    use crate::runtime::options::Mode;
    use nix::libc;

    #[test]
    fn each_daemon_has_just_what_it_needs() {
        let got: Vec<_> = services()
            .into_iter()
            .map(|service| {
                let Service { name, user, .. } = service;
                (name, user, service.capabilities, service.groups)
            })
            .collect();
        let want = [
            ("dhcp", 903, 1 << 12 | 1 << 13 | 1 << 10, vec![900]),
            ("web", 902, 1 << 10, vec![]),
            ("randomd", 0, 1 << 21, vec![]),
            ("ntp", 904, 1 << 25, vec![900]),
        ];
        assert_eq!(
            got,
            want.map(|(name, user, set, groups)| (name.to_owned(), User::Id(user), set, groups))
        );
    }

    #[test]
    fn what_forwards_logs_can_read_them_and_nothing_else() {
        let service = forwarder(&"tcp://logs".parse().unwrap());
        assert_eq!(
            service.command,
            ["/gokrazy/logd", "--forward", "tcp://logs:514"]
        );
        assert_eq!((service.user, service.capabilities), (User::Id(905), 0));
        assert_eq!(service.groups, [users::WEB.id]);
    }

    #[test]
    fn each_daemon_is_refused_what_no_capability_of_it_is_for() {
        for service in services() {
            let fences = Fences::of(&service, Mode::Machine, None, &service.command[0]);
            assert!(fences.no_new_privileges, "{}", service.name);
            let places = fences.landlock.unwrap();
            assert!(
                !places.iter().any(|place| paths::PERM == place),
                "{}",
                service.name
            );
            let refused = |call| fences.refused.contains(&call);
            assert!(
                refused(libc::SYS_reboot) && refused(libc::SYS_finit_module),
                "{}",
                service.name
            );
            assert_eq!(
                !refused(libc::SYS_clock_settime),
                service.name == "ntp",
                "{}",
                service.name
            );
            assert_eq!(
                !refused(libc::SYS_mount),
                service.name == "randomd",
                "{}",
                service.name
            );
        }
    }
}
