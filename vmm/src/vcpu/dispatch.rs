//! Handles exits of the guest: a function of the exit and the devices.

use cafevm_devices::bus::Bus;
use cafevm_devices::observe::Tap;
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::VcpuExit;

use crate::vcpu::unclaimed::Unclaimed;
use crate::x86::access::{Access, Space};
use crate::x86::crash::Cause;
use crate::x86::debug::DebugExit;
use crate::x86::outcome::Outcome;
use crate::x86::power;

/// The two address spaces of a machine.
#[derive(Debug, Default)]
pub struct Buses {
    /// Memory-mapped registers.
    pub mmio: Bus,
    /// Ports.
    pub pio: Bus,
    /// Counts the guest's reports of panics.
    pub(crate) crash_kernels: power::CrashKernels,
    /// Reports accesses without a device.
    pub(crate) unclaimed: Unclaimed,
}

impl Buses {
    /// Two address spaces without devices. Observers see their accesses as those of "memory" and "ports".
    pub(crate) fn observed(tap: &Tap) -> Self {
        let bus = |name| Bus::observed(name, tap.clone());
        Self { mmio: bus("memory"), pio: bus("ports"), ..Self::default() }
    }

    /// Reports an access without a device; `rip` is called only if a line is logged.
    pub(crate) fn report_unclaimed(&self, access: &Access, rip: impl FnOnce() -> Option<u64>) {
        let bus = match access.space {
            Space::Memory => &self.mmio,
            Space::Port => &self.pio,
        };
        self.unclaimed.report(access, bus, rip);
    }
}

/// Handles one exit.
pub fn dispatch(exit: VcpuExit<'_>, buses: &Buses) -> Outcome {
    match exit {
        VcpuExit::MmioRead(addr, data) => {
            let claimed = buses.mmio.read(addr, data);
            proceed(claimed, || Access::read(Space::Memory, addr, data.len()))
        }
        VcpuExit::MmioWrite(addr, data) => {
            let claimed = buses.mmio.write(addr, data);
            proceed(claimed, || Access::write(Space::Memory, addr, data))
        }
        VcpuExit::IoIn(port, data) => port_read(port, data, buses),
        VcpuExit::IoOut(port, data) => port_write(port, data, buses),
        // With the interrupt controller in the kernel, a halted vCPU waits there; and a signal is not caused by the
        // guest.
        VcpuExit::Hlt | VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::SetTpr => {
            Outcome::Continue
        }
        VcpuExit::Debug(exit) => Outcome::Debug(DebugExit { dr6: exit.dr6, pc: exit.pc }),
        VcpuExit::Shutdown => Outcome::Crash(Cause::TripleFault),
        VcpuExit::InternalError => Outcome::Crash(Cause::internal()),
        VcpuExit::FailEntry(reason, _) => Outcome::Crash(Cause::EntryFailed { reason }),
        VcpuExit::MemoryFault { gpa, size, .. } => Outcome::Crash(Cause::Memory { gpa, size }),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => Outcome::PowerOff,
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Outcome::Reset,
        other => Outcome::Crash(Cause::Unknown { exit: format!("{other:?}") }),
    }
}

/// The machine continues, also after an access without a device.
fn proceed(claimed: bool, access: impl FnOnce() -> Access) -> Outcome {
    if claimed { Outcome::Continue } else { Outcome::Unclaimed(access()) }
}

/// Reads from a port. KVM reports a wide read and a string of narrow reads in the same way. No port here is wider than
/// a byte, so it counts as a string: each byte is read from the same port.
fn port_read(port: u16, data: &mut [u8], buses: &Buses) -> Outcome {
    if let Some(value) = power::read(port) {
        data.fill(value);
        return Outcome::Continue;
    }
    let (port, mut claimed) = (u64::from(port), true);
    for byte in &mut *data {
        claimed &= buses.pio.read(port, std::slice::from_mut(byte));
    }
    let width = if matches!(data.len(), 2 | 4) { data.len() } else { 1 };
    proceed(claimed, || Access::read(Space::Port, port, width))
}

fn port_write(port: u16, data: &[u8], buses: &Buses) -> Outcome {
    if let Some(outcome) = power::write(port, data, &buses.crash_kernels) {
        return outcome;
    }
    let port = u64::from(port);
    // More bytes than one access can have: a string of bytes.
    let step = if matches!(data.len(), 2 | 4) { data.len() } else { 1 };
    let mut unclaimed = None;
    for item in data.chunks(step) {
        if !buses.pio.write(port, item) {
            unclaimed.get_or_insert(item);
        }
    }
    proceed(unclaimed.is_none(), || Access::write(Space::Port, port, unclaimed.unwrap_or_default()))
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
