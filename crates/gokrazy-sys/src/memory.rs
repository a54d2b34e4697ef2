//! What a process that waits for ever need not keep in memory.
#![expect(
    unsafe_code,
    reason = "madvise(2) and dl_iterate_phdr(3) take raw addresses"
)]

use std::ffi::{c_int, c_void};
use std::sync::Once;

/// Most bytes of code that one page fault brings back.
///
/// A fault maps what the page cache holds around it: sixteen pages, and since Linux 6.18 all of a large folio, which a
/// file that was copied in one piece may fill.
const WINDOW: usize = 16 * 1024;

/// Most segments of a program that count; linkers make two.
const SEGMENTS: usize = 4;

/// madvise(2) with `MADV_DONTNEED` for the code and the constants of this program: their pages leave our account, and
/// come back from the page cache by and by as they are run, [`WINDOW`] by window.
pub fn forget_code() {
    static BROKEN_UP: Once = Once::new();
    let mut segments = Segments::default();
    // SAFETY: `first_object` follows the callback's contract, and the data is what it takes, alive until it is back.
    unsafe {
        libc::dl_iterate_phdr(Some(first_object), (&raw mut segments).cast());
    }
    BROKEN_UP.call_once(|| segments.each(break_up));
    // Nothing is read of the segments between the calls, or it would come back.
    segments.each(|start, length| advise(start, length, libc::MADV_DONTNEED));
}

/// Address and length of each segment that is never written, in whole pages.
#[derive(Default)]
struct Segments {
    spans: [(usize, usize); SEGMENTS],
    count: usize,
    page: usize,
}

impl Segments {
    fn add(&mut self, start: u64, length: u64) {
        let (Ok(start), Ok(length)) = (usize::try_from(start), usize::try_from(length)) else {
            return;
        };
        let below = start.checked_rem(self.page).unwrap_or(0);
        if let Some(span) = self.spans.get_mut(self.count) {
            *span = (start.wrapping_sub(below), length.saturating_add(below));
            self.count = self.count.saturating_add(1);
        }
    }

    fn each(&self, mut act: impl FnMut(usize, usize)) {
        for (start, length) in self.spans.iter().take(self.count) {
            act(*start, *length);
        }
    }
}

/// The program itself comes first; what it is linked to is shared with others anyway.
extern "C" fn first_object(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: the caller hands over a valid description that lives as long as this call.
    let info = unsafe { &*info };
    // SAFETY: so many headers stand there.
    let headers =
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    // SAFETY: `forget_code` hands over its own, which nobody else refers to now.
    let segments = unsafe { &mut *data.cast::<Segments>() };
    // SAFETY: sysconf takes any number.
    segments.page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for header in headers {
        // Constants that hold addresses are relocated, and so lie in a segment that could be written.
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            segments.add(info.dlpi_addr.wrapping_add(header.p_vaddr), header.p_memsz);
        }
    }
    1
}

/// Makes mappings of [`WINDOW`] bytes of one, for no fault maps beyond a mapping's end.
///
/// Neighbours must differ in something, or they were one: every other one is left out of core dumps, in which code
/// does not stand anyway.
fn break_up(start: usize, length: usize) {
    let end = start.saturating_add(length);
    let first = start.next_multiple_of(WINDOW);
    for window in (first..end).step_by(2 * WINDOW) {
        let length = end.saturating_sub(window).min(WINDOW);
        advise(window, length, libc::MADV_DONTDUMP);
    }
}

fn advise(start: usize, length: usize, advice: c_int) {
    // SAFETY: the range is the program's code or constants, mapped from its file and never writable, so nothing in it
    // differs from the file, and what is touched again is read again; no advice that is given here changes a byte.
    unsafe {
        libc::madvise(
            std::ptr::without_provenance_mut::<c_void>(start),
            length,
            advice,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_runs_again() {
        forget_code();
        assert_eq!(std::hint::black_box(20) + 22, 42);
        forget_code();
    }

    #[test]
    fn no_fault_brings_more_back_than_a_window() {
        forget_code();
        let program = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let lengths: Vec<usize> = maps
            .lines()
            .filter(|line| line.ends_with(program.to_str().unwrap()))
            .filter(|line| line.contains(" r-xp "))
            .map(|line| {
                let (start, rest) = line.split_once('-').unwrap();
                let (end, _) = rest.split_once(' ').unwrap();
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                number(end) - number(start)
            })
            .collect();
        assert!(lengths.len() > 2, "{maps}");
        assert!(lengths.iter().all(|length| *length <= WINDOW), "{maps}");
    }
}
