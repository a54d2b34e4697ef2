//! Rules on single Rust files: documentation, names of test modules, purity, path literals, lints.

use std::path::Path;

use anyhow::Result;

use super::Breach;
use super::tree::{RustFile, Tree};

pub(super) fn module_docs(tree: &Tree) -> Result<Vec<Breach>> {
    Ok(tree
        .rust
        .iter()
        .filter(|file| file.source.module_doc.is_empty() && !file.is_test_module())
        .map(|file| {
            Breach::at(
                &file.path,
                1,
                "begin with `//!`: what lives here, and what does not",
            )
        })
        .collect())
}

pub(super) fn test_module_names(tree: &Tree) -> Result<Vec<Breach>> {
    let named_otherwise = |file: &RustFile| -> Vec<Breach> {
        let names = file.source.test_modules.iter();
        names
            .filter(|name| *name != "tests")
            .map(|name| {
                Breach::of_file(
                    &file.path,
                    format!("call the test module `tests`, not `{name}`"),
                )
            })
            .collect()
    };
    Ok(tree.rust.iter().flat_map(named_otherwise).collect())
}

/// What no pure module may name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "files are the shell's"),
    ("std::env", "the environment is an argument"),
    ("std::process", "processes are the shell's"),
    ("std::io::std", "the terminal is the shell's"),
    ("UdpSocket", "sockets are the shell's"),
    ("TcpStream", "sockets are the shell's"),
    ("UnixStream", "sockets are the shell's"),
    ("println!", "the log is the shell's"),
    ("tokio::", "a pure module waits for nothing"),
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("getrandom::", "chance is an argument"),
];

/// Crates of system calls: their types and constants are vocabulary, their functions are not.
const SYSTEM: [&str; 3] = ["nix::", "libc::", "gokrazy_sys::"];

/// Modules that must stay pure: each says so in its documentation, and the word cannot quietly go.
const PURE: &[&str] = &[
    "crates/gokrazy-core/src/addresses.rs",
    "crates/gokrazy-core/src/boot_info.rs",
    "crates/gokrazy-core/src/clock.rs",
    "crates/gokrazy-core/src/control.rs",
    "crates/gokrazy-core/src/keyvalue.rs",
    "crates/gokrazy-core/src/layout.rs",
    "crates/gokrazy-core/src/lease.rs",
    "crates/gokrazy-core/src/service_status.rs",
    "crates/gokrazy-core/src/slots.rs",
    "crates/gokrazy-core/src/users.rs",
];

fn says_pure(file: &RustFile) -> bool {
    file.source.module_doc.contains("; pure.")
}

pub(super) fn purity(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches: Vec<_> = PURE
        .iter()
        .map(Path::new)
        .filter(|path| {
            !tree
                .rust
                .iter()
                .any(|file| file.path == *path && says_pure(file))
        })
        .map(|path| {
            Breach::of_file(
                path,
                "must exist and say `; pure.` in its first documentation lines",
            )
        })
        .collect();
    breaches.extend(
        tree.production()
            .filter(|file| says_pure(file))
            .flat_map(impurities),
    );
    Ok(breaches)
}

fn impurities(file: &RustFile) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (index, line) in file.source.code.iter().enumerate() {
        let mut breach = |word: &str, why: &str| {
            let message = format!("a pure module must not name `{word}`: {why}");
            breaches.push(Breach::at(&file.path, index + 1, message));
        };
        for (word, why) in IMPURE.iter().filter(|(word, _)| line.contains(word)) {
            breach(word, why);
        }
        for name in SYSTEM.iter().filter(|name| names_a_function(line, name)) {
            breach(name, "system calls are the shell's");
        }
    }
    breaches
}

/// Whether `line` calls or imports a function of `krate`: the path's last word begins with a small letter.
fn names_a_function(line: &str, krate: &str) -> bool {
    line.split(krate).skip(1).any(|rest| {
        let path: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
            .collect();
        let behind = rest.get(path.len()..).unwrap_or_default();
        let last = path.rsplit("::").next().unwrap_or_default();
        let is_small = last.chars().next().is_some_and(|c| c.is_lowercase());
        is_small && (behind.starts_with('(') || behind.starts_with(';')) && !last.starts_with("c_")
    })
}

