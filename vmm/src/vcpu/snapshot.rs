//! The state of a vCPU at one moment, for a driver's author: where it is, and whether an interrupt can reach it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cafevm_devices::memory::GuestRam;
use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, kvm_sregs};
use kvm_ioctls::VcpuFd;

use crate::layout::PAGE;
use crate::x86::interrupts::{LocalApic, has};

/// RFLAGS.IF: interrupts are enabled.
const INTERRUPTS: u64 = 1 << 9;
/// The present bit, in byte 5 of an entry of the IDT.
const PRESENT: u8 = 1 << 7;
/// EFER.LMA: long mode, with entries of 16 bytes.
const LONG_MODE: u64 = 1 << 10;

/// The state of a vCPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) id: u32,
    pub(crate) rip: u64,
    /// Whether the processor accepts interrupts.
    pub(crate) accepts: bool,
    pub(crate) is_halted: bool,
    pub(crate) apic: LocalApic,
    /// The vectors with a present entry in the IDT, a bit each.
    pub(crate) handlers: [u32; 8],
}

impl Snapshot {
    /// Reads the state. None if KVM does not provide it, or the guest has not started this vCPU.
    fn read(id: u32, vcpu: &VcpuFd, ram: &GuestRam) -> Option<Self> {
        let state = vcpu.get_mp_state().ok()?.mp_state;
        if !matches!(state, KVM_MP_STATE_RUNNABLE | KVM_MP_STATE_HALTED) {
            return None;
        }
        let (regs, sregs) = (vcpu.get_regs().ok()?, vcpu.get_sregs().ok()?);
        Some(Self {
            id,
            rip: regs.rip,
            accepts: regs.rflags & INTERRUPTS != 0,
            is_halted: state == KVM_MP_STATE_HALTED,
            apic: LocalApic::of(&vcpu.get_lapic().ok()?),
            handlers: handlers(vcpu, ram, &sregs),
        })
    }

    /// Whether the IDT has a handler for `vector`.
    pub(crate) fn has_handler(&self, vector: u8) -> bool {
        has(&self.handlers, vector)
    }
}

/// The present entries of the IDT, as far as its memory is mapped and in RAM.
fn handlers(vcpu: &VcpuFd, ram: &GuestRam, sregs: &kvm_sregs) -> [u32; 8] {
    let entry = if sregs.efer & LONG_MODE != 0 { 16 } else { 8 };
    let (mut handlers, mut known) = ([0; 8], None);
    for vector in 0..=u8::MAX {
        let at = entry * u64::from(vector);
        if at + entry - 1 > sregs.idt.limit.into() {
            break;
        }
        let byte = sregs.idt.base.wrapping_add(at + 5);
        let page = byte - byte % PAGE;
        // A translation takes microseconds: one for each page.
        let place = match known {
            Some((known, place)) if known == page => place,
            _ => {
                let place = vcpu.translate_gva(page).ok().filter(|place| place.valid != 0);
                place.map(|place| place.physical_address)
            }
        };
        known = Some((page, place));
        let flags = place.map(|place| ram.read::<1>(place.saturating_add(byte % PAGE)));
        let present = flags.is_some_and(|flags| flags.is_ok_and(|[byte]| byte & PRESENT != 0));
        if present && let Some(word) = handlers.get_mut(usize::from(vector) / 32) {
            *word |= 1 << (vector % 32);
        }
    }
    handlers
}

/// The snapshots of all vCPUs. A vCPU makes one when it leaves its guest after a request, and at its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshots(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: AtomicBool,
    made: Mutex<Vec<Option<Snapshot>>>,
    changed: Condvar,
}

impl Snapshots {
    /// Requests a snapshot of each vCPU. The caller then kicks the vCPUs.
    pub(crate) fn request(&self) {
        self.made().clear();
        self.0.wanted.store(true, Ordering::Release);
    }

    /// Makes a snapshot if one was requested. The vCPU is outside its guest.
    pub(super) fn make(&self, id: u32, vcpu: &VcpuFd, ram: &GuestRam) {
        if self.0.wanted.load(Ordering::Acquire) {
            let snapshot = Snapshot::read(id, vcpu, ram);
            self.made().push(snapshot);
            self.0.changed.notify_all();
        }
    }

    /// Makes a snapshot of a vCPU that does not run again, whether or not one was requested: the vCPU may be faster than who
    /// ends the machine and then asks.
    pub(super) fn make_last(&self, id: u32, vcpu: &VcpuFd, ram: &GuestRam) {
        self.made().push(Snapshot::read(id, vcpu, ram));
    }

    /// The newest snapshot of each vCPU, when there are `count` of them or after `limit`. A vCPU that is in a device makes
    /// none.
    pub(crate) fn take(&self, count: usize, limit: Duration) -> Vec<Snapshot> {
        let until = Instant::now() + limit;
        let mut made = self.made();
        while made.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.changed.wait_timeout(made, left);
            made = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.0.wanted.store(false, Ordering::Release);
        let mut made: Vec<_> = std::mem::take(&mut *made).into_iter().flatten().collect();
        made.reverse();
        made.sort_by_key(|snapshot| snapshot.id);
        made.dedup_by_key(|snapshot| snapshot.id);
        made
    }

    fn made(&self) -> MutexGuard<'_, Vec<Option<Snapshot>>> {
        self.0.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
