//! How programs for a device are compiled and linked.

use clap::ValueEnum;

/// A processor that images are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Architecture {
    /// 64-bit ARM: every Raspberry Pi from Zero 2 W and 3 on, virtual machines.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl Architecture {
    /// Rust's name of the target: static, against musl.
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
