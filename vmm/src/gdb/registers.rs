//! The registers of a vCPU as gdb numbers them, and back.

use std::array;

use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};

use crate::vcpu::debugger::Registers;

/// Copies a vCPU's registers for gdb.
pub(super) fn to_gdb(from: &Registers, to: &mut X86_64CoreRegs) {
    let Registers { regs, sregs, fpu, .. } = from;
    to.regs = [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ];
    to.rip = regs.rip;
    // The upper half is reserved.
    to.eflags = low(regs.rflags);
    let [cs, ss, ds, es, fs, gs] =
        [&sregs.cs, &sregs.ss, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs]
            .map(|segment| segment.selector.into());
    to.segments = X86SegmentRegs { cs, ss, ds, es, fs, gs };
    to.st = fpu.fpr.map(|[a @ .., _, _, _, _, _, _]| a);
    to.fpu = X87FpuInternalRegs {
        fctrl: fpu.fcw.into(),
        fstat: fpu.fsw.into(),
        ftag: full_tags(fpu.ftwx),
        fop: fpu.last_opcode.into(),
        fioff: low(fpu.last_ip),
        fooff: low(fpu.last_dp),
        ..X87FpuInternalRegs::default()
    };
    to.xmm = fpu.xmm.map(u128::from_le_bytes);
    to.mxcsr = fpu.mxcsr;
}

/// Copies the registers that gdb may have changed. Segments stay: a selector without its descriptor has no meaning.
pub(super) fn from_gdb(from: &X86_64CoreRegs, to: &mut Registers) {
    let Registers { regs, fpu, .. } = to;
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ] = from.regs;
    regs.rip = from.rip;
    regs.rflags = from.eflags.into();
    for (to, from) in fpu.fpr.iter_mut().zip(&from.st) {
        *to = array::from_fn(|at| from.get(at).copied().unwrap_or(0));
    }
    fpu.fcw = word(from.fpu.fctrl);
    fpu.fsw = word(from.fpu.fstat);
    fpu.ftwx = short_tags(from.fpu.ftag);
    fpu.last_opcode = word(from.fpu.fop);
    fpu.xmm = from.xmm.map(u128::to_le_bytes);
    fpu.mxcsr = from.mxcsr;
}

/// The tag word of the x87 from KVM's short form, a bit a register: 0 is empty, gdb's 11.
fn full_tags(short: u8) -> u32 {
    (0..8).filter(|n| short & 1 << n == 0).map(|n| 0b11 << (2 * n)).sum()
}

fn short_tags(full: u32) -> u8 {
    (0..8).filter(|n| full >> (2 * n) & 0b11 != 0b11).map(|n| 1 << n).sum()
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn word(value: u32) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gdb_reads_it_can_write_back() {
        let mut registers = Registers::default();
        registers.regs.rax = 0x1122_3344_5566_7788;
        registers.regs.r15 = 15;
        registers.regs.rip = 0xffff_8000_0010_0000;
        registers.regs.rflags = 0x202;
        registers.sregs.cs.selector = 8;
        registers.fpu.fpr[7][..10].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        registers.fpu.ftwx = 0b1000_0001;
        registers.fpu.xmm[15] = [0xab; 16];
        registers.fpu.mxcsr = 0x1f80;
        let mut seen = X86_64CoreRegs::default();
        to_gdb(&registers, &mut seen);
        assert_eq!((seen.regs[0], seen.regs[15]), (0x1122_3344_5566_7788, 15));
        assert_eq!((seen.rip, seen.eflags, seen.segments.cs), (0xffff_8000_0010_0000, 0x202, 8));
        assert_eq!((seen.st[7][9], seen.fpu.ftag), (10, 0x3ffc));
        let mut back = Registers { sregs: registers.sregs, ..Registers::default() };
        from_gdb(&seen, &mut back);
        assert_eq!((back.regs, back.fpu), (registers.regs, registers.fpu));
    }
}
