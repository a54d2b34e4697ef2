//! The root file system and the initramfs as trees.
//!
//! The paths are gokrazy's where it has them, so that its programs find what they look for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gokrazy_core::{paths, users};

use super::config::{Config, ExtraFile, SHELL, SHELL_PROGRAM};
use super::services;
use super::tree::{Content, Tree};
use crate::build;

/// Places where something is mounted or written at run time, and `/boot` for whoever looks at the boot partition.
const FOLDERS: [&str; 13] = [
    "bin", "boot", "dev", "etc", "gokrazy", "lib", "mnt", "perm", "proc", "run", "sys", "tmp",
    "user",
];

/// What a root is made of.
#[derive(Debug)]
pub(crate) struct Ingredients<'build> {
    /// The configuration.
    pub(crate) config: &'build Config,
    /// Where its relative paths start.
    pub(crate) folder: &'build Path,
    /// The programs.
    pub(crate) programs: &'build [build::Built],
    /// Kernel release, and its modules with their index files, by path below `lib/modules/<release>`.
    pub(crate) modules: (&'build str, Vec<(String, PathBuf)>),
    /// Names of modules that are loaded whatever devices there are.
    pub(crate) load_order: String,
    /// The web page's password, hashed.
    pub(crate) password_hash: String,
    /// Unpacked package `ca-certificates`.
    pub(crate) certificates: PathBuf,
    /// Unpacked package `tzdata`.
    pub(crate) zones: PathBuf,
    /// Text of `services.toml`.
    pub(crate) services: String,
    /// Unpacked package `busybox-static`, if there is to be an emergency shell.
    pub(crate) shell: Option<PathBuf>,
}

/// The root, but for what only its hash can tell ([`add_build_id`]).
///
/// # Errors
/// A file that is missing, or two that want the same place.
pub(crate) fn plan(from: &Ingredients<'_>) -> Result<Tree> {
    let mut tree = Tree::default();
    for folder in FOLDERS {
        tree.folder(folder)?;
    }
    // Those below /perm are made there, when it is mounted.
    for target in services::targets(&from.services) {
        if target.starts_with("/mnt") {
            tree.folder(inside(&target.to_string_lossy()))?;
        }
    }
    tree.link("var", paths::PERM_VAR)?;
    for program in from.programs {
        let folder = match program.kind {
            build::Kind::System => paths::SYSTEM_BIN,
            build::Kind::User => paths::USER_BIN,
        };
        tree.file(
            &format!("{}/{}", inside(folder), program.name),
            program.path.as_path(),
            0o755,
            0,
        )?;
    }
    add_modules(&mut tree, from.modules.0, &from.modules.1)?;
    add_etc(&mut tree, from)?;
    add_own(&mut tree, from)?;
    if let Some(package) = &from.shell {
        add_shell(&mut tree, package)?;
    }
    for file in &from.config.file {
        add_extra(&mut tree, file.get_ref(), from.folder)?;
    }
    Ok(tree)
}

/// Adds the id of the whole, which is known last.
///
/// # Errors
/// An extra file stands in its place.
pub(crate) fn add_build_id(tree: &mut Tree, build_id: &str) -> Result<()> {
    tree.file(inside(paths::BUILD_ID), format!("{build_id}\n"), 0o444, 0)
}

/// The initramfs: stage 1, and the modules that reach the root.
///
/// # Errors
/// `programs` has no `init`.
pub(crate) fn initramfs(
    programs: &[build::Built],
    release: &str,
    modules: &[(String, PathBuf)],
    load_order: String,
) -> Result<Tree> {
    let init = programs
        .iter()
        .find(|program| program.kind == build::Kind::System && program.name == "init")
        .context("find init among the programs")?;
    let mut tree = Tree::default();
    for folder in ["dev", "newroot", "proc", "run", "sys"] {
        tree.folder(folder)?;
    }
    tree.file("init", init.path.as_path(), 0o755, 0)?;
    tree.file(inside(paths::MODULE_LIST), load_order, 0o444, 0)?;
    add_modules(&mut tree, release, modules)?;
    Ok(tree)
}

