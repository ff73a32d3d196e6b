//! Accesses of the guest that no device owns: told, as a wrong base address is a beginner's commonest mistake.
//!
//! Each address is told once for reads and once for writes, at most five lines in a machine's life; the rest
//! is counted, and the count comes at the end. What stock kernels touch on any PC without asking whether the device is
//! there is not told (`x86/access.rs`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cafevm_devices::bus::Bus;
use tracing::warn;

use crate::layout;
use crate::x86::access::{Access, Space};

/// How many accesses of one machine get a line.
const MOST_LINES: usize = 5;

/// Tells of the accesses in one machine that no device owns.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed {
    /// Each access that got a line, by its key.
    told: Mutex<Vec<(Space, u64, bool)>>,
    /// All accesses but those to addresses that stock kernels probe.
    count: AtomicU64,
    /// The built-in shell looks for svirtb where no disk has it: that is no mistake.
    pub(crate) looks_for_svirtb: bool,
}

impl Unclaimed {
    /// Counts an access that no device on `bus` owns, and logs it unless enough was said. `rip` is asked for the
    /// guest's instruction pointer only where a line is written.
    pub(crate) fn tell(&self, access: &Access, bus: &Bus, rip: impl FnOnce() -> Option<u64>) {
        if self.is_new(access) {
            let line = line(access, bus, rip());
            warn!("{line}");
        }
    }

    /// Counts an access; whether it is to be told.
    fn is_new(&self, access: &Access) -> bool {
        let looks = self.looks_for_svirtb && access.written.is_none();
        if access.is_probe() || looks && layout::SVIRTB.contains(&access.addr) {
            return false;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = told.len() < MOST_LINES && !told.contains(&access.key());
        if is_new {
            told.push(access.key());
        }
        is_new
    }

    /// What to say at the end; none where each access got its line.
    fn summary(&self) -> Option<String> {
        let lines = self.told.lock().unwrap_or_else(PoisonError::into_inner).len();
        let count = self.count.load(Ordering::Relaxed);
        (u64::try_from(lines).is_ok_and(|lines| lines < count)).then(|| {
            format!("the guest made {count} accesses in all that no device owns; {lines} of them are shown above")
        })
    }
}

/// The machine's end: the last vCPU lets go of its buses.
impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(summary) = self.summary() {
            warn!("{summary}");
        }
    }
}

/// One access in words. KVM has moved rip behind some writes already, but never behind a read of memory.
fn line(access: &Access, bus: &Bus, rip: Option<u64>) -> String {
    let rip = match (rip, access.space, access.written) {
        (None, ..) => "unknown rip".to_owned(),
        (Some(rip), Space::Memory, None) => format!("rip {rip:#x}"),
        (Some(rip), ..) => format!("rip {rip:#x} or the instruction before"),
    };
    let effect = if access.written.is_some() {
        "the write has no effect"
    } else {
        "the guest gets all ones"
    };
    let advice = match access.space {
        Space::Memory if layout::SVIRTB.contains(&access.addr) => {
            "this is svirtb's address, so attach a disk with bus=svirtb"
        }
        Space::Memory => "check the driver's base address and offsets",
        Space::Port => "check the port's number",
    };
    let Some(near) = bus.nearest(access.addr) else {
        return format!("the guest {access} ({rip}), and there is no device; {effect}");
    };
    let (name, first, last) = (near.name, near.range.start(), near.range.end());
    let end = access.addr.saturating_add((access.width as u64).saturating_sub(1));
    let place = if access.addr <= *last && *first <= end {
        format!("which is only partly inside {name} at {first:#x} to {last:#x}")
    } else {
        format!("where no device is; the nearest is {name} at {first:#x} to {last:#x}")
    };
    format!("the guest {access} ({rip}), {place}; {effect}: {advice}")
}

#[cfg(test)]
#[path = "unclaimed_tests.rs"]
mod tests;
