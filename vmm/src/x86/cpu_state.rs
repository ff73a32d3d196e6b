//! The initial registers of the first vCPU. The others wait until the guest starts them.

use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;

use crate::boot::tables::{
    CODE_SELECTOR, DATA, DATA_SELECTOR, Descriptor, GDT_LIMIT, TASK, TASK_SELECTOR, code,
};
use crate::boot::{Entry, Start};
use crate::error::HostError;
use crate::layout::{GDT, PAGE_TABLES, STACK};

const CR0_PROTECTED: u64 = 1 << 0;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_ENABLED: u64 = 1 << 8;
const EFER_LONG_ACTIVE: u64 = 1 << 10;
/// The one bit of rflags that is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// Sets the vCPU to the state of the kernel's entry: PVH (Xen, `docs/misc/pvh.pandoc`) or Linux's 64-bit boot protocol.
/// Interrupts are off in both.
///
/// # Errors
///
/// If KVM refuses.
pub(crate) fn set(vcpu: &VcpuFd, start: Start) -> Result<(), HostError> {
    let mut s = vcpu.get_sregs().map_err(HostError::kvm("read a vCPU's segments"))?;
    s.gdt.base = GDT.start;
    s.gdt.limit = GDT_LIMIT;
    s.idt.base = 0;
    s.idt.limit = 0;
    s.cs = segment(code(start.entry), CODE_SELECTOR);
    let data = segment(DATA, DATA_SELECTOR);
    (s.ds, s.es, s.fs, s.gs, s.ss) = (data, data, data, data, data);
    s.tr = segment(TASK, TASK_SELECTOR);
    match start.entry {
        Entry::Pvh(_) => {
            (s.cr0, s.cr3, s.cr4, s.efer) = (CR0_PROTECTED, 0, 0, 0);
        }
        Entry::Long(_) => {
            s.cr0 = CR0_PROTECTED | CR0_PAGING;
            s.cr3 = PAGE_TABLES.start;
            s.cr4 = CR4_PAE;
            s.efer = EFER_LONG_ENABLED | EFER_LONG_ACTIVE;
        }
    }
    vcpu.set_sregs(&s).map_err(HostError::kvm("set a vCPU's segments"))?;
    vcpu.set_regs(&general(start)).map_err(HostError::kvm("set a vCPU's registers"))
}

fn general(start: Start) -> kvm_regs {
    let regs = kvm_regs { rflags: RFLAGS_RESERVED, rsp: STACK.end, ..kvm_regs::default() };
    match start.entry {
        Entry::Pvh(rip) => kvm_regs { rip, rbx: start.info, ..regs },
        Entry::Long(rip) => kvm_regs { rip, rsi: start.info, ..regs },
    }
}

/// The registers of a segment that a processor derives from its descriptor (Intel SDM volume 3, 3.4.5).
fn segment(descriptor: Descriptor, selector: u16) -> kvm_segment {
    let bits = |from: u32, count: u32| (descriptor >> from) & ((1 << count) - 1);
    let bit = |at: u32| u8::from(bits(at, 1) != 0);
    let byte = |value: u64| value.to_le_bytes()[0];
    let pages = bits(55, 1) != 0;
    let limit = bits(0, 16) | (bits(48, 4) << 16);
    let limit = if pages { (limit << 12) | 0xfff } else { limit };
    kvm_segment {
        base: bits(16, 24) | (bits(56, 8) << 24),
        // At most 32 bits, because of the shift above.
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        selector,
        type_: byte(bits(40, 4)),
        s: bit(44),
        dpl: byte(bits(45, 2)),
        present: bit(47),
        avl: bit(52),
        l: bit(53),
        db: bit(54),
        g: u8::from(pages),
        unusable: 0,
        ..kvm_segment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::tables::{CODE_32, CODE_64};

    #[test]
    fn descriptors_become_flat_segments() {
        let s = segment(CODE_32, 0x10);
        assert_eq!((s.base, s.limit, s.type_, s.s, s.present), (0, 0xffff_ffff, 0xb, 1, 1));
        assert_eq!((s.db, s.l, s.g, s.dpl, s.selector), (1, 0, 1, 0, 0x10));
        let s = segment(CODE_64, 0x10);
        assert_eq!((s.db, s.l), (0, 1));
        let s = segment(DATA, 0x18);
        assert_eq!((s.limit, s.type_, s.db), (0xffff_ffff, 3, 1));
        let s = segment(TASK, 0x20);
        assert_eq!((s.limit, s.type_, s.s, s.present, s.g), (0x67, 0xb, 0, 1, 0));
    }

    #[test]
    fn the_kernel_finds_what_it_is_told() {
        let regs = general(Start { entry: Entry::Pvh(0x20_0000), info: 0x6000 });
        assert_eq!((regs.rip, regs.rbx, regs.rsi, regs.rflags), (0x20_0000, 0x6000, 0, 2));
        let regs = general(Start { entry: Entry::Long(0x20_0000), info: 0x7000 });
        assert_eq!((regs.rip, regs.rbx, regs.rsi, regs.rflags), (0x20_0000, 0, 0x7000, 2));
    }
}
