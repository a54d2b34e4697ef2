//! Memory that a resting process does not need: `madvise(2)` on its own program file's pages.
//!
//! When to call it is the caller's.
#![expect(
    unsafe_code,
    reason = "dl_iterate_phdr(3) takes a callback with raw pointers, madvise(2) an address"
)]

use std::io;

use libc::{c_int, c_void, dl_phdr_info, size_t};

/// `madvise(…, MADV_DONTNEED)` on this program's segments that cannot be written: code and constants.
///
/// Each page fault maps sixteen pages at once, so a start-up leaves nearly the whole program mapped.
/// After this call the pages are in the kernel's cache alone, and come back, without a read from disk as long as they
/// are there, when they are used.
///
/// # Errors
/// The errno of `madvise(2)`.
pub fn release_program() -> io::Result<()> {
    // SAFETY: the callback has the type that dl_iterate_phdr(3) asks for, and takes no data.
    let result = unsafe { libc::dl_iterate_phdr(Some(release_object), std::ptr::null_mut()) };
    if result > 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Returns 1 for success and -1 for failure; either ends the iteration at its first object, which is the program.
extern "C" fn release_object(info: *mut dl_phdr_info, _: size_t, _: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr(3) passes a valid pointer for the time of the call.
    let info = unsafe { &*info };
    let count = usize::from(info.dlpi_phnum);
    // SAFETY: the program headers lie in the program's memory and are `dlpi_phnum` in number.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, count) };
    // SAFETY: the call takes a number alone.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let readable_alone =
        |flags: u32| flags & libc::PF_W == 0 && flags & (libc::PF_R | libc::PF_X) != 0;
    for header in headers {
        if header.p_type != libc::PT_LOAD || !readable_alone(header.p_flags) {
            continue;
        }
        let begin = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        let end = begin.wrapping_add(header.p_memsz as usize);
        let begin = begin & !page.wrapping_sub(1);
        // SAFETY: the range is a segment that the loader mapped from the file without write permission, so its pages
        // hold what the file holds, and dropping them loses nothing; relocations lie in writable segments.
        let result = unsafe {
            libc::madvise(
                begin as *mut c_void,
                end.wrapping_sub(begin),
                libc::MADV_DONTNEED,
            )
        };
        if result != 0 {
            return -1;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kib() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = maps.lines().find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn pages_go_and_come_back() {
        let before = resident_kib();
        release_program().unwrap();
        let after = resident_kib();
        assert!(after < before, "{before} KiB, then {after} KiB");
    }
}
