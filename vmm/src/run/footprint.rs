//! Gives back the memory that only the start of a machine needs.
//!
//! Reading the command line, the kernel and the images takes more code than serving a guest. Its pages are those of the
//! program's file, but they count as the process's own memory as long as they are mapped. Code that is used again is
//! mapped again, from the page cache: some ten page faults in all, because `layout.ld` places it together.
#![expect(unsafe_code, reason = "the program's own segments, as the dynamic linker lists them")]

use std::ffi::{c_int, c_void};
use std::ptr;

use rustix::mm::{Advice, madvise};
use tracing::debug;

/// Unmaps the pages of code and of constants, which stay in the host's page cache, and frees the unused part of the heap.
pub(super) fn drop_pages_of_the_start() {
    let mut dropped = 0_usize;
    // SAFETY: `visit` gets the pointer that is passed here, and is called only until this call returns.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut dropped).cast()) };
    // Most of the heap is what was needed to read the command line.
    #[cfg(target_env = "gnu")]
    // SAFETY: it gives free memory of the heap back, on any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    debug!("unmapped {} KiB of code and constants, which are mapped again on use", dropped >> 10);
}

/// Handles an object in the list: the program, or a library.
///
/// # Safety
///
/// `info` is that of an object of this process, and `dropped` points to a `usize`.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    dropped: *mut c_void,
) -> c_int {
    // SAFETY: the dynamic linker passes a valid entry, which lists the object's headers.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    let page = rustix::param::page_size() as u64;
    // A segment that was ever writable has relocated pointers: its pages are not those of the file any more.
    let is_constant = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
    };
    for header in headers.iter().filter(is_constant) {
        let start = (base + header.p_vaddr).next_multiple_of(page);
        let end = base + header.p_vaddr + header.p_memsz;
        let (Ok(len), Ok(at)) =
            (usize::try_from((end - end % page).saturating_sub(start)), usize::try_from(start))
        else {
            continue;
        };
        // SAFETY: the whole pages of a segment that was never writable have the bytes of the program's file, and are
        // read from there again. The program's file does not change while it runs.
        let done =
            unsafe { madvise(ptr::with_exposed_provenance_mut(at), len, Advice::LinuxDontNeed) };
        if done.is_ok() {
            // SAFETY: see above; no other reference to the value exists during the iteration.
            unsafe { *dropped.cast::<usize>() += len };
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_on_after_its_pages_are_dropped() {
        let text = || format!("{:?} {:x?}", "a constant", [1, 2, 3]);
        let before = text();
        drop_pages_of_the_start();
        assert_eq!(text(), before);
    }
}
