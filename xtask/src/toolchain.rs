//! How programs for a device are compiled and linked: static, against musl.
//!
//! Two ways, tried in this order:
//! 1. rustup's own standard library for the target, linked by the `rust-lld` that comes with the toolchain;
//! 2. where rustup is absent or cannot reach its server, Debian's compiler (`rustc-web`), which builds the standard
//!    library from source, linked by zig from a private Python environment below `target/`.
//!
//! Which files these ways need is known here; [`crate::setup`] gets them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::linker;
use crate::process;
use crate::workspace::Workspace;

/// Debian's compiler, never a rustup proxy that happens to come first in `PATH`.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What the private Python environment holds, pinned so that a build of today is one of tomorrow.
pub(crate) const PYTHON_PACKAGES: [&str; 2] = ["ziglang==0.16.0", "cargo-zigbuild==0.24.0"];

/// A processor that images are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Architecture {
    /// 64-bit ARM: every Raspberry Pi from Zero 2 W and 3 on, virtual machines.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl Architecture {
    /// Rust's name of the target.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Arm64 => "aarch64-unknown-linux-musl",
            Self::Amd64 => "x86_64-unknown-linux-musl",
        }
    }

    /// Debian's name.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::Amd64 => "amd64",
        }
    }
}

/// A way to compile for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Toolchain {
    /// rustup's target.
    Rustup,
    /// Debian's compiler and a standard library from source.
    FromSource,
}

impl Toolchain {
    /// The word in the stamp and on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::FromSource => "from-source",
        }
    }

    /// Whether all that this way needs for `architecture` is on this machine.
    pub(crate) fn is_ready(self, workspace: &Workspace, architecture: Architecture) -> bool {
        match self {
            Self::Rustup => rustup_has(workspace, architecture),
            Self::FromSource => {
                Path::new(DEBIAN_CARGO).exists()
                    && Path::new(DEBIAN_RUSTC).exists()
                    && debian_library_source().is_dir()
                    && python_environment(workspace)
                        .join("bin/cargo-zigbuild")
                        .exists()
            }
        }
    }

    /// `cargo build --release` for `architecture`, to be completed with what to build of this workspace.
    ///
    /// # Errors
    /// The linker could not be made ready, or `SOURCE_DATE_EPOCH` is not a number.
    pub(crate) fn cargo_build(
        self,
        workspace: &Workspace,
        architecture: Architecture,
    ) -> Result<Command> {
        self.cargo_build_into(workspace, architecture, &self.target_folder(workspace))
    }

    /// The same for the crate that becomes the user's program `name`, wherever it lies.
    ///
    /// # Errors
    /// As [`Self::cargo_build`].
    pub(crate) fn cargo_build_for(
        self,
        workspace: &Workspace,
        architecture: Architecture,
        name: &str,
    ) -> Result<Command> {
        self.cargo_build_into(workspace, architecture, &self.folder_for(workspace, name))
    }

    fn cargo_build_into(
        self,
        workspace: &Workspace,
        architecture: Architecture,
        folder: &Path,
    ) -> Result<Command> {
        let mut command = match self {
            Self::Rustup => rustup_build(workspace, architecture)?,
            Self::FromSource => from_source_build(workspace),
        };
        let mut rustflags = remapped_paths(workspace);
        // Pieces of code that several functions share, each called: a twentieth smaller, and an eighth more
        // blocks for an emulator to translate on the way to the page.
        rustflags.push("-Cllvm-args=-enable-machine-outliner=never".to_owned());
        if self == Self::FromSource {
            // zig brings its own C runtime; Rust's copy beside it defines the start code twice.
            rustflags.push("-Clink-self-contained=no".to_owned());
        }
        command
            .current_dir(workspace.root())
            .args([
                "--release",
                "--target",
                architecture.triple(),
                "--target-dir",
            ])
            .arg(folder)
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"))
            // The build's time, before which no device's clock starts.
            .env("SOURCE_DATE_EPOCH", workspace.source_date()?.to_string())
            .env_remove("RUSTFLAGS");
        // What `cargo run` set for us is not for the programs that we build.
        for inherited in [
            "LD_LIBRARY_PATH",
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
        ] {
            command.env_remove(inherited);
        }
        Ok(command)
    }

    /// Where the programs that [`Self::cargo_build`] made lie.
    pub(crate) fn output_folder(
        self,
        workspace: &Workspace,
        architecture: Architecture,
    ) -> PathBuf {
        self.target_folder(workspace)
            .join(architecture.triple())
            .join("release")
    }

    /// Where the program that [`Self::cargo_build_for`] made lies.
    pub(crate) fn output_folder_for(
        self,
        workspace: &Workspace,
        architecture: Architecture,
        name: &str,
    ) -> PathBuf {
        self.folder_for(workspace, name)
            .join(architecture.triple())
            .join("release")
    }

    /// A folder for each program from elsewhere: its binary may be called as one of ours, or as another program's.
    fn folder_for(self, workspace: &Workspace, name: &str) -> PathBuf {
        let folder = format!("{}-programs", self.word());
        workspace.target().join("device").join(folder).join(name)
    }

    /// A folder for each way, since the compilers' intermediate files do not mix.
    fn target_folder(self, workspace: &Workspace) -> PathBuf {
        workspace.target().join("device").join(self.word())
    }
}

/// The private Python environment.
pub(crate) fn python_environment(workspace: &Workspace) -> PathBuf {
    workspace.target().join("setup/python")
}

fn rustup_build(workspace: &Workspace, architecture: Architecture) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let variable = architecture.triple().to_uppercase().replace('-', "_");
    let linker = linker::ensure(workspace.target())?;
    command
        .arg("build")
        .env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
    Ok(command)
}

fn from_source_build(workspace: &Workspace) -> Command {
    let environment = python_environment(workspace);
    let cache = workspace.target().join("setup/zig-cache");
    let mut path = environment.join("bin").into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut command = Command::new(DEBIAN_CARGO);
    command
        .args(["zigbuild", "-Zbuild-std=std,panic_abort"])
        .env("PATH", path)
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ZIGBUILD_CACHE_DIR", &cache)
        .env("ZIG_GLOBAL_CACHE_DIR", &cache)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO");
    command
}

/// No path of this machine gets into a program: they would differ between machines, and tell whose it was.
fn remapped_paths(workspace: &Workspace) -> Vec<String> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let mut pairs = vec![
        (workspace.root().to_owned(), "/src"),
        (workspace.target().to_owned(), "/src/target"),
    ];
    pairs.extend(cargo_home.map(|folder| (folder, "/cargo")));
    pairs
        .into_iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect()
}

/// Whether the toolchain in use has the standard library for `architecture`.
fn rustup_has(workspace: &Workspace, architecture: Architecture) -> bool {
    let mut command = Command::new("rustc");
    command
        .args(["--print", "sysroot"])
        .current_dir(workspace.root());
    let Ok(output) = process::capture(&mut command) else {
        return false;
    };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    sysroot
        .join("lib/rustlib")
        .join(architecture.triple())
        .join("lib/self-contained/libc.a")
        .exists()
}

fn debian_library_source() -> &'static Path {
    Path::new("/usr/lib/rustlib/src/rust/library")
}
