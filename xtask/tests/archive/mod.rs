//! A package archive in a folder, and the real program set up from it: no network, and nothing of the host changes.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gokrazy_core::atomic::{self, Durability};

/// Programs that set-up unpacks, with their packages.
pub(crate) const UNPACKED: [(&str, &str); 5] = [
    ("qemu-system-arm", "qemu-system-aarch64"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("kea-dhcp4-server", "kea-dhcp4"),
    ("chrony", "chronyd"),
    ("kea-dhcp6-server", "kea-dhcp6"),
];

/// Packages of boards: name, architecture, further lines of its control file.
const OF_BOARDS: [(&str, &str, &str); 14] = [
    (
        "linux-image-arm64",
        "arm64",
        "Depends: linux-image-1-arm64\n",
    ),
    ("linux-image-1-arm64", "arm64", ""),
    (
        "linux-image-amd64",
        "amd64",
        "Depends: linux-image-1-amd64\n",
    ),
    // A kernel in parts, as newer releases have it.
    (
        "linux-image-1-amd64",
        "amd64",
        "Depends: linux-base-1-amd64, linux-binary-1-amd64, linux-modules-1-amd64\n",
    ),
    ("linux-base-1-amd64", "amd64", ""),
    ("linux-binary-1-amd64", "amd64", ""),
    ("linux-modules-1-amd64", "amd64", ""),
    ("busybox-static", "arm64", ""),
    ("busybox-static", "amd64", ""),
    ("systemd-boot-efi", "arm64", ""),
    ("systemd-boot-efi", "amd64", ""),
    ("raspi-firmware", "all", ""),
    ("ca-certificates", "all", ""),
    ("tzdata", "all", ""),
];

/// A time daemon that is installed, as far as apt is told.
const INSTALLED: &str = "Package: other-time-daemon\nStatus: install ok installed\nPriority: optional\n\
    Maintainer: x <x@example.org>\nArchitecture: all\nVersion: 1\nProvides: time-daemon\n\
    Conflicts: time-daemon\nDescription: x\n";

/// A folder with an archive, and a target folder that is empty at first.
pub(crate) struct Archive {
    /// All of it lies here.
    pub(crate) folder: PathBuf,
}

impl Archive {
    /// Makes the archive.
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).unwrap();
        let archive = Self { folder };
        for (package, architecture, more) in OF_BOARDS {
            archive.package(package, architecture, more, None);
        }
        for (package, program) in UNPACKED {
            let more = if package == "chrony" {
                "Provides: time-daemon\nConflicts: time-daemon\n"
            } else {
                ""
            };
            archive.package(package, "all", more, Some(program));
        }
        for architecture in ["arm64", "amd64"] {
            archive.put(
                &format!("dists/bookworm-backports/main/binary-{architecture}/Packages"),
                "",
            );
        }
        // Set-up asks for the release's backports too.
        archive.index("bookworm");
        archive.index("bookworm-backports");
        archive.put("status", INSTALLED);
        archive.put(
            "sources.list",
            &format!("deb [trusted=yes] {} bookworm main\n", archive.uri()),
        );
        let at = archive.folder.display();
        archive.put(
            "apt.conf",
            &format!(
                "Acquire::AllowInsecureRepositories \"true\";\nDir::State::status \"{at}/status\";\n\
                 Dir::State::lists \"{at}/lists\";\nDir::Etc::sourcelist \"{at}/sources.list\";\n\
                 Dir::Etc::sourceparts \"{at}/none\";\n"
            ),
        );
        archive
    }

    /// `cargo xtask setup` with `arguments`, for this archive and target folder; `before` runs in its mount namespace.
    pub(crate) fn setup(&self, before: &str, arguments: &[&str]) -> Output {
        // A program of the host that is to be missing is covered by something that is no file.
        let script = format!(
            "{before}\nfor program in {}; do for folder in bin sbin; do\n\
             file=/usr/$folder/$program; if [ -e $file ]; then mount --bind /dev/null $file; fi\ndone; done\n\
             exec \"$@\"",
            UNPACKED.map(|(_, program)| program).join(" ")
        );
        let path = std::env::var("PATH").unwrap();
        let path: Vec<&str> = path
            .split(':')
            .filter(|folder| !folder.ends_with("/setup/bin"))
            .collect();
        Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                &script,
                "sh",
            ])
            .arg(env!("CARGO_BIN_EXE_xtask"))
            .arg("setup")
            .args(arguments)
            .env(
                "PATH",
                format!("{}:{}", self.folder.join("bin").display(), path.join(":")),
            )
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("GOKRAZY_DEBIAN_MIRROR", self.uri())
            .env("CARGO_TARGET_DIR", self.target())
            .output()
            .unwrap()
    }

    /// The target folder.
    pub(crate) fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// A fetched package file.
    pub(crate) fn deb(&self, file: &str) -> PathBuf {
        self.target().join("packages/debs").join(file)
    }

    /// Takes the archive off the network, so to speak.
    pub(crate) fn unplug(&self) {
        for part in ["dists", "pool"] {
            fs::remove_dir_all(self.folder.join(part)).unwrap();
        }
    }

    /// Writes a file; an executable one.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        atomic::replace(&path, text.as_bytes(), 0o755, Durability::Volatile).unwrap();
        path
    }

    fn uri(&self) -> String {
        format!("file:{}", self.folder.display())
    }

    /// A package; one with a program prints its name and arguments.
    fn package(&self, name: &str, architecture: &str, more: &str, program: Option<&str>) {
        let control = format!(
            "Package: {name}\nVersion: 1\nArchitecture: {architecture}\nMaintainer: x <x@example.org>\n\
             {more}Description: x\n"
        );
        let tree = self.folder.join("build");
        self.put("build/DEBIAN/control", &control);
        self.put(&format!("build/usr/share/doc/{name}"), name);
        if let Some(program) = program {
            self.put(
                &format!("build/usr/sbin/{program}"),
                "#!/bin/sh\necho unpacked \"$@\"\n",
            );
        }
        let file = format!("pool/{name}_1_{architecture}.deb");
        fs::create_dir_all(self.folder.join("pool")).unwrap();
        let deb = self.folder.join(&file);
        run("dpkg-deb", &["--build", word(&tree), word(&deb)]);
        fs::remove_dir_all(tree).unwrap();
        let entry = format!(
            "{control}Filename: {file}\nSize: {}\nSHA256: {}\n\n",
            fs::metadata(&deb).unwrap().len(),
            hash(&deb)
        );
        let architectures = match architecture {
            "all" => vec!["arm64", "amd64"],
            one => vec![one],
        };
        for architecture in architectures {
            let name = format!("dists/bookworm/main/binary-{architecture}/Packages");
            let present = fs::read_to_string(self.folder.join(&name)).unwrap_or_default();
            self.put(&name, &format!("{present}{entry}"));
        }
    }

    fn index(&self, suite: &str) {
        let mut text = format!(
            "Suite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: arm64 amd64\n\
             Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
        );
        let folder = self.folder.join("dists").join(suite);
        for architecture in ["arm64", "amd64"] {
            let name = format!("main/binary-{architecture}/Packages");
            let path = folder.join(&name);
            let size = fs::metadata(&path).unwrap().len();
            let _ = writeln!(text, " {} {size} {name}", hash(&path));
        }
        self.put(&format!("dists/{suite}/Release"), &text);
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn hash(path: &Path) -> String {
    let said = run("sha256sum", &[word(path)]);
    said.split(' ').next().unwrap().to_owned()
}

/// Both outputs of a program.
pub(crate) fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}
