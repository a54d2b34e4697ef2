//! Growing a partition and its file system while both are in use.

#![expect(unsafe_code, reason = "nix has neither call")]

use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::AsRawFd;
use std::ptr;

/// `struct blkpg_partition` of `<linux/blkpg.h>`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}
const _: () =
    assert!(size_of::<BlkpgPartition>() == 152 && offset_of!(BlkpgPartition, number) == 16);

/// `struct blkpg_ioctl_arg` of `<linux/blkpg.h>`.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    data_bytes: i32,
    data: *mut BlkpgPartition,
}
const _: () = assert!(size_of::<BlkpgArgument>() == 24 && offset_of!(BlkpgArgument, data) == 16);

/// `BLKPG` of `<linux/blkpg.h>`: `_IO(0x12, 105)`.
const BLKPG: libc::c_ulong = 0x1269;
/// `BLKPG_RESIZE_PARTITION` of the same header.
const RESIZE_PARTITION: i32 = 3;
/// `EXT4_IOC_RESIZE_FS` of `fs/ext4/ext4.h`: `_IOW('f', 16, __u64)`.
const EXT4_RESIZE: libc::c_ulong = 0x4008_6610;

/// `ioctl(disk, BLKPG, {BLKPG_RESIZE_PARTITION, {start, length, number}})`: tells the kernel that partition
/// `number` of `disk` now has `length` bytes; `start` must be where it lies already, in bytes.
///
/// # Errors
/// The kernel's errno; `EBUSY` if the new end runs into another partition (blkpg.h has no manual page).
pub fn resize_partition(disk: &File, number: i32, start: i64, length: i64) -> io::Result<()> {
    let mut partition = BlkpgPartition {
        start,
        length,
        number,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let mut argument = BlkpgArgument {
        operation: RESIZE_PARTITION,
        flags: 0,
        data_bytes: 152,
        data: ptr::from_mut(&mut partition),
    };
    // SAFETY: `argument` and the `partition` that it points to have the kernel's layout, asserted above, and live
    // until the call returns; the kernel keeps no pointer.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, ptr::from_mut(&mut argument)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `ioctl(folder, EXT4_IOC_RESIZE_FS, &blocks)`: grows the mounted ext4 file system that `folder` is in to
/// `blocks` blocks (resize2fs(8) does the same).
///
/// # Errors
/// The kernel's errno; `EPERM` without `CAP_SYS_RESOURCE`, `EINVAL` if `blocks` is beyond the partition.
pub fn resize_ext4(folder: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one `u64` through the pointer during the call.
    let result =
        unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_RESIZE as _, ptr::from_ref(&blocks)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
