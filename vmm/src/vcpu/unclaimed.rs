//! Reports accesses of the guest to addresses without a device: a wrong base address is the most frequent mistake of
//! beginners.
//!
//! Each address is logged once for reads and once for writes, at most five lines for a machine; further accesses are
//! counted, and the count is logged at the end. Addresses that stock kernels access on every PC without a check are
//! left out (`x86/access.rs`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cafevm_devices::bus::Bus;
use cafevm_devices::catalogue;
use cafevm_devices::doctor::Doctor;
use tracing::warn;

use crate::layout;
use crate::x86::access::{Access, Space};

/// The most lines for one machine.
const MOST_LINES: usize = 5;

/// Reports the accesses of one machine without a device.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed {
    /// The accesses that were logged, by key.
    logged: Mutex<Vec<(Space, u64, bool)>>,
    /// All accesses, except for those to addresses that stock kernels probe.
    count: AtomicU64,
    /// The built-in shell probes svirtb's address; that is no mistake.
    pub(crate) looks_for_svirtb: bool,
    /// Reports accesses to memory instead of the log.
    pub(crate) doctor: Option<Arc<Doctor>>,
}

impl Unclaimed {
    /// Counts an access without a device on `bus`, and logs it unless the limit is reached. `rip` returns the guest's
    /// instruction pointer; it is called only if a line is logged.
    pub(crate) fn report(&self, access: &Access, bus: &Bus, rip: impl FnOnce() -> Option<u64>) {
        if self.is_new(access) {
            let line = line(access, bus, rip());
            match &self.doctor {
                Some(doctor) if access.space == Space::Memory => {
                    doctor.report(&Arc::from("memory"), catalogue::NO_DEVICE, &line);
                }
                _ => warn!("{line}"),
            }
        }
    }

    /// Counts an access. Returns whether to log it.
    fn is_new(&self, access: &Access) -> bool {
        let looks = self.looks_for_svirtb && access.written.is_none();
        if access.is_probe() || looks && layout::SVIRTB.contains(&access.addr) {
            return false;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = logged.len() < MOST_LINES && !logged.contains(&access.key());
        if is_new {
            logged.push(access.key());
        }
        is_new
    }

    /// The line for the end of the machine; none if every access was logged.
    fn summary(&self) -> Option<String> {
        let lines = self.logged.lock().unwrap_or_else(PoisonError::into_inner).len();
        let count = self.count.load(Ordering::Relaxed);
        (u64::try_from(lines).is_ok_and(|lines| lines < count)).then(|| {
            format!("the guest made {count} accesses to addresses without a device; {lines} of them are logged above")
        })
    }
}

/// The machine ends: the last vCPU drops its buses.
impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(summary) = self.summary() {
            warn!("{summary}");
        }
    }
}

/// Describes one access. KVM has already advanced rip at some writes, but never at a read of memory.
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