/// Where a well-known path begins.
const ROOTS: [&str; 6] = ["/run", "/perm", "/etc", "/dev", "/proc", "/sys"];

/// Files that may spell paths themselves, and why.
const SPELLING: &[(&str, &str)] = &[
    ("crates/gokrazy-core/src/paths.rs", "here they are spelled"),
    ("xtask/src/tidy/", "the rules talk about paths"),
    ("init/examples/", "an example is read alone"),
    ("xtask/src/vm/", "these are the build machine's"),
    (
        "xtask/src/test/",
        "tests say what they look for in their own words",
    ),
];

pub(super) fn path_literals(tree: &Tree) -> Result<Vec<Breach>> {
    let may_spell = |file: &RustFile| {
        SPELLING
            .iter()
            .any(|(path, _)| file.path.to_string_lossy().starts_with(path))
    };
    Ok(tree
        .production()
        .filter(|file| !may_spell(file))
        .flat_map(|file| {
            let literals = file.source.literals.iter();
            literals
                .filter(|literal| is_well_known(&literal.text))
                .map(|literal| {
                    let message = format!(
                        "spell `{}` once, in gokrazy_core::paths, and take it as an argument",
                        literal.text
                    );
                    Breach::at(&file.path, literal.line, message)
                })
        })
        .collect())
}

/// Whether `text` is such a path, and not a word like `/etcetera`.
fn is_well_known(text: &str) -> bool {
    ROOTS.iter().any(|root| {
        text.strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with("-"))
    })
}

/// The one package with a lint table of its own.
const UNSAFE_HOME: &str = "crates/gokrazy-sys/Cargo.toml";

pub(super) fn lints(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    if !tree
        .text("Cargo.toml")?
        .contains("unsafe_code = \"forbid\"")
    {
        breaches.push(Breach::of_file(
            Path::new("Cargo.toml"),
            "forbid unsafe_code in the workspace's lints",
        ));
    }
    let mut manifests: Vec<_> = tree
        .rust
        .iter()
        .map(|file| file.package().join("Cargo.toml"))
        .collect();
    manifests.dedup();
    for manifest in manifests {
        let text = tree.text(&manifest)?;
        let takes_the_table = text.contains("[lints]\nworkspace = true");
        if !takes_the_table && manifest != Path::new(UNSAFE_HOME) {
            breaches.push(Breach::of_file(
                &manifest,
                "say `[lints]` and `workspace = true`",
            ));
        }
    }
    Ok(breaches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::Source;

    fn file(text: &str) -> RustFile {
        RustFile {
            path: "a/src/b.rs".into(),
            source: Source::read(text),
        }
    }

    #[test]
    fn words_are_no_paths() {
        for (text, want) in [
            ("/run", true),
            ("/run/x", true),
            ("/dev/null", true),
            ("/runner", false),
            ("run/x", false),
            ("/", false),
        ] {
            assert_eq!(is_well_known(text), want, "{text}");
        }
    }

    #[test]
    fn types_and_constants_of_the_system_are_vocabulary_and_calls_are_not() {
        for (line, want) in [
            ("libc::RTM_NEWADDR", false),
            ("let a: libc::c_int = 1;", false),
            ("use gokrazy_sys::packet::Instruction;", false),
            ("use gokrazy_sys::packet;", true),
            ("libc::getpid()", true),
            ("nix::unistd::read(fd, buffer)", true),
        ] {
            let found = SYSTEM.iter().any(|name| names_a_function(line, name));
            assert_eq!(found, want, "{line}");
        }
    }

    #[test]
    fn a_clock_in_a_pure_module_is_found_and_in_its_comments_and_tests_is_not() {
        let clean = "//! Timers; pure.\n\n// Instant::now is the shell's.\n#[cfg(test)]\nmod tests {\n  fn a() { Instant::now(); }\n}\n";
        assert!(says_pure(&file(clean)));
        assert_eq!(impurities(&file(clean)), []);
        let breach = impurities(&file("//! Timers; pure.\nfn a() { Instant::now(); }\n"));
        assert_eq!(breach.len(), 1);
        assert!(
            breach[0]
                .to_string()
                .starts_with("a/src/b.rs:2: a pure module must not name `Instant::now`")
        );
    }
}
