//! Refusing system calls to the program that will run (`seccomp(2)`).
#![expect(unsafe_code, reason = "prctl(2) takes a raw program")]

use std::io;

/// linux/audit.h: the one kind of system calls that our filter judges.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
/// linux/audit.h: the one kind of system calls that our filter judges.
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data` (linux/seccomp.h): the number and the kind of the call.
const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;

/// asm/unistd.h: calls by the x32 numbering have this bit and would slip by.
const X32_BIT: u32 = 0x4000_0000;

/// prctl(2) `PR_SET_SECCOMP`: from now on, the system calls with these numbers fail with `EPERM`, and those of another
/// numbering (32-bit programs) with `ENOSYS`; it cannot be undone, and `exec` keeps it.
///
/// # Errors
/// `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`; `EINVAL` where the kernel has no filters.
pub fn refuse(numbers: &[i64]) -> io::Result<()> {
    let program = program(numbers).ok_or(io::ErrorKind::InvalidInput)?;
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let description = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, of which pointer and length tell the truth, and does not write to it.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const description,
            0,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The filter: wrong numbering, then each number, then everything else.
fn program(numbers: &[i64]) -> Option<Vec<libc::sock_filter>> {
    let errno = |number: i32| libc::SECCOMP_RET_ERRNO | number.unsigned_abs();
    let mut program = vec![
        load(ARCH_OFFSET),
        jump_over_if_equal(ARCH),
        give(errno(libc::ENOSYS)),
        load(NUMBER_OFFSET),
        jump_over_if_less(X32_BIT),
        give(errno(libc::ENOSYS)),
    ];
    for number in numbers {
        program.push(jump_over_unless_equal(u32::try_from(*number).ok()?));
        program.push(give(errno(libc::EPERM)));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    Some(program)
}

/// Instructions of linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

fn load(offset: u32) -> libc::sock_filter {
    instruction(LOAD_WORD, 0, 0, offset)
}

fn give(result: u32) -> libc::sock_filter {
    instruction(RETURN, 0, 0, result)
}

fn jump_over_if_equal(value: u32) -> libc::sock_filter {
    instruction(JUMP_IF_EQUAL, 1, 0, value)
}

fn jump_over_unless_equal(value: u32) -> libc::sock_filter {
    instruction(JUMP_IF_EQUAL, 0, 1, value)
}

fn jump_over_if_less(value: u32) -> libc::sock_filter {
    instruction(JUMP_IF_GREATER_OR_EQUAL, 0, 1, value)
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does.
    fn judge(program: &[libc::sock_filter], arch: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD_WORD => {
                    accumulator = if step.k == ARCH_OFFSET { arch } else { number };
                }
                JUMP_IF_EQUAL => {
                    at += usize::from(if accumulator == step.k {
                        step.jt
                    } else {
                        step.jf
                    });
                }
                JUMP_IF_GREATER_OR_EQUAL => {
                    at += usize::from(if accumulator >= step.k {
                        step.jt
                    } else {
                        step.jf
                    });
                }
                _ => return step.k,
            }
        }
    }

    #[test]
    fn the_filter_refuses_just_what_it_is_told() {
        let program = program(&[7, 300]).unwrap();
        let eperm = libc::SECCOMP_RET_ERRNO | 1;
        let enosys = libc::SECCOMP_RET_ERRNO | 38;
        assert_eq!(judge(&program, ARCH, 7), eperm);
        assert_eq!(judge(&program, ARCH, 300), eperm);
        assert_eq!(judge(&program, ARCH, 8), libc::SECCOMP_RET_ALLOW);
        assert_eq!(judge(&program, ARCH ^ 1, 8), enosys);
        assert_eq!(judge(&program, ARCH, 8 | X32_BIT), enosys);
    }
}
