//! System calls that need `unsafe`, one function each, and no policy.
//!
//! What a wrapper here does: make one call, turn its result into an [`std::io::Result`], and take typed arguments
//! (`BorrowedFd`, slices) whose validity the compiler checks.
//! What it does not: retry, log, choose defaults, or know a path of ours.
//!
//! Before adding one, look whether `nix` has it.
//! Each module starts with `#![expect(unsafe_code, reason = …)]`; each block names its precondition; each
//! `repr(C)` structure is asserted against its header.
//! A function's first line of documentation is the call that it makes.

pub mod capability;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod input;
pub mod landlock;
pub mod loopback;
pub mod memory;
pub mod mount;
pub mod packet;
pub mod passing;
pub mod process;
pub mod rtc;
pub mod seccomp;
pub mod watchdog;
