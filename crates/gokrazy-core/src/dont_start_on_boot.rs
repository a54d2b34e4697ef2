//! For programs that are installed but shall run only when someone starts them.

use std::process;

use crate::exit;

/// Set to `1` in the environment of a service's first start after boot.
pub const FIRST_START: &str = "GOKRAZY_FIRST_START";

/// Ends this process with [`exit::DO_NOT_SUPERVISE`] if it is the service's first start after boot.
///
/// Call it first in `main`; the operator starts the service by hand, and then it goes on.
pub fn dont_start_on_boot() {
    if is_first_start(std::env::var(FIRST_START).ok().as_deref()) {
        process::exit(i32::from(exit::DO_NOT_SUPERVISE));
    }
}

fn is_first_start(value: Option<&str>) -> bool {
    value == Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_start_counts() {
        assert!(is_first_start(Some("1")));
        assert!(!is_first_start(Some("0")));
        assert!(!is_first_start(None));
    }
}
