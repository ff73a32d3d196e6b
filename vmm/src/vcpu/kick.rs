//! The flag with which another thread makes a vCPU leave its guest, even if it has not entered it yet.
//!
//! A signal that arrives just before KVM_RUN is lost. So a kick first sets `immediate_exit` in the `kvm_run` that the
//! vCPU shares with KVM, then sends the signal: KVM_RUN returns EINTR, now or at its next call. Only the vCPU's thread
//! clears the flag, after such a return and before it checks why it was kicked.
#![expect(unsafe_code, reason = "the flag lies in a mapping that KVM shares with this process")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_ioctls::VcpuFd;

/// `immediate_exit` of a vCPU, while the vCPU exists.
#[derive(Debug)]
pub(crate) struct ExitFlag(Mutex<Option<Shared>>);

#[derive(Debug, Clone, Copy)]
struct Shared(NonNull<AtomicU8>);

// SAFETY: the pointer is used only as an `&AtomicU8`, which may be used on any thread. `ExitFlag` ensures that it is
// valid.
unsafe impl Send for Shared {}

impl ExitFlag {
    /// The flag of `vcpu`. Call [`ExitFlag::revoke`] before the vCPU is dropped.
    pub(crate) fn of(vcpu: &mut VcpuFd) -> Self {
        let flag = &raw mut vcpu.get_kvm_run().immediate_exit;
        Self(Mutex::new(NonNull::new(flag.cast()).map(Shared)))
    }

    /// Revokes the flag before the vCPU is dropped: it is not accessed after this.
    pub(crate) fn revoke(&self) {
        *self.shared() = None;
    }

    /// Makes KVM_RUN return EINTR, now or at its next call.
    pub(crate) fn set(&self) {
        self.store(1);
    }

    /// Clears the flag. Everything written before it was set is visible after this.
    pub(crate) fn clear(&self) {
        self.store(0);
    }

    fn store(&self, value: u8) {
        if let Some(Shared(flag)) = *self.shared() {
            // SAFETY: the pointer is to a byte of the `kvm_run` that a `VcpuFd` has mapped and unmaps when it is dropped.
            // `Vcpu::run` revokes the flag before that, under the lock that is held here, so the byte is mapped. KVM and
            // this function alone access the byte: no code of cafevm's or of kvm-ioctls' reads or writes
            // `immediate_exit` in another way while the vCPU runs (`set_kvm_immediate_exit` is not used). An `AtomicU8`
            // is as large and as aligned as the byte.
            unsafe { flag.as_ref() }.store(value, Ordering::SeqCst);
        }
    }

    fn shared(&self) -> MutexGuard<'_, Option<Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
