//! What a process that waits for ever need not keep in memory.
#![expect(
    unsafe_code,
    reason = "madvise(2) and dl_iterate_phdr(3) take raw addresses"
)]

use std::ffi::{c_int, c_void};

/// madvise(2) with `MADV_DONTNEED` for the code and the constants of this program: their pages leave our account, and
/// come back from the page cache one by one as they are run.
pub fn forget_code() {
    // SAFETY: `first_object` follows the callback's contract, and needs no data.
    unsafe {
        libc::dl_iterate_phdr(Some(first_object), std::ptr::null_mut());
    }
}

/// The program itself comes first; what it is linked to is shared with others anyway.
extern "C" fn first_object(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the caller hands over a valid description that lives as long as this call.
    let info = unsafe { &*info };
    // SAFETY: so many headers stand there.
    let headers =
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        // Constants that hold addresses are relocated, and so lie in a segment that could be written.
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            forget(info.dlpi_addr, header.p_vaddr, header.p_memsz);
        }
    }
    1
}

fn forget(base: u64, offset: u64, length: u64) {
    // SAFETY: sysconf takes any number.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = base.wrapping_add(offset);
    let below = start % page;
    let (Ok(start), Ok(length)) = (
        usize::try_from(start - below),
        usize::try_from(length.saturating_add(below)),
    ) else {
        return;
    };
    // SAFETY: the range is the program's code or constants, mapped from its file and never writable, so nothing in it
    // differs from the file, and what is touched again is read again.
    unsafe {
        libc::madvise(
            std::ptr::without_provenance_mut::<c_void>(start),
            length,
            libc::MADV_DONTNEED,
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_forgotten_runs_again() {
        super::forget_code();
        assert_eq!(std::hint::black_box(20) + 22, 42);
        super::forget_code();
    }
}
