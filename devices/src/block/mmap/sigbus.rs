//! SIGBUS in a mapping of an image: the image was cut, or the host cannot read it.
//!
//! The kernel sends SIGBUS to the thread that touches such a page, and the process would die. The handler here looks up
//! the address in a table of mappings. If it lies in one, the handler marks the mapping as faulted and replaces it by
//! anonymous memory: the access goes on and finds zeros. [`Watch::faulted`] then tells the reader that nothing it has
//! read counts. Every other SIGBUS goes on to the handler that was installed before.
//!
//! The handler may run at any instruction of any thread, so it only uses atomics and system calls: no lock, no
//! allocation, no log.
#![expect(unsafe_code, reason = "no crate at hand handles SIGBUS with its address")]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use vm_memory::MmapRegion;

/// The most mappings of the process: each disk has one, and a second one while it grows.
const SLOTS: usize = 512;

static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
/// The handler that was there before. Set before the new handler is installed.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A place in the table for one mapping.
#[derive(Debug)]
struct Slot {
    /// Whether a mapping has the slot.
    taken: AtomicBool,
    /// Odd while `start` and `len` change.
    version: AtomicUsize,
    /// The first address.
    start: AtomicUsize,
    /// The number of bytes; 0 if there is no mapping.
    len: AtomicUsize,
    faulted: AtomicBool,
}

impl Slot {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            faulted: AtomicBool::new(false),
        }
    }

    /// Changes the range. Only the owner of the slot calls this.
    fn set(&self, start: usize, len: usize) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The range if it contains `address`. A range that changes meanwhile contains nothing that a thread reads.
    fn range_of(&self, address: usize) -> Option<(usize, usize)> {
        let version = self.version.load(Ordering::Acquire);
        let (start, len) = (self.start.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let settled = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        let inside = address.checked_sub(start).is_some_and(|at| at < len);
        (settled && inside).then_some((start, len))
    }
}

/// A mapping in the table. Drop it before the mapping.
#[derive(Debug)]
pub(super) struct Watch(&'static Slot);

impl Watch {
    /// Enters `region` into the table, and installs the handler if it is the first one.
    ///
    /// # Errors
    ///
    /// If the handler cannot be installed, or the table is full.
    pub(super) fn new(region: &MmapRegion) -> io::Result<Self> {
        install()?;
        no_huge_pages(region);
        let free = |slot: &&Slot| {
            let (expected, taken) = (false, true);
            slot.taken
                .compare_exchange(expected, taken, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        let slot = TABLE.iter().find(free).ok_or_else(|| {
            io::Error::other(format!("this process maps {SLOTS} images already, the most it can"))
        })?;
        slot.faulted.store(false, Ordering::Relaxed);
        slot.set(region.as_ptr().expose_provenance(), region.size());
        Ok(Self(slot))
    }

    /// Whether an access to the mapping faulted since it was entered. Asked after a read, it tells whether the bytes
    /// are those of the image.
    pub(super) fn faulted(&self) -> bool {
        // The reads before are complete when the flag is loaded.
        fence(Ordering::Acquire);
        self.0.faulted.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.set(0, 0);
        self.0.taken.store(false, Ordering::Release);
    }
}

/// Lets the calling thread receive SIGBUS: where it is blocked, the kernel kills the process. A thread that blocks it
/// later is on its own.
pub(super) fn unblock() {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    if DONE.get() {
        return;
    }
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set, which is valid for writes; the other calls only read it; the old mask
    // is not asked for.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGBUS);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, signals.as_ptr(), ptr::null_mut());
    }
    DONE.set(true);
}

/// Maps single pages only: up to Linux 6.17 a huge page that reaches past the end of a cut image reads as zeros there,
/// without a fault. A kernel without huge pages refuses, and needs nothing.
fn no_huge_pages(region: &MmapRegion) {
    // SAFETY: the range is that of a mapping that `region` owns, and the advice changes no content.
    let _refused =
        unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_NOHUGEPAGE) };
}

/// Installs the handler, once in the process.
fn install() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `previous` is valid for writes, and the kernel only writes a valid action to it.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every field of a zeroed sigaction is valid, and the call above filled it.
    let previous = unsafe { previous.assume_init() };
    PREVIOUS.get_or_init(|| previous);
    let mut action = previous;
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    // On the stack for signals if the thread has one: the previous handler may be for overflows of the stack.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the action is complete, and the handler is safe to run at any instruction: see the module.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    *installed = true;
    Ok(())
}

extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, whose address is valid for these codes.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Only those come from an access of this thread, which so keeps the mapping.
    let accessed = matches!(code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR);
    if accessed && TABLE.iter().any(|slot| take_away(slot, address)) {
        return;
    }
    pass_on(signal, code, info, context);
}

/// Replaces the mapping of `slot` by zeros if it contains `address`, and marks it. Returns whether it did.
fn take_away(slot: &Slot, address: usize) -> bool {
    let Some((start, len)) = slot.range_of(address) else { return false };
    // Marked first: a thread that reads the zeros finds the mark afterwards.
    slot.faulted.store(true, Ordering::SeqCst);
    // SAFETY: errno belongs to the interrupted code; its address is valid in every thread. `start` and `len` are those
    // of a mapping in the table, which the interrupted thread reads at this moment and so keeps: MAP_FIXED replaces
    // only that mapping. All its readers treat it as volatile memory, and it is unmapped as a whole as before.
    unsafe {
        let errno = *libc::__errno_location();
        let zeros = libc::mmap(
            ptr::with_exposed_provenance_mut(start),
            len,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        );
        *libc::__errno_location() = errno;
        zeros != libc::MAP_FAILED
    }
}

/// Does with a SIGBUS that concerns no image what the process would do without this handler.
fn pass_on(
    signal: libc::c_int,
    code: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let action = PREVIOUS.get().copied();
    let handler = action.map_or(libc::SIG_DFL, |action| action.sa_sigaction);
    // The kernel's own codes are positive; the others come from kill(2) and the like.
    let sent = code <= 0;
    if handler == libc::SIG_IGN && sent {
        return;
    }
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: a zeroed action is the default action. The access that faulted is repeated after the return, and ends
        // the process; a signal that was sent is sent again.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
            if sent {
                libc::raise(signal);
            }
        }
        return;
    }
    let with_info = action.is_some_and(|action| action.sa_flags & libc::SA_SIGINFO != 0);
    // SAFETY: the previous owner installed this address as the handler of SIGBUS, with this signature by SA_SIGINFO;
    // the arguments are those of the kernel.
    unsafe {
        if with_info {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            std::mem::transmute::<libc::sighandler_t, Handler>(handler)(signal, info, context);
        } else {
            type Handler = extern "C" fn(libc::c_int);
            std::mem::transmute::<libc::sighandler_t, Handler>(handler)(signal);
        }
    }
}
