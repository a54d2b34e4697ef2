//! `services.toml` of the device: the `[[service]]` tables of the configuration as they stand; pure.

use std::path::Path;

use gokrazy_init::service::table::{self, Placed};

use super::config::ConfigError;

/// Services of the system's own, which others may wait for.
pub(crate) const SYSTEM: [&str; 5] = ["logd", "web", "dhcp", "ntp", "randomd"];

/// The tables of services in `text`, every other line blank: line numbers are still those of the file.
fn tables(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let start = line.trim_start();
        if start.starts_with('[') {
            inside = is_service(start);
        }
        if inside {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// Whether a table's head is that of a service, or of a table inside one.
fn is_service(head: &str) -> bool {
    let name = head.trim_start_matches('[').trim_start();
    name.strip_prefix("service")
        .is_some_and(|rest| rest.trim_start().starts_with([']', '.']))
}

/// Checks the services of `text`, which came from `path`, in an image that has `programs` (their paths on the device).
///
/// # Errors
/// The first thing that is wrong with one, with its line.
pub(crate) fn check(path: &Path, text: &str, programs: &[String]) -> Result<(), ConfigError> {
    let tables = tables(text);
    let fail = |line: usize, message: String| Err(ConfigError::new(path, line, message));
    if let Err(errors) = table::check_services(&tables, &SYSTEM)
        && let Some(first) = errors.first()
    {
        return fail(first.line, first.message.clone());
    }
    let (placed, _) = table::parse(&tables);
    for Placed { line, service } in placed {
        if SYSTEM.contains(&service.name.as_str()) {
            return fail(
                line,
                format!("key `name`: `{}` is one of the system's own", service.name),
            );
        }
        if let Some(program) = service.command.first()
            && !programs.contains(program)
        {
            let message = format!(
                "key `command`: this image has no {program}; build it by a [[program]] or ship it by a [[file]]"
            );
            return fail(line, message);
        }
    }
    Ok(())
}

/// The text of `services.toml`.
pub(crate) fn render(text: &str) -> String {
    let tables = tables(text);
    let kept = tables.trim();
    format!("# From the configuration that this image was built with.\n\n{kept}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "hostname = \"x\"\n\n[[service]]\nname = \"a\"\ncommand = [\"/user/a\"]\n[service.env]\nX = \"y\"\n\
                        [[file]]\npath = \"/etc/x\"\n\n[[service]]\nname = \"b\"\ncommand = [\"/user/b\"]\nwait-for = [\"service:dhcp\"]\n";

    fn programs() -> Vec<String> {
        ["/user/a", "/user/b"].map(str::to_owned).to_vec()
    }

    #[test]
    fn services_come_through_as_they_stand_and_nothing_else_does() {
        let text = render(TEXT);
        assert!(text.contains("[service.env]\nX = \"y\"\n"));
        assert!(text.contains("name = \"b\""));
        assert!(!text.contains("hostname") && !text.contains("/etc/x"));
        assert!(check(Path::new("x"), &text, &programs()).is_ok());
    }

    #[test]
    fn errors_name_the_line_of_the_file() {
        let check = |text: &str, want: &str, word: &str| {
            let error = check(Path::new("gokrazy.toml"), text, &programs())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(want) && error.contains(word), "{error}");
        };
        check(
            &TEXT.replace("wait-for", "wait-four"),
            "gokrazy.toml:14: ",
            "wait-four",
        );
        check(
            &TEXT.replace("service:dhcp", "service:nobody"),
            "gokrazy.toml:1",
            "nobody",
        );
        check(
            &TEXT.replace("/user/b", "/user/c"),
            "gokrazy.toml:11: ",
            "/user/c",
        );
        check(
            &TEXT.replace("\"b\"", "\"ntp\""),
            "gokrazy.toml:11: ",
            "system's own",
        );
    }
}
