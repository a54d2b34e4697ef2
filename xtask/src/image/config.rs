//! `gokrazy.toml`: what the user says about an image; read and checked here, obeyed elsewhere.
//!
//! An error names file, line and key.
//! What cannot be known from the file alone (does the crate build? is there such a module?) is not asked here.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use gokrazy_core::paths;
use serde::Deserialize;
use toml::Spanned;

use super::Board;
use crate::build::SYSTEM;

/// A refused configuration.
#[derive(Debug)]
pub(crate) struct ConfigError {
    path: PathBuf,
    line: usize,
    message: String,
}

impl ConfigError {
    /// What is wrong in line `line`, from 1, of `path`.
    pub(super) fn new(path: &Path, line: usize, message: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The whole file. Paths are relative to the file's folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The device's name on the network; partitions' ids derive from it.
    #[serde(default = "default_hostname")]
    pub(crate) hostname: Spanned<String>,
    /// The kind of machine, if the command line does not say.
    pub(crate) board: Option<Board>,
    /// File whose first line is the web page's password.
    pub(crate) password_file: Option<PathBuf>,
    /// Value of the kernel's `console=`, as `ttyS1,115200`; `off` for none.
    pub(crate) serial_console: Option<Spanned<String>>,
    /// Further words for the kernel's command line.
    #[serde(default)]
    pub(crate) kernel_args: Vec<Spanned<String>>,
    /// Kernel modules beside the default ones.
    #[serde(default)]
    pub(crate) modules: Vec<Spanned<String>>,
    /// Whether the distribution's signatures on kernel modules stay on them.
    #[serde(default)]
    pub(crate) module_signatures: bool,
    /// Whether Enter on the console opens a shell, as root and without a password.
    #[serde(default)]
    pub(crate) emergency_shell: bool,
    /// Zone of local time, as `Europe/Zurich`.
    #[serde(default = "default_timezone")]
    pub(crate) timezone: Spanned<String>,
    /// Programs to build and ship.
    #[serde(default)]
    pub(crate) program: Vec<Spanned<Program>>,
    /// Further files of the root.
    #[serde(default)]
    pub(crate) file: Vec<Spanned<ExtraFile>>,
    /// Services beside the system's own; what is in them, `init`'s own rules judge ([`super::services`]).
    #[serde(default)]
    #[expect(dead_code, reason = "read so that the key is known")]
    service: Vec<toml::Table>,
    /// Further disks; judged by `init`'s rules too.
    #[serde(default)]
    #[expect(dead_code, reason = "read so that the key is known")]
    mount: Vec<toml::Table>,
}

/// A program of the user.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Program {
    /// Cargo's name of the package.
    pub(crate) package: String,
    /// Folder with its `Cargo.toml`; without it a package of this workspace.
    pub(crate) path: Option<PathBuf>,
    /// The binary, where the package has several.
    pub(crate) bin: Option<String>,
    /// Its name below `/user`; without it the binary's.
    pub(crate) name: Option<String>,
    /// Cargo features.
    #[serde(default)]
    pub(crate) features: Vec<String>,
}

impl Program {
    /// The binary's name.
    pub(crate) fn binary(&self) -> &str {
        self.bin.as_deref().unwrap_or(&self.package)
    }

    /// The file's name below `/user`.
    pub(crate) fn installed_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.binary())
    }
}

/// A further file of the root.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ExtraFile {
    /// Where it goes on the device.
    pub(crate) path: String,
    /// A file of this machine; either this or `content`.
    pub(crate) source: Option<PathBuf>,
    /// The text itself.
    pub(crate) content: Option<String>,
    /// Permission bits in octal.
    #[serde(default = "default_mode")]
    pub(crate) mode: String,
    /// Number of its user and group.
    #[serde(default)]
    pub(crate) owner: u32,
}

impl ExtraFile {
    /// The permission bits, once [`Config::parse`] has checked them.
    pub(crate) fn mode_bits(&self) -> u32 {
        u32::from_str_radix(&self.mode, 8).unwrap_or(0o644)
    }
}

/// The emergency shell's program below `/gokrazy`: Debian's BusyBox.
pub(crate) const SHELL_PROGRAM: &str = "busybox";

/// The name by which it is a shell.
pub(crate) const SHELL: &str = "sh";

fn default_hostname() -> Spanned<String> {
    Spanned::new(0..0, "gokrazy".to_owned())
}

fn default_timezone() -> Spanned<String> {
    Spanned::new(0..0, "Etc/UTC".to_owned())
}

fn default_mode() -> String {
    "0644".to_owned()
}

