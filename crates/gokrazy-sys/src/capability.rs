//! A process's capabilities (`capabilities(7)`): what a user other than root may do all the same.
#![expect(unsafe_code, reason = "capset(2) and prctl(2) take raw structures")]

use std::io;

/// `CAP_CHOWN` … by number (linux/capability.h); bit `n` of a set is capability `n`.
pub type Set = u64;

/// _LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

// linux/capability.h: struct __user_cap_header_struct, struct __user_cap_data_struct.
const _: () = assert!(size_of::<Header>() == 8 && size_of::<Data>() == 12);

/// capset(2): makes `set` this process's permitted, effective and inheritable capabilities.
///
/// # Errors
/// `EPERM` for one that it has not.
pub fn set(set: Set) -> io::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |word: u32| Data {
        effective: word,
        permitted: word,
        inheritable: word,
    };
    let (low, high) = halves(set);
    let data = [half(low), half(high)];
    // SAFETY: version 3 reads one header and two data structures, which live across the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    checked(result)
}

fn halves(set: Set) -> (u32, u32) {
    let mask = u64::from(u32::MAX);
    let word = |bits: u64| u32::try_from(bits & mask).unwrap_or(0);
    (word(set), word(set >> 32))
}

/// prctl(2) `PR_CAPBSET_DROP`: no program that this process will run can gain the capability.
///
/// # Errors
/// `EINVAL` for a number that the kernel does not know, `EPERM` without `CAP_SETPCAP`.
pub fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    // SAFETY: the call takes numbers alone.
    let result =
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    checked(result.into())
}

/// prctl(2) `PR_CAP_AMBIENT_RAISE`: the next program keeps the capability although it is not root's.
///
/// # Errors
/// `EPERM` unless the capability is permitted and inheritable.
pub fn raise_ambient(number: u32) -> io::Result<()> {
    // SAFETY: the call takes numbers alone.
    let result = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE,
            libc::c_ulong::from(number),
            0,
            0,
        )
    };
    checked(result.into())
}

fn checked(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_two_words() {
        assert_eq!(halves(1 << 25 | 1 << 40), (1 << 25, 1 << 8));
    }
}