/// A path of the device as one inside a tree.
fn inside(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Modules and their index files, where every system has them.
///
/// # Errors
/// A path that the tree cannot take.
pub(crate) fn add_modules(
    tree: &mut Tree,
    release: &str,
    modules: &[(String, PathBuf)],
) -> Result<()> {
    for (name, path) in modules {
        tree.file(
            &format!("lib/modules/{release}/{name}"),
            path.as_path(),
            0o444,
            0,
        )?;
    }
    Ok(())
}

/// What programs of any Linux look for.
fn add_etc(tree: &mut Tree, from: &Ingredients<'_>) -> Result<()> {
    let hostname = from.config.hostname.get_ref();
    tree.file(
        inside(paths::ETC_HOSTNAME),
        format!("{hostname}\n"),
        0o444,
        0,
    )?;
    tree.file(
        "etc/hosts",
        format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n"),
        0o444,
        0,
    )?;
    tree.file("etc/passwd", passwd(), 0o444, 0)?;
    tree.file("etc/group", group(), 0o444, 0)?;
    tree.file(inside(paths::OS_RELEASE), os_release(), 0o444, 0)?;
    // dhcp writes below /run; gokrazy's programs know the file in /tmp.
    tree.link("etc/resolv.conf", "/tmp/resolv.conf")?;
    tree.file(
        "etc/localtime",
        zone(&from.zones, from.config.timezone.get_ref())?,
        0o444,
        0,
    )?;
    tree.file(
        "etc/ssl/certs/ca-certificates.crt",
        certificates(&from.certificates)?,
        0o444,
        0,
    )?;
    tree.link("etc/ssl/ca-bundle.pem", "certs/ca-certificates.crt")
}

/// What only our own programs look for.
fn add_own(tree: &mut Tree, from: &Ingredients<'_>) -> Result<()> {
    tree.file(
        inside(paths::SERVICES_TOML),
        from.services.clone(),
        0o444,
        0,
    )?;
    tree.file(
        inside(paths::MODULE_LIST),
        from.load_order.clone(),
        0o444,
        0,
    )?;
    let password = format!("{}\n", from.password_hash);
    tree.file(inside(paths::WEB_PASSWORD), password, 0o400, users::WEB.id)
}

fn add_shell(tree: &mut Tree, package: &Path) -> Result<()> {
    // Where Debian 12 has it, and where later ones do.
    let program = ["bin/busybox", "usr/bin/busybox"]
        .map(|place| package.join(place))
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("find busybox in {}", package.display()))?;
    let folder = inside(paths::SYSTEM_BIN);
    tree.file(
        &format!("{folder}/{SHELL_PROGRAM}"),
        program.as_path(),
        0o755,
        0,
    )?;
    tree.link(&format!("{folder}/{SHELL}"), SHELL_PROGRAM)?;
    let name = format!("{}/{SHELL}\n", paths::SYSTEM_BIN);
    tree.file(inside(paths::EMERGENCY_SHELL), name, 0o444, 0)
}

fn add_extra(tree: &mut Tree, file: &ExtraFile, folder: &Path) -> Result<()> {
    let content = match (&file.source, &file.content) {
        (Some(source), _) => {
            let path = folder.join(source);
            if !path.is_file() {
                bail!(
                    "file {}: its source {} is not a file",
                    file.path,
                    path.display()
                );
            }
            Content::File(path)
        }
        (None, text) => Content::from(text.clone().unwrap_or_default()),
    };
    tree.file(inside(&file.path), content, file.mode_bits(), file.owner)
}

fn passwd() -> String {
    let mut text = "root:x:0:0:root:/perm/home:/bin/sh\n".to_owned();
    for user in users::ALL {
        text.push_str(&format!(
            "{0}:x:{1}:{1}:{0}:/perm:/bin/false\n",
            user.name, user.id
        ));
    }
    text + "nobody:x:65534:65534:nobody:/:/bin/false\n"
}

fn group() -> String {
    let mut text = "root:x:0:\n".to_owned();
    let publishers = [users::DHCP.name, users::NTP.name].join(",");
    text.push_str(&format!(
        "publishers:x:{}:{publishers}\n",
        users::PUBLISHERS
    ));
    for user in users::ALL {
        text.push_str(&format!("{}:x:{}:\n", user.name, user.id));
    }
    text + "nogroup:x:65534:\n"
}

fn os_release() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "NAME=gokrazy-rs\nID=gokrazy-rs\nVERSION_ID={version}\nPRETTY_NAME=\"gokrazy-rs {version}\"\n"
    )
}

fn zone(package: &Path, name: &str) -> Result<Content> {
    let path = package.join("usr/share/zoneinfo").join(name);
    let bytes =
        fs::read(&path).with_context(|| format!("read the zone of `timezone = \"{name}\"`"))?;
    if !bytes.starts_with(b"TZif") {
        bail!("`timezone = \"{name}\"` is not a time zone");
    }
    Ok(Content::Bytes(bytes))
}

/// Mozilla's certificates in one file, in the order of their names.
fn certificates(package: &Path) -> Result<Content> {
    let folder = package.join("usr/share/ca-certificates/mozilla");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("list {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut bundle = String::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        bundle.push_str(text.trim_end());
        bundle.push('\n');
    }
    if !bundle.contains("BEGIN CERTIFICATE") {
        bail!("there is no certificate in {}", folder.display());
    }
    Ok(Content::from(bundle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_users_have_names() {
        assert!(passwd().contains("web:x:902:902:web:"));
        assert!(group().contains("web:x:902:\n"));
        assert!(group().contains("publishers:x:900:dhcp,ntp\n"));
    }

    #[test]
    fn the_initramfs_has_stage_1_and_the_places_it_mounts() {
        let init = build::Built {
            kind: build::Kind::System,
            name: "init".to_owned(),
            path: PathBuf::from("x/init"),
            size: 1,
        };
        let tree = initramfs(&[init], "6.1", &[], "squashfs\n".to_owned()).unwrap();
        let printed = format!("{tree:?}");
        for path in [
            "\"init\"",
            "\"newroot\"",
            "\"etc/gokrazy/modules\"",
            "\"dev\"",
        ] {
            assert!(printed.contains(path), "{path}");
        }
        assert!(initramfs(&[], "6.1", &[], String::new()).is_err());
    }
}
