//! `services.toml` of the device: the `[[service]]` and `[[mount]]` tables of the configuration as they stand; pure.

use std::path::{Path, PathBuf};

use gokrazy_core::paths;
use gokrazy_init::service::chunks::{Chunk, chunks};
use gokrazy_init::service::condition::Condition;
use gokrazy_init::service::table::{self, Located, Parsed, Placed, PlacedMount};

use super::config::ConfigError;

/// Services of the system's own, which others may wait for.
pub(crate) const SYSTEM: [&str; 5] = ["logd", "web", "dhcp", "ntp", "randomd"];

/// The tables of services and mounts in `text`, every other line blank: line numbers are still those of the file.
fn tables(text: &str) -> String {
    let keep = |chunk: &Chunk<'_>| match chunk.is_ours() {
        true => chunk.text.to_owned(),
        false => "\n".repeat(chunk.text.matches('\n').count()),
    };
    chunks(text).iter().map(keep).collect()
}

/// Where disks are mounted.
pub(crate) fn targets(text: &str) -> Vec<PathBuf> {
    let mounts = table::parse(&tables(text)).mounts;
    mounts
        .into_iter()
        .map(|placed| placed.mount.target)
        .collect()
}

/// Checks the services of `text`, which came from `path`, in an image that has `programs` (their paths on the device).
///
/// # Errors
/// The first thing that is wrong with one, with its line.
pub(crate) fn check(path: &Path, text: &str, programs: &[String]) -> Result<(), ConfigError> {
    let tables = tables(text);
    let fail = |line: usize, message: String| Err(ConfigError::new(path, line, message));
    if let Err(errors) = table::check_services(&tables, &SYSTEM)
        && let Some(first) = most_telling(&errors)
    {
        return fail(first.line, first.message.clone());
    }
    let parsed = table::parse(&tables);
    if let Some((line, message)) = mount_problem(&parsed) {
        return fail(line, message);
    }
    for Placed { line, service } in parsed.services {
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

/// The first error; before it a key that nobody knows, for it is likely the missing one, misspelled.
fn most_telling(errors: &[Located]) -> Option<&Located> {
    let unknown = |error: &&Located| error.message.starts_with("unknown field");
    errors.iter().find(unknown).or(errors.first())
}

/// The root cannot be written, so there is no place for a mount point but those that are made for it; and what nobody
/// mounts is waited for in vain.
fn mount_problem(parsed: &Parsed) -> Option<(usize, String)> {
    let is_placed = |target: &Path| target.starts_with("/mnt") || target.starts_with(paths::PERM);
    let lost = parsed
        .mounts
        .iter()
        .find(|placed| !is_placed(&placed.mount.target));
    if let Some(PlacedMount { line, mount }) = lost {
        let target = mount.target.display();
        return Some((
            *line,
            format!("key `target`: {target} is neither below /mnt nor below /perm"),
        ));
    }
    let is_mounted = |path: &Path| {
        path == Path::new(paths::PERM)
            || parsed
                .mounts
                .iter()
                .any(|placed| placed.mount.target == path)
    };
    parsed.services.iter().find_map(|placed| {
        let conditions = placed.service.wait_for.iter();
        let vain = conditions.filter_map(|condition| match condition {
            Condition::Mount(path) if !is_mounted(path) => Some(path),
            _ => None,
        });
        vain.map(|path| {
            let message = format!(
                "key `wait-for`: no [[mount]] has the target {}",
                path.display()
            );
            (placed.line, message)
        })
        .next()
    })
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
                        [[file]]\npath = \"/etc/x\"\n\n[[mount]]\nsource = \"LABEL=x\"\ntarget = \"/mnt/x\"\n[[service]]\nname = \"b\"\ncommand = [\"/user/b\"]\nwait-for = [\"service:dhcp\", \"mount:/mnt/x\"]\n";

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
    fn a_script_in_a_service_comes_through() {
        let script = "[[service]]\nname = 'a'\ncommand = ['/user/a', '''\n[ -f /x ] && y\n''']\n";
        assert!(render(script).contains(script.trim()));
        assert_eq!(targets(TEXT), [PathBuf::from("/mnt/x")]);
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
            "gokrazy.toml:17: ",
            "wait-four",
        );
        check(
            &TEXT.replace("service:dhcp", "service:nobody"),
            "gokrazy.toml:1",
            "nobody",
        );
        check(
            &TEXT.replace("/user/b", "/user/c"),
            "gokrazy.toml:14: ",
            "/user/c",
        );
        check(
            &TEXT.replace("mount:/mnt/x", "mount:/mnt/y"),
            "gokrazy.toml:14: ",
            "/mnt/y",
        );
        check(
            &TEXT.replace("\"/mnt/x\"", "\"/data\""),
            "gokrazy.toml:11: ",
            "/data",
        );
        check(
            &TEXT.replace("source =", "disk ="),
            "gokrazy.toml:12: ",
            "disk",
        );
        check(
            &TEXT.replace("\"b\"", "\"ntp\""),
            "gokrazy.toml:14: ",
            "system's own",
        );
    }
}
