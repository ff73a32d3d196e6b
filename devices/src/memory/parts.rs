//! Moves between buffers and a socket: parts of the guest's memory and of the host's, one after the other, in one call.
#![expect(unsafe_code, reason = "sendmsg and recvmsg take raw pointers to guest RAM")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use smallvec::SmallVec;
use vm_memory::VolatileSlice;

use super::Buffers;
use super::buffers::{IOV_MAX, iovec};

/// The most parts of usual calls: for these no list is allocated.
const FEW: usize = 8;

/// Bytes to send.
#[derive(Debug)]
enum Source<'a> {
    Host(&'a [u8]),
    Guest(VolatileSlice<'a>),
}

/// Bytes of the host and of the guest that are sent together. It takes no more parts than one call of the kernel.
#[derive(Debug, Default)]
pub(crate) struct Gather<'a> {
    parts: SmallVec<[Source<'a>; FEW]>,
}

impl<'a> Gather<'a> {
    /// Adds bytes of the host. Returns whether there was a place for them.
    pub(crate) fn host(&mut self, bytes: &'a [u8]) -> bool {
        let fits = self.parts.len() < IOV_MAX;
        if fits && !bytes.is_empty() {
            self.parts.push(Source::Host(bytes));
        }
        fits
    }

    /// Adds at most `most` bytes of the buffers, after their first `skip`. Returns whether there was a place for all.
    pub(crate) fn guest(&mut self, buffers: &'a Buffers, skip: u64, most: u64) -> bool {
        for slice in buffers.slices(skip, most) {
            if self.parts.len() >= IOV_MAX {
                return false;
            }
            self.parts.push(Source::Guest(slice));
        }
        true
    }

    /// Sends with one call that does not wait. Returns the number of bytes.
    ///
    /// # Errors
    ///
    /// The host's error; EAGAIN if the socket takes nothing now.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let host = |bytes: &[u8]| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut iovecs: SmallVec<[_; FEW]> = SmallVec::with_capacity(self.parts.len());
        iovecs.extend(self.parts.iter().map(|part| match part {
            Source::Host(bytes) => host(bytes),
            Source::Guest(slice) => iovec(*slice),
        }));
        let message = message(&mut iovecs);
        // SAFETY: each iovec covers bytes that the parts borrow during the call; the kernel only reads them. Guest RAM
        // is volatile: the guest may write there at the same time.
        let sent = unsafe {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            libc::sendmsg(socket.as_raw_fd(), &raw const message, flags)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Copies the first bytes to `bytes`. Returns their number.
    pub(crate) fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for part in &self.parts {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            done += match part {
                Source::Guest(slice) => slice.copy_to(rest),
                Source::Host(bytes) => {
                    let len = bytes.len().min(rest.len());
                    rest.iter_mut().zip(*bytes).for_each(|(place, byte)| *place = *byte);
                    len
                }
            };
        }
        done
    }
}

/// A place for received bytes.
#[derive(Debug)]
enum Target<'a> {
    Host(&'a mut [u8]),
    Guest(VolatileSlice<'a>),
}

/// Places of the host and of the guest that are filled one after the other. It takes no more than one call of the
/// kernel.
#[derive(Debug, Default)]
pub(crate) struct Scatter<'a> {
    parts: SmallVec<[Target<'a>; FEW]>,
}

impl<'a> Scatter<'a> {
    /// Adds memory of the host. Returns whether there was a place for it.
    pub(crate) fn host(&mut self, bytes: &'a mut [u8]) -> bool {
        let fits = self.parts.len() < IOV_MAX;
        if fits && !bytes.is_empty() {
            self.parts.push(Target::Host(bytes));
        }
        fits
    }

    /// Adds at most `most` bytes of the buffers, after their first `skip`. Returns whether there was a place for all.
    pub(crate) fn guest(&mut self, buffers: &'a Buffers, skip: u64, most: u64) -> bool {
        for slice in buffers.slices(skip, most) {
            if self.parts.len() >= IOV_MAX {
                return false;
            }
            self.parts.push(Target::Guest(slice));
        }
        true
    }

    /// Receives with one call that does not wait. Returns the number of bytes; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// The host's error; EAGAIN if there is nothing now.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut iovecs: SmallVec<[_; FEW]> = SmallVec::with_capacity(self.parts.len());
        iovecs.extend(self.parts.iter_mut().map(|part| match part {
            Target::Host(bytes) => {
                libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
            }
            Target::Guest(slice) => iovec(*slice),
        }));
        let mut message = message(&mut iovecs);
        // SAFETY: each iovec covers bytes that the parts borrow during the call, those of the host exclusively. Guest
        // RAM is only ever accessed as volatile memory, so the kernel may write there.
        let received =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// The sum of the lengths.
    pub(crate) fn len(&self) -> usize {
        let len = |part: &Target<'_>| match part {
            Target::Host(bytes) => bytes.len(),
            Target::Guest(slice) => slice.len(),
        };
        self.parts.iter().map(len).sum()
    }

    /// Fills the first bytes from `bytes`. Returns their number.
    pub(crate) fn copy_from(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for part in &mut self.parts {
            let rest = bytes.get(done..).unwrap_or_default();
            done += match part {
                Target::Guest(slice) => {
                    slice.copy_from(rest);
                    rest.len().min(slice.len())
                }
                Target::Host(place) => {
                    place.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
                    rest.len().min(place.len())
                }
            };
        }
        done
    }
}

/// A message of these parts, without an address.
fn message(iovecs: &mut [libc::iovec]) -> libc::msghdr {
    libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: iovecs.as_mut_ptr(),
        msg_iovlen: iovecs.len(),
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}
