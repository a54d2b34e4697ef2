//! `/metrics` in the OpenMetrics text format 1.0; pure.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use gokrazy_core::service_status::State;

use super::snapshot::{Service, Snapshot};

/// The format's media type.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What web has counted of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Wrong passwords.
    pub failed_logins: u64,
}

/// The whole document.
pub fn render(snapshot: &Snapshot, own: Own) -> String {
    let mut page = Page(String::with_capacity(8192));
    machine(&mut page, snapshot);
    clock(&mut page, snapshot);
    services(&mut page, &snapshot.services);
    page.counter(
        "gokrazy_http_connections",
        "HTTP connections accepted since web started.",
        own.connections,
    );
    page.counter(
        "gokrazy_http_requests",
        "HTTP requests received since web started.",
        own.requests,
    );
    page.counter(
        "gokrazy_http_failed_logins",
        "Wrong passwords since web started.",
        own.failed_logins,
    );
    page.0.push_str("# EOF\n");
    page.0
}

fn machine(page: &mut Page, snapshot: &Snapshot) {
    build(page, snapshot);
    if let Some(uptime) = snapshot.uptime {
        let help = "Time since the boot.";
        page.gauge("gokrazy_uptime_seconds", "seconds", help, uptime.as_secs());
    }
    let (memory, perm) = (snapshot.memory, snapshot.perm.as_ref());
    let help = "Memory that the kernel manages.";
    page.gauge("gokrazy_memory_total_bytes", "bytes", help, memory.total);
    let help = "Memory that programs could still have.";
    let name = "gokrazy_memory_available_bytes";
    page.gauge(name, "bytes", help, memory.available);
    if let Some(perm) = perm {
        let help = "Size of /perm.";
        page.gauge("gokrazy_perm_total_bytes", "bytes", help, perm.total);
        let help = "Free for programs on /perm.";
        let name = "gokrazy_perm_available_bytes";
        page.gauge(name, "bytes", help, perm.available);
        let help = "Whether nothing can be stored on /perm.";
        page.flag("gokrazy_perm_read_only", help, perm.read_only);
    }
    if let Some(boot) = &snapshot.boot {
        let help = "Whether /perm is lost with the next boot.";
        page.flag("gokrazy_perm_temporary", help, boot.perm_problem.is_some());
        let help = "Whether another slot runs than was to boot.";
        page.flag("gokrazy_fallback", help, boot.fallback.is_some());
    }
}

fn build(page: &mut Page, snapshot: &Snapshot) {
    let boot = snapshot.boot.as_ref();
    let slot = boot.and_then(|boot| boot.slot).map(|slot| slot.to_string());
    let labels = [
        ("build_id", boot.map_or("", |boot| &boot.build_id)),
        ("model", &snapshot.model),
        ("kernel", &snapshot.names.kernel),
        ("slot", slot.as_deref().unwrap_or_default()),
    ];
    page.family("gokrazy_build", "info", "What runs.");
    page.sample("gokrazy_build_info", &labels, 1);
}

fn clock(page: &mut Page, snapshot: &Snapshot) {
    let clock = snapshot.clock.as_ref();
    let help = "Whether servers vouch for the clock.";
    let synchronised = clock.is_some_and(|clock| clock.synchronised);
    page.flag("gokrazy_clock_synchronised", help, synchronised);
    #[expect(
        clippy::cast_precision_loss,
        reason = "an offset that large is no offset"
    )]
    if let Some(seconds) = clock
        .and_then(|clock| clock.offset_ns)
        .map(|ns| ns as f64 / 1e9)
    {
        let help = "Last measured offset from the servers.";
        page.gauge("gokrazy_clock_offset_seconds", "seconds", help, seconds);
    }
}

fn services(page: &mut Page, services: &[Service]) {
    let help = "Whether the service runs and is ready, or has finished its work.";
    page.family("gokrazy_service_up", "gauge", help);
    page.each("gokrazy_service_up", services, |service| {
        let up = matches!(
            service.status.state,
            State::Running | State::Reloading | State::Finished
        );
        Some(u8::from(up))
    });
    let help = "Whether the service fails again and again.";
    page.family("gokrazy_service_crash_loop", "gauge", help);
    page.each("gokrazy_service_crash_loop", services, |service| {
        Some(u8::from(service.status.state == State::CrashLoop))
    });
    let help = "How often the service was started again in this boot.";
    page.family("gokrazy_service_restarts", "counter", help);
    page.each("gokrazy_service_restarts_total", services, |service| {
        Some(service.status.restarts)
    });
    let help = "Resident memory of the service's main process.";
    page.unit("gokrazy_service_resident_bytes", "bytes", help);
    page.each("gokrazy_service_resident_bytes", services, |service| {
        service.memory.map(|memory| memory.resident)
    });
    let help = "When the service was last started.";
    page.unit("gokrazy_service_start_time_seconds", "seconds", help);
    page.each("gokrazy_service_start_time_seconds", services, |service| {
        let start = service.started_at()?.duration_since(SystemTime::UNIX_EPOCH);
        start.ok().map(|start| start.as_secs_f64())
    });
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}\n");
    }

    fn unit(&mut self, name: &str, unit: &str, help: &str) {
        let _ = write!(
            self.0,
            "# TYPE {name} gauge\n# UNIT {name} {unit}\n# HELP {name} {help}\n"
        );
    }

    fn gauge(&mut self, name: &str, unit: &str, help: &str, value: impl Display) {
        self.unit(name, unit, help);
        self.sample(name, &[], value);
    }

    fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.family(name, "gauge", help);
        self.sample(name, &[], u8::from(value));
    }

    fn each<T: Display>(
        &mut self,
        name: &str,
        services: &[Service],
        value: impl Fn(&Service) -> Option<T>,
    ) {
        for service in services {
            if let Some(value) = value(service) {
                self.sample(name, &[("service", &service.status.name)], value);
            }
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escape(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// Backslash, quote and line break, as the format's ABNF has it.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gokrazy_core::service_status::ServiceStatus;

    #[test]
    fn a_machine_that_says_nothing_still_has_a_whole_document() {
        let text = render(&Snapshot::empty(SystemTime::UNIX_EPOCH), Own::default());
        assert!(text.contains("gokrazy_clock_synchronised 0\n"));
        assert!(text.ends_with("# EOF\n"));
        assert!(text.lines().all(|line| !line.is_empty()));
    }

    #[test]
    fn values_cannot_break_out_of_their_label() {
        let mut snapshot = Snapshot::empty(SystemTime::UNIX_EPOCH);
        let file = "name='a\"} 1'\nstate=running\ncommand=/x\nsince_ms=0\nrestarts=3\nstarted_at_ms=1500\n";
        let status = ServiceStatus::parse(file).unwrap();
        snapshot.services.push(Service {
            status,
            memory: None,
            last_line: None,
        });
        let text = render(
            &snapshot,
            Own {
                failed_logins: 7,
                ..Own::default()
            },
        );
        assert!(
            text.contains("gokrazy_service_restarts_total{service=\"a\\\"} 1\"} 3\n"),
            "{text}"
        );
        assert!(text.contains("gokrazy_service_start_time_seconds{service=\"a\\\"} 1\"} 1.5\n"));
        assert!(text.contains("gokrazy_http_failed_logins_total 7\n"));
    }
}
