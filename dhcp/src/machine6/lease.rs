//! An address granted by DHCPv6, and its times; pure.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::message::v6::Granted;
use crate::moment::Moment;

/// An address in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub address: Ipv6Addr,
    /// When it is deprecated; absent for never.
    pub preferred_until: Option<Moment>,
    /// When it ends; absent for never.
    pub valid_until: Option<Moment>,
    pub(super) renew: Option<Moment>,
    pub(super) rebind: Option<Moment>,
}

/// The times of a grant (RFC 8415 §14.2): a T1 or T2 of 0 leaves them to us, and neither may pass the end.
///
/// Neither comes at once, however short the lease, so that no server makes us send without a pause; and T1 does not
/// come after T2 where one is the server's and the other ours.
pub(super) fn hold(granted: &Granted, now: Moment) -> Held {
    const FOREVER: u32 = u32::MAX;
    let until = |seconds: u32| match seconds {
        FOREVER => None,
        seconds => Some(now.after(Duration::from_secs(seconds.into()))),
    };
    let base = if granted.preferred > 0 {
        granted.preferred
    } else {
        granted.valid
    };
    let share = |tenths: u64| match base {
        FOREVER => FOREVER,
        base => u32::try_from(u64::from(base) * tenths / 10).unwrap_or(FOREVER),
    };
    let choose = |given: u32, tenths| match given {
        0 => share(tenths),
        given if given >= granted.valid && granted.valid != FOREVER => share(tenths),
        given => given,
    };
    let (t1, t2) = match (choose(granted.t1, 5).max(1), choose(granted.t2, 8).max(1)) {
        (t1, t2) if t1 <= t2 => (t1, t2),
        (t1, t2) if granted.t1 == 0 => (t1.min(t2), t2),
        (t1, _) => (t1, t1),
    };
    Held {
        address: granted.address,
        preferred_until: until(granted.preferred),
        valid_until: until(granted.valid),
        renew: until(t1),
        rebind: until(t2),
    }
}
