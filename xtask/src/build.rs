//! `cargo xtask build`: the programs of an image, static and stripped, for a device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::image::config::{Config, Program};
use crate::out::say;
use crate::process;
use crate::setup;
use crate::toolchain::{Architecture, Toolchain};
use crate::workspace::Workspace;

/// The system's own programs: package and binary.
pub(crate) const SYSTEM: [(&str, &str); 6] = [
    ("gokrazy-init", "init"),
    ("gokrazy-init", "logd"),
    ("gokrazy-init", "web"),
    ("gokrazy-dhcp", "dhcp"),
    ("gokrazy-ntp", "ntp"),
    ("gokrazy-randomd", "randomd"),
];

/// What `build` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Processor to build for.
    #[arg(long, value_enum, default_value = "arm64")]
    target: Architecture,
    /// Configuration that names further programs; without it `gokrazy.toml` of the workspace.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A program that was built.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// Whether it is ours or the user's.
    pub(crate) kind: Kind,
    /// The file's name on the device.
    pub(crate) name: String,
    /// The file on this machine.
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
}

/// Whose program it is, and so in which folder it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/gokrazy`.
    System,
    /// `/user`.
    User,
}

/// Builds the system's programs and those that the configuration names, and lists them.
///
/// # Errors
/// What the compiler said.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let config = crate::image::load_config(workspace, arguments.config.as_deref())?;
    let built = programs(workspace, arguments.target, &config.config, &config.folder)?;
    for program in &built {
        say!("{:>9}  {}", program.size, program.path.display());
    }
    say!("{:>9}  the system's programs together", system_size(&built));
    Ok(())
}

/// Builds all programs of an image; paths of the configuration start at `folder`.
///
/// # Errors
/// What is missing for a build, what the compiler said, or the program that it did not make.
pub(crate) fn programs(
    workspace: &Workspace,
    architecture: Architecture,
    config: &Config,
    folder: &Path,
) -> Result<Vec<Built>> {
    let toolchain = setup::ensure_toolchain(workspace, architecture)?;
    let users: Vec<&Program> = config.program.iter().map(toml::Spanned::get_ref).collect();
    build_workspace(workspace, toolchain, architecture, &users)?;
    for program in users.iter().filter(|program| program.path.is_some()) {
        build_elsewhere(workspace, toolchain, architecture, program, folder)?;
    }
    let folder_of = |name: Option<&str>| match name {
        None => toolchain.output_folder(workspace, architecture),
        Some(name) => toolchain.output_folder_for(workspace, architecture, name),
    };
    places(&users, folder_of)
        .into_iter()
        .map(|(kind, name, path)| describe(kind, name, &path))
        .collect()
}

/// Kind, name on the device and file of each program; `folder_of` tells where this workspace's programs lie, and where
/// the one of the user's that comes from elsewhere and gets this name; pure.
fn places<'config>(
    users: &[&'config Program],
    folder_of: impl Fn(Option<&str>) -> PathBuf,
) -> Vec<(Kind, &'config str, PathBuf)> {
    let system = SYSTEM
        .iter()
        .map(|(_, binary)| (Kind::System, *binary, folder_of(None).join(binary)));
    let user = users.iter().map(|program| {
        let name = program.installed_name();
        let elsewhere = program.path.as_ref().map(|_| name);
        (
            Kind::User,
            name,
            folder_of(elsewhere).join(program.binary()),
        )
    });
    system.chain(user).collect()
}

/// Bytes of the system's programs together.
pub(crate) fn system_size(built: &[Built]) -> u64 {
    built
        .iter()
        .filter(|program| program.kind == Kind::System)
        .map(|program| program.size)
        .sum()
}

/// One cargo call for all packages of this workspace; dependencies are shared.
fn build_workspace(
    workspace: &Workspace,
    toolchain: Toolchain,
    architecture: Architecture,
    users: &[&Program],
) -> Result<()> {
    let mut packages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (package, binary) in SYSTEM {
        packages.entry(package).or_default().push(binary);
    }
    let mut command = toolchain.cargo_build(workspace, architecture)?;
    for program in users.iter().filter(|program| program.path.is_none()) {
        packages
            .entry(&program.package)
            .or_default()
            .push(program.binary());
        for feature in &program.features {
            command
                .arg("--features")
                .arg(format!("{}/{feature}", program.package));
        }
    }
    for (package, binaries) in packages {
        command.args(["--package", package]);
        for binary in binaries {
            command.args(["--bin", binary]);
        }
    }
    compile(&mut command)
}

/// A crate of the user's own, with its own lock file and profiles.
fn build_elsewhere(
    workspace: &Workspace,
    toolchain: Toolchain,
    architecture: Architecture,
    program: &Program,
    folder: &Path,
) -> Result<()> {
    let home = folder.join(program.path.as_deref().unwrap_or(Path::new("")));
    let manifest = home.join("Cargo.toml");
    if !manifest.exists() {
        bail!(
            "program `{}`: there is no {}",
            program.package,
            manifest.display()
        );
    }
    let name = program.installed_name();
    let mut command = toolchain.cargo_build_for(workspace, architecture, name)?;
    command
        .arg("--manifest-path")
        .arg(&manifest)
        .args(["--package", &program.package, "--bin", program.binary()])
        .env("CARGO_PROFILE_RELEASE_STRIP", "true");
    for feature in &program.features {
        command.args(["--features", feature]);
    }
    compile(&mut command)
}

fn compile(command: &mut Command) -> Result<()> {
    process::show(command)
}

fn describe(kind: Kind, name: &str, path: &Path) -> Result<Built> {
    let metadata = path
        .metadata()
        .with_context(|| format!("look at the built program {}", path.display()))?;
    Ok(Built {
        kind,
        name: name.to_owned(),
        path: path.to_owned(),
        size: metadata.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_from_elsewhere_takes_no_other_s_place() {
        let program = |text: &str| toml::from_str::<Program>(text).unwrap();
        let users = [
            program("package = 'shop'\npath = '../shop'\nbin = 'web'\nname = 'web-shop'\n"),
            program("package = 'till'\npath = '../till'\nbin = 'web'\nname = 'web-till'\n"),
            program("package = 'hello'\n"),
        ];
        let users: Vec<&Program> = users.iter().collect();
        let found = places(&users, |name| {
            name.map_or(PathBuf::from("ours"), |name| Path::new("theirs").join(name))
        });
        let path_of = |name: &str| {
            let of_name = |(_, found, _): &&(Kind, &str, PathBuf)| *found == name;
            found.iter().find(of_name).unwrap().2.clone()
        };
        assert_eq!(path_of("web"), Path::new("ours/web"));
        assert_eq!(path_of("web-shop"), Path::new("theirs/web-shop/web"));
        assert_eq!(path_of("web-till"), Path::new("theirs/web-till/web"));
        assert_eq!(path_of("hello"), Path::new("ours/hello"));
    }
}
