//! Exit codes of our programs, and what the supervisor reads from those of services.

/// The program did what was asked.
pub const SUCCESS: u8 = 0;

/// The program could not do what was asked; the reason is on standard error.
pub const FAILURE: u8 = 1;

/// A flag or a configuration was refused before anything was touched (clap uses the same code).
pub const USAGE: u8 = 2;

/// "Do not supervise me": the supervisor leaves the service stopped (gokrazy's convention).
pub const DO_NOT_SUPERVISE: u8 = 125;
