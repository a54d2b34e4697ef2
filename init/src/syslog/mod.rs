//! Forwards what logd keeps to a collector on the network, as RFC 5424 over UDP (RFC 5426) or TCP (RFC 6587).
//!
//! | module | what |
//! |---|---|
//! | [`target`] | where to, as people write it |
//! | [`message`] | a record as a syslog message |
//! | [`transport`] | messages on the wire |
//! | [`forward`] | the loop: segments in, messages out |
//!
//! It is a process of its own, started as `logd --forward`: logd itself has no network and waits for nobody.
//! The two meet in logd's segments, so a collector that is away costs no memory and holds nobody up; what logd had to
//! remove meanwhile is told as lost.
//! Nothing is parsed of what a collector sends.

pub mod forward;
pub mod message;
pub mod target;
pub mod transport;
