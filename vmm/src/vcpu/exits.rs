//! Counts exits by kind.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_ioctls::VcpuExit;

/// The number of exits by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exits {
    /// Reads of memory-mapped registers.
    pub mmio_read: u64,
    /// Writes to memory-mapped registers.
    pub mmio_write: u64,
    /// Reads from ports.
    pub port_in: u64,
    /// Writes to ports.
    pub port_out: u64,
    /// Returns because of a signal, or of a vCPU that waits to be started.
    pub interrupted: u64,
    /// All others.
    pub other: u64,
}

impl Exits {
    /// Each kind with its name.
    pub const fn by_kind(self) -> [(&'static str, u64); 6] {
        let Self { mmio_read, mmio_write, port_in, port_out, interrupted, other } = self;
        [
            ("mmio read", mmio_read),
            ("mmio write", mmio_write),
            ("port read", port_in),
            ("port write", port_out),
            ("interrupted", interrupted),
            ("other", other),
        ]
    }

    /// The sum.
    pub const fn total(&self) -> u64 {
        let Self { mmio_read, mmio_write, port_in, port_out, interrupted, other } = *self;
        mmio_read + mmio_write + port_in + port_out + interrupted + other
    }

    /// Adds the exits of another vCPU.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            mmio_read: self.mmio_read + other.mmio_read,
            mmio_write: self.mmio_write + other.mmio_write,
            port_in: self.port_in + other.port_in,
            port_out: self.port_out + other.port_out,
            interrupted: self.interrupted + other.interrupted,
            other: self.other + other.other,
        }
    }
}

impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mmio_read, mmio_write, port_in, port_out, interrupted, other } = self;
        write!(
            f,
            "{} exits: {mmio_read} register reads, {mmio_write} register writes, {port_in} port reads, \
             {port_out} port writes, {interrupted} interruptions, {other} other",
            self.total()
        )
    }
}

/// The exits of one vCPU. Its thread counts them, and any thread may read them.
#[derive(Debug, Default)]
pub struct ExitCounters {
    mmio_read: AtomicU64,
    mmio_write: AtomicU64,
    port_in: AtomicU64,
    port_out: AtomicU64,
    interrupted: AtomicU64,
    other: AtomicU64,
}

impl ExitCounters {
    /// Counts one exit.
    pub fn count(&self, exit: &VcpuExit<'_>) {
        add_one(match exit {
            VcpuExit::MmioRead(..) => &self.mmio_read,
            VcpuExit::MmioWrite(..) => &self.mmio_write,
            VcpuExit::IoIn(..) => &self.port_in,
            VcpuExit::IoOut(..) => &self.port_out,
            VcpuExit::Intr => &self.interrupted,
            _ => &self.other,
        });
    }

    /// Counts a return without an exit of the guest.
    pub(crate) fn interrupted(&self) {
        add_one(&self.interrupted);
    }

    /// Counts an exit of an unknown kind.
    pub(crate) fn other(&self) {
        add_one(&self.other);
    }

    /// The exits so far.
    pub fn get(&self) -> Exits {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Self { mmio_read, mmio_write, port_in, port_out, interrupted, other } = self;
        Exits {
            mmio_read: get(mmio_read),
            mmio_write: get(mmio_write),
            port_in: get(port_in),
            port_out: get(port_out),
            interrupted: get(interrupted),
            other: get(other),
        }
    }
}

/// Only the vCPU's thread writes, so no atomic read-modify-write is needed.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_is_counted_under_one_kind() {
        let exits = ExitCounters::default();
        exits.count(&VcpuExit::MmioRead(0, &mut []));
        exits.count(&VcpuExit::MmioWrite(0, &[]));
        exits.count(&VcpuExit::IoIn(0, &mut []));
        exits.count(&VcpuExit::IoOut(0, &[]));
        exits.count(&VcpuExit::Intr);
        exits.count(&VcpuExit::Shutdown);
        let one = Exits {
            mmio_read: 1,
            mmio_write: 1,
            port_in: 1,
            port_out: 1,
            interrupted: 1,
            other: 1,
        };
        let exits = exits.get();
        assert_eq!(exits, one);
        assert_eq!((exits.total(), exits.plus(one).total()), (6, 12));
        assert!(exits.by_kind().iter().all(|(_, count)| *count == 1));
    }
}
