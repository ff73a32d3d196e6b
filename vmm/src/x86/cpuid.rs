//! The CPUID leaves of a vCPU: the features that KVM supports, with the vCPU's number and the machine's topology (one
//! socket, one thread for each core).
//!
//! Leaves and fields: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

const FEATURES: u32 = 0x1;
const CACHES: u32 = 0x4;
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_TOPOLOGY: u32 = 0x8000_001e;

/// In leaf 1: ecx.
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// In leaf 1: edx. "More than one logical processor".
const HTT: u32 = 1 << 28;

/// The physical address bits if the processor does not state them.
const DEFAULT_ADDRESS_BITS: u32 = 36;

/// The number of bits of a physical address.
pub(crate) fn address_bits(supported: &[kvm_cpuid_entry2]) -> u32 {
    let leaf = supported.iter().find(|e| e.function == AMD_SIZES);
    leaf.map(|e| e.eax & 0xff).filter(|&bits| bits > 0).unwrap_or(DEFAULT_ADDRESS_BITS)
}

/// The entries for vCPU `id` of `cpus`; the APIC id is the number.
pub(crate) fn for_vcpu(
    supported: &[kvm_cpuid_entry2],
    id: u32,
    cpus: u32,
    tsc_deadline: bool,
) -> Vec<kvm_cpuid_entry2> {
    let mut entries = Vec::with_capacity(supported.len() + 3);
    for entry in supported {
        let mut e = *entry;
        match e.function {
            FEATURES => {
                // Bits 8 to 15 are the size of a cache line.
                e.ebx = (e.ebx & 0xffff) | (cpus.min(255) << 16) | (id << 24);
                e.ecx |= HYPERVISOR;
                set(&mut e.ecx, TSC_DEADLINE, tsc_deadline);
                set(&mut e.edx, HTT, cpus > 1);
            }
            CACHES if e.eax & 0x1f != 0 => {
                let level = (e.eax >> 5) & 0x7;
                let sharing = if level >= 3 { cpus } else { 1 };
                let cores = cpus.min(64);
                e.eax = (e.eax & 0x3fff) | ((sharing.min(4096) - 1) << 14) | ((cores - 1) << 26);
            }
            // Rebuilt below.
            TOPOLOGY | TOPOLOGY_V2 => continue,
            // The number of cores; the width of a core's number is the smallest that fits.
            AMD_SIZES => e.ecx = cpus.min(256) - 1,
            AMD_TOPOLOGY => {
                e.eax = id;
                e.ebx = id & 0xff;
                e.ecx = 0;
            }
            _ => {}
        }
        entries.push(e);
    }
    for leaf in [TOPOLOGY, TOPOLOGY_V2] {
        if supported.iter().any(|e| e.function == leaf) {
            entries.extend(topology(leaf, id, cpus));
        }
    }
    entries
}

const fn set(register: &mut u32, bit: u32, on: bool) {
    if on {
        *register |= bit;
    } else {
        *register &= !bit;
    }
}

/// Threads, then cores, then the end of the list.
fn topology(leaf: u32, id: u32, cpus: u32) -> [kvm_cpuid_entry2; 3] {
    let core_bits = cpus.next_power_of_two().trailing_zeros();
    // Index, bits to shift an APIC id by, logical processors, kind of level.
    let level = |index: u32, shift: u32, processors: u32, kind: u32| kvm_cpuid_entry2 {
        function: leaf,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: index | (kind << 8),
        edx: id,
        ..kvm_cpuid_entry2::default()
    };
    [level(0, 0, 1, 1), level(1, core_bits, cpus, 2), level(2, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, ..kvm_cpuid_entry2::default() }
    }

    #[test]
    fn each_vcpu_has_its_own_apic_id_everywhere() {
        let mut features = leaf(FEATURES);
        features.ebx = 0x1234_0800;
        let supported = [features, leaf(TOPOLOGY), leaf(AMD_TOPOLOGY)];
        let entries = for_vcpu(&supported, 3, 6, true);
        assert_eq!(entries[0].ebx, 0x0306_0800);
        assert_eq!(entries[0].ecx & (TSC_DEADLINE | HYPERVISOR), TSC_DEADLINE | HYPERVISOR);
        assert_ne!(entries[0].edx & HTT, 0);
        assert_eq!(entries[1].eax, 3);
        let levels: Vec<_> = entries.iter().filter(|e| e.function == TOPOLOGY).collect();
        assert_eq!(
            levels.iter().map(|e| (e.eax, e.ebx, e.ecx, e.edx)).collect::<Vec<_>>(),
            [(0, 1, 0x100, 3), (3, 6, 0x201, 3), (0, 0, 0x002, 3)]
        );
        assert!(
            entries.iter().all(|e| e.function != TOPOLOGY_V2),
            "a leaf KVM has not is not made up"
        );
    }

    #[test]
    fn one_vcpu_is_alone() {
        let mut features = leaf(FEATURES);
        features.edx = HTT;
        let entries = for_vcpu(&[features], 0, 1, false);
        assert_eq!(entries[0].edx & HTT, 0);
        assert_eq!(entries[0].ecx & TSC_DEADLINE, 0);
    }

    #[test]
    fn address_bits_are_read_or_assumed() {
        let mut sizes = leaf(AMD_SIZES);
        sizes.eax = 0x3030;
        assert_eq!(address_bits(&[sizes]), 48);
        assert_eq!(address_bits(&[]), 36);
    }
}
