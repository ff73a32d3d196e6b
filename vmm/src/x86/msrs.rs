//! Model-specific registers that firmware sets before a kernel runs, for which KVM may have another default.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd};
use tracing::debug;

/// IA32_MISC_ENABLE (Intel SDM volume 4, table 2-2).
const MISC_ENABLE: u32 = 0x1a0;
/// Bit 0: fast string operations. If it is 0, Linux on Intel clears ERMS and REP_GOOD from the processor's features,
/// and copies memory slowly.
const FAST_STRINGS: u64 = 1 << 0;

/// Whether this host's KVM has IA32_MISC_ENABLE.
pub(crate) fn has_misc_enable(kvm: &Kvm) -> bool {
    match kvm.get_msr_index_list() {
        Ok(list) => list.as_slice().contains(&MISC_ENABLE),
        Err(error) => {
            debug!("KVM does not list its MSRs: {error}");
            false
        }
    }
}

/// Turns on fast strings for vCPU `id`, and keeps the other bits of IA32_MISC_ENABLE. A guest runs without them, but
/// slower, so it is no error if KVM refuses.
pub(crate) fn enable_fast_strings(vcpu: &VcpuFd, id: u32) {
    match try_enable(vcpu) {
        Ok(value) => debug!("vCPU {id}: IA32_MISC_ENABLE is {value:#x}"),
        Err(why) => debug!("vCPU {id}: KVM does not set IA32_MISC_ENABLE ({why})"),
    }
}

/// The value that the guest finds.
fn try_enable(vcpu: &VcpuFd) -> Result<u64, String> {
    let one = kvm_msr_entry { index: MISC_ENABLE, ..kvm_msr_entry::default() };
    let mut msrs = Msrs::from_entries(&[one]).map_err(|error| format!("{error:?}"))?;
    // Both calls return the number of registers that they processed.
    match (vcpu.get_msrs(&mut msrs), msrs.as_mut_slice()) {
        (Ok(1), [entry]) => entry.data |= FAST_STRINGS,
        (Err(error), _) => return Err(error.to_string()),
        _ => return Err("it cannot be read".to_owned()),
    }
    match (vcpu.set_msrs(&msrs), msrs.as_slice()) {
        (Ok(1), [entry]) => Ok(entry.data),
        (Err(error), _) => Err(error.to_string()),
        _ => Err("the value is refused".to_owned()),
    }
}
