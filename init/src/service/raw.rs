//! `[[service]]` and `[[mount]]` tables as serde reads them, and what they mean; pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::condition::Condition;
use super::{Isolation, Limits, LogLimits, ProcessLimits, Restart, Role, Service, Start, User};
use super::{capabilities, is_name, signals, values};
use crate::mount::{self, Mount, Source};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) service: Vec<Raw>,
    #[serde(default)]
    pub(super) mount: Vec<RawMount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawMount {
    source: DiskName,
    target: Target,
    r#type: Option<Kind>,
    options: Option<MountOptions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Raw {
    name: Name,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    start: Option<RawStart>,
    #[serde(default)]
    wait_for: Vec<Wait>,
    restart: Option<RawRestart>,
    restart_delay: Option<Pause>,
    restart_delay_max: Option<Pause>,
    start_timeout: Option<Pause>,
    stop_signal: Option<SignalName>,
    stop_timeout: Option<Pause>,
    #[serde(default)]
    notify: bool,
    watchdog: Option<Pause>,
    #[serde(default)]
    critical: bool,
    user: Option<RawUser>,
    #[serde(default)]
    groups: Vec<u32>,
    #[serde(default)]
    capabilities: Vec<CapabilityName>,
    #[serde(default)]
    writable: Vec<AbsolutePath>,
    working_directory: Option<AbsolutePath>,
    memory_max: Option<Size>,
    cpu_max: Option<Share>,
    tasks_max: Option<std::num::NonZeroU32>,
    open_files_max: Option<std::num::NonZeroU32>,
    core_max: Option<Size>,
    log_max: Option<Size>,
    log_persist: Option<Size>,
    no_new_privileges: Option<bool>,
    private_tmp: Option<bool>,
    read_only: Option<bool>,
    seccomp: Option<bool>,
    landlock: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawStart {
    Boot,
    Manual,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawRestart {
    OnFailure,
    Always,
    Never,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "\"auto\", \"root\", a user's name or a number is expected"
)]
enum RawUser {
    Id(u32),
    Name(String),
}

/// Defines a type that serde reads from a string by a function, so that its error has the string's place.
macro_rules! from_string {
    ($name:ident, $inner:ty, $parse:expr) => {
        #[derive(Deserialize)]
        #[serde(try_from = "String")]
        struct $name($inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(&text).map($name)
            }
        }
    };
}

from_string!(DiskName, Source, |text| text.parse());
from_string!(Target, PathBuf, mount::target);
from_string!(MountOptions, mount::options::Options, |text| text.parse());
from_string!(Kind, String, |text| {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_';
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no type of file system"))
    }
});
from_string!(Pause, Duration, values::duration);
from_string!(Size, u64, values::size);
from_string!(Share, u32, values::permille);
from_string!(Wait, Condition, |text| text.parse());
from_string!(SignalName, i32, |text| signals::parse(text)
    .ok_or_else(|| format!("unknown signal `{text}`")));
from_string!(CapabilityName, u32, |text| capabilities::parse(text)
    .ok_or_else(|| format!("unknown capability `{text}`")));
from_string!(AbsolutePath, PathBuf, |text| if text.starts_with('/') {
    Ok(PathBuf::from(text))
} else {
    Err(format!("`{text}` is no absolute path"))
});
from_string!(Name, String, |text| if is_name(text) {
    Ok(text.to_owned())
} else {
    Err(format!(
        "`{text}` is no name: letters, digits, `.`, `_` and `-`, not first `.` or `-`, at most 64"
    ))
});

impl From<RawMount> for Mount {
    fn from(raw: RawMount) -> Self {
        Self {
            source: raw.source.0,
            target: raw.target.0,
            kind: raw.r#type.map(|kind| kind.0),
            options: raw
                .options
                .map_or_else(Default::default, |options| options.0),
        }
    }
}

impl Raw {
    pub(super) fn checked(self) -> Result<Service, String> {
        if self
            .watchdog
            .as_ref()
            .is_some_and(|pause| pause.0.is_zero())
        {
            return Err("key `watchdog`: must be longer than \"0s\"".to_owned());
        }
        let service = self.service();
        service.unrunnable().map_or(Ok(service), Err)
    }

    fn service(self) -> Service {
        let mut service = Service::new(self.name.0, &[]);
        service.command = self.command;
        // A thousand services keep no room for words that never come.
        service.command.shrink_to_fit();
        service.env = self.env.into_iter().collect();
        service.wait_for = self.wait_for.into_iter().map(|wait| wait.0).collect();
        service.start = match self.start {
            Some(RawStart::Manual) => Start::Manual,
            Some(RawStart::Boot) | None => Start::Boot,
        };
        service.restart = match self.restart {
            Some(RawRestart::Always) => Restart::Always,
            Some(RawRestart::Never) => Restart::Never,
            Some(RawRestart::OnFailure) | None => Restart::OnFailure,
        };
        service.user = match self.user {
            None => User::Auto,
            Some(RawUser::Id(id)) => User::Id(id),
            Some(RawUser::Name(name)) => named_user(name),
        };
        let pause = |given: Option<Pause>, default| given.map_or(default, |pause| pause.0);
        service.restart_delay = pause(self.restart_delay, service.restart_delay);
        service.restart_delay_max =
            pause(self.restart_delay_max, service.restart_delay_max).max(service.restart_delay);
        service.start_timeout = pause(self.start_timeout, service.start_timeout);
        service.stop_timeout = pause(self.stop_timeout, service.stop_timeout);
        service.stop_signal = self
            .stop_signal
            .map_or(service.stop_signal, |signal| signal.0);
        service.notify = self.notify;
        service.watchdog = self.watchdog.map(|pause| pause.0);
        service.critical = self.critical;
        service.groups = self.groups;
        service.capabilities = self
            .capabilities
            .iter()
            .fold(0, |set, one| set | 1 << one.0);
        service.writable = self.writable.into_iter().map(|path| path.0).collect();
        service.working_directory = self.working_directory.map(|path| path.0);
        service.limits = Limits {
            memory: self.memory_max.map(|size| size.0),
            cpu_permille: self.cpu_max.map(|share| share.0),
            tasks: self.tasks_max.map(std::num::NonZeroU32::get),
        };
        service.process_limits = ProcessLimits {
            open_files: self.open_files_max.map(|number| number.get().into()),
            core: self.core_max.map(|size| size.0),
        };
        service.log = LogLimits {
            volatile: self.log_max.map_or(service.log.volatile, |size| size.0),
            persistent: self.log_persist.map_or(0, |size| size.0),
        };
        service.isolation = Isolation {
            no_new_privileges: self.no_new_privileges,
            private_tmp: self.private_tmp,
            read_only: self.read_only,
            seccomp: self.seccomp,
            landlock: self.landlock,
        };
        service.role = Role::Application;
        service
    }
}

/// `"auto"`, a number in quotes, `"root"` (which needs no `/etc/passwd`), or a name to look up.
fn named_user(name: String) -> User {
    match (name.as_str(), name.parse()) {
        ("auto", _) => User::Auto,
        ("root", _) => User::Id(0),
        (_, Ok(id)) => User::Id(id),
        (_, Err(_)) => User::Name(name),
    }
}