impl Config {
    /// Reads and checks `text`, which came from `path`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let fail = |at: usize, message: String| ConfigError {
            path: path.to_owned(),
            line: line_of(text, at),
            message,
        };
        let config: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            fail(at, error.message().replace('\n', " "))
        })?;
        match config.first_problem() {
            None => Ok(config),
            Some((at, message)) => Err(fail(at, message)),
        }
    }

    /// Paths on the device of all that a service can run.
    pub(crate) fn executables(&self) -> Vec<String> {
        let programs = self
            .program
            .iter()
            .map(|program| format!("{}/{}", paths::USER_BIN, program.get_ref().installed_name()));
        let system = SYSTEM
            .iter()
            .map(|(_, binary)| format!("{}/{binary}", paths::SYSTEM_BIN));
        let files = self.file.iter().map(|file| file.get_ref().path.clone());
        let shell = [SHELL, SHELL_PROGRAM]
            .into_iter()
            .filter(|_| self.emergency_shell)
            .map(|name| format!("{}/{name}", paths::SYSTEM_BIN));
        programs.chain(system).chain(files).chain(shell).collect()
    }

    fn first_problem(&self) -> Option<(usize, String)> {
        let words = [("hostname", &self.hostname, is_hostname as fn(&str) -> bool)]
            .into_iter()
            .chain([("timezone", &self.timezone, is_relative as fn(&str) -> bool)])
            .chain(
                self.kernel_args
                    .iter()
                    .map(|word| ("kernel-args", word, is_word as fn(&str) -> bool)),
            )
            .chain(
                self.modules
                    .iter()
                    .map(|word| ("modules", word, is_name as fn(&str) -> bool)),
            )
            .chain(
                self.serial_console
                    .iter()
                    .map(|word| ("serial-console", word, is_word as fn(&str) -> bool)),
            );
        for (key, word, holds) in words {
            if !holds(word.get_ref()) {
                return Some((
                    word.span().start,
                    format!("`{}` cannot be a `{key}`", word.get_ref()),
                ));
            }
        }
        self.program_problem().or_else(|| self.file_problem())
    }

    fn program_problem(&self) -> Option<(usize, String)> {
        let mut names: Vec<&str> = Vec::new();
        for program in &self.program {
            let name = program.get_ref().installed_name();
            if !is_name(name) {
                return Some((
                    program.span().start,
                    format!("`{name}` cannot be a program's `name`"),
                ));
            }
            if names.contains(&name) {
                return Some((
                    program.span().start,
                    format!("two programs are called `{name}`; give one a `name`"),
                ));
            }
            names.push(name);
        }
        None
    }

    fn file_problem(&self) -> Option<(usize, String)> {
        let mut paths: Vec<&str> = Vec::new();
        for spanned in &self.file {
            let file = spanned.get_ref();
            let problem = if !is_device_path(&file.path) {
                format!(
                    "`{}` cannot be a file's `path`: it must be absolute, plain, and not below /perm, /run, /tmp, /proc, /sys or /dev",
                    file.path
                )
            } else if file.source.is_some() == file.content.is_some() {
                format!("`{}` needs either a `source` or a `content`", file.path)
            } else if u32::from_str_radix(&file.mode, 8).map_or(true, |mode| mode > 0o7777) {
                format!("`{}` cannot be a `mode`; write it as \"0644\"", file.mode)
            } else if paths.contains(&file.path.as_str()) {
                format!("two files are called `{}`", file.path)
            } else {
                paths.push(&file.path);
                continue;
            };
            return Some((spanned.span().start, problem));
        }
        None
    }
}

/// The number of the line, from 1, that byte `at` of `text` is in.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// A label of a host name (RFC 1123 section 2.1).
fn is_hostname(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&word.len())
        && word.bytes().all(inner)
        && !word.starts_with('-')
        && !word.ends_with('-')
}

/// One word of the kernel's command line.
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_name(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    !word.is_empty() && !word.starts_with(['.', '-']) && word.bytes().all(plain)
}

fn is_relative(word: &str) -> bool {
    !word.is_empty()
        && Path::new(word)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

/// A place in the read-only root: not where something else is mounted at run time.
fn is_device_path(path: &str) -> bool {
    let Some(relative) = path.strip_prefix('/') else {
        return false;
    };
    let first = relative.split('/').next().unwrap_or_default();
    is_relative(relative)
        && relative.bytes().all(|byte| !byte.is_ascii_control())
        && !["perm", "run", "tmp", "proc", "sys", "dev", "var"].contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("gokrazy.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_a_complete_configuration() {
        let config = parse("").unwrap();
        assert_eq!(config.hostname.get_ref(), "gokrazy");
        assert!(config.program.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            "hostname = 'shop'\nboard = 'uefi-arm64'\npassword-file = 'pw'\nserial-console = 'off'\n\
             kernel-args = ['quiet']\nmodules = ['i2c-dev']\ntimezone = 'Europe/Zurich'\n\
             [[program]]\npackage = 'shop'\npath = '../shop'\nbin = 'web'\nname = 'web-shop'\nfeatures = ['a']\n\
             [[file]]\npath = '/etc/shop'\ncontent = 'x'\nmode = '0640'\nowner = 7\n\
             [[service]]\nname = 'web-shop'\n",
        )
        .unwrap();
        assert_eq!(config.board, Some(Board::UefiArm64));
        assert_eq!(config.program[0].get_ref().installed_name(), "web-shop");
        assert_eq!(config.file[0].get_ref().mode_bits(), 0o640);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let check = |text: &str, line: usize, word: &str| {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(&format!("gokrazy.toml:{line}: ")),
                "{error}"
            );
            assert!(error.contains(word), "{error}");
        };
        check("hostname = 'a'\nhostnme = 'b'\n", 2, "hostnme");
        check(
            "\n[[program]]\npackage = 'x'\nfeature = 'y'\n",
            4,
            "feature",
        );
        check("[[program]]\nname = 'x'\n", 1, "package");
        check("hostname = 'under_score'\n", 1, "under_score");
        check("hostname = 7\n", 1, "string");
        check("board = 'pi5'\n", 1, "pi5");
        check("kernel-args = ['a b']\n", 1, "a b");
        check("modules = [\n'../x']\n", 2, "../x");
        check(
            "[[program]]\npackage = 'x'\n[[program]]\npackage = 'x'\n",
            3,
            "two programs",
        );
        check("[[file]]\npath = '/perm/x'\ncontent = ''\n", 1, "/perm/x");
        check(
            "[[file]]\npath = '/etc/../x'\ncontent = ''\n",
            1,
            "/etc/../x",
        );
        check("[[file]]\npath = '/etc/x'\n", 1, "either");
        check(
            "[[file]]\npath = '/etc/x'\ncontent = ''\nmode = '888'\n",
            1,
            "888",
        );
        check("x = [", 1, "");
    }
}
