//! A guest that cannot continue: the reason in plain words, and the processor's registers.
#![expect(unsafe_code, reason = "KVM reports what failed in a union of its run structure")]

use std::fmt;

use cafevm_devices::memory::GuestRam;
use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, kvm_regs, kvm_segment, kvm_sregs,
};
use kvm_ioctls::VcpuFd;

/// Why a guest cannot continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// An exception during the delivery of a double fault.
    TripleFault,
    /// The guest's kernel reported a panic through pvpanic.
    Panic,
    /// A Linux guest reset the machine as it does after a panic.
    ResetInEmergency,
    /// KVM cannot continue the guest (KVM_EXIT_INTERNAL_ERROR).
    Internal {
        /// KVM's number for the failure.
        suberror: Option<u32>,
        /// The bytes of the instruction, if KVM provides them.
        instruction: Vec<u8>,
    },
    /// The processor rejected the vCPU's state.
    EntryFailed {
        /// The processor's own reason.
        reason: u64,
    },
    /// The host could not provide a page of guest RAM.
    Memory {
        /// The guest-physical address.
        gpa: u64,
        /// The size in bytes.
        size: u64,
    },
    /// KVM_RUN failed.
    Run {
        /// The host's error.
        error: String,
    },
    /// An exit that cafevm does not know.
    Unknown {
        /// Its name.
        exit: String,
    },
}

impl Cause {
    /// An internal error without further details yet.
    pub const fn internal() -> Self {
        Self::Internal { suberror: None, instruction: Vec::new() }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TripleFault => f.write_str(
                "triple fault: an exception came while a double fault was being delivered \
                 (is there a valid IDT, stack and page table?)",
            ),
            Self::Panic => f.write_str("its kernel panicked (and reported it through pvpanic); see its console"),
            Self::ResetInEmergency => f.write_str(
                "its kernel reset the machine without shutting it down, as Linux does after a panic \
                 (or SysRq-B, or with reboot=force); see its console",
            ),
            Self::Internal { suberror, instruction } => {
                let why = match *suberror {
                    Some(KVM_INTERNAL_ERROR_EMULATION) => "it could not emulate an instruction",
                    Some(KVM_INTERNAL_ERROR_SIMUL_EX) => "two exceptions came at once",
                    Some(KVM_INTERNAL_ERROR_DELIVERY_EV) => {
                        "an exit came while an event was being delivered"
                    }
                    Some(KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON) => {
                        "the processor left the guest for a reason it does not know"
                    }
                    _ => "it gave no reason",
                };
                write!(f, "KVM gave up: {why}")?;
                if let Some(suberror) = suberror {
                    write!(f, " (internal error, suberror {suberror}")?;
                    if !instruction.is_empty() {
                        write!(f, ", instruction bytes {}", Hex(instruction))?;
                    }
                    f.write_str(")")?;
                }
                Ok(())
            }
            Self::EntryFailed { reason } => write!(
                f,
                "the processor refused to enter the guest: its state is not valid (hardware reason {reason:#x})"
            ),
            Self::Memory { gpa, size } => {
                write!(f, "the host could not provide {size} bytes of guest memory at {gpa:#x}")
            }
            Self::Run { error } => write!(f, "KVM could not run the guest: {error}"),
            Self::Unknown { exit } => {
                write!(f, "KVM left the guest in a way that cafevm does not know: {exit}")
            }
        }
    }
}

/// A crash: the vCPU, the reason, and the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The vCPU's number.
    pub cpu: u32,
    /// The reason.
    pub cause: Cause,
    /// Its registers as text, several lines without a final newline.
    pub registers: String,
}

impl Crash {
    /// Collects the state.
    pub fn examine(cpu: u32, cause: Cause, vcpu: &mut VcpuFd, ram: &GuestRam) -> Self {
        let cause = match cause {
            Cause::Internal { .. } => internal_error(vcpu),
            other => other,
        };
        let registers = match (vcpu.get_regs(), vcpu.get_sregs()) {
            (Ok(regs), Ok(sregs)) => {
                let code = code_at(vcpu, ram, linear_rip(&regs, &sregs));
                let beyond = cause == Cause::TripleFault && is_beyond(vcpu, ram, &sregs);
                Registers { regs: &regs, sregs: &sregs, code: &code, beyond }.to_string()
            }
            (Err(error), _) | (_, Err(error)) => {
                format!("  the registers cannot be read: {error}")
            }
        };
        Self { cpu, cause, registers }
    }
}

/// The details that KVM gives of its internal error.
fn internal_error(vcpu: &mut VcpuFd) -> Cause {
    // SAFETY: plain integers, valid with any bits; and after KVM_EXIT_INTERNAL_ERROR they are the active field of the
    // union. `suberror` is the first field in both of its forms.
    let failure = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.emulation_failure };
    let mut instruction = Vec::new();
    let has_flags = failure.suberror == KVM_INTERNAL_ERROR_EMULATION && failure.ndata >= 3;
    if has_flags
        && failure.flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0
    {
        // SAFETY: as above; the flag states that this form of the inner union is active.
        let bytes = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
        let size = usize::from(bytes.insn_size);
        instruction.extend(bytes.insn_bytes.iter().take(size));
    }
    Cause::Internal { suberror: Some(failure.suberror), instruction }
}

const fn linear_rip(regs: &kvm_regs, sregs: &kvm_sregs) -> u64 {
    if sregs.cs.l != 0 { regs.rip } else { sregs.cs.base.wrapping_add(regs.rip) & 0xffff_ffff }
}

/// Whether the guest had a page fault at an address that would be RAM if its page tables mapped it one to one. This
/// happens to a kernel that was built for less memory, at the end of its tables.
fn is_beyond(vcpu: &VcpuFd, ram: &GuestRam, sregs: &kvm_sregs) -> bool {
    /// CR0.PG: paging is on.
    const PAGING: u64 = 1 << 31;
    /// Every kernel maps at least this much. Page faults below are those of programs, and normal.
    const LEAST: u64 = 16 << 20;
    let addr = sregs.cr2;
    let in_ram = sregs.cr0 & PAGING != 0 && addr >= LEAST && ram.check(addr, 1).is_ok();
    in_ram && vcpu.translate_gva(addr).is_ok_and(|place| place.valid == 0)
}

/// The code at a linear address, as far as it is mapped and in RAM.
fn code_at(vcpu: &VcpuFd, ram: &GuestRam, linear: u64) -> Vec<u8> {
    let Ok(place) = vcpu.translate_gva(linear) else { return Vec::new() };
    if place.valid == 0 {
        return Vec::new();
    }
    // Not past the end of the page: the next page may be anywhere.
    let room = crate::layout::PAGE - place.physical_address % crate::layout::PAGE;
    let mut code = vec![0; usize::try_from(room.min(16)).unwrap_or(0)];
    match ram.read_into(place.physical_address, &mut code) {
        Ok(()) => code,
        Err(_) => Vec::new(),
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

struct Registers<'a> {
    regs: &'a kvm_regs,
    sregs: &'a kvm_sregs,
    code: &'a [u8],
    /// The result of [`is_beyond`].
    beyond: bool,
}

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (r, s) = (self.regs, self.sregs);
        if s.cs.base == 0xffff_0000 && r.rip == 0xfff0 {
            writeln!(
                f,
                "  (this processor forgets the registers at a triple fault: they are those of a reset)"
            )?;
        }
        writeln!(f, "  rip {:016x}  rsp {:016x}  rflags {:08x}", r.rip, r.rsp, r.rflags)?;
        writeln!(
            f,
            "  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}",
            r.rax, r.rbx, r.rcx, r.rdx
        )?;
        writeln!(
            f,
            "  rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}",
            r.rsi, r.rdi, r.rbp, r.r8
        )?;
        writeln!(
            f,
            "  r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}",
            r.r9, r.r10, r.r11, r.r12
        )?;
        writeln!(f, "  r13 {:016x}  r14 {:016x}  r15 {:016x}", r.r13, r.r14, r.r15)?;
        writeln!(
            f,
            "  cr0 {:08x}  cr2 {:016x}  cr3 {:016x}  cr4 {:08x}  efer {:08x}",
            s.cr0, s.cr2, s.cr3, s.cr4, s.efer
        )?;
        for (name, segment) in [
            ("cs", &s.cs),
            ("ds", &s.ds),
            ("es", &s.es),
            ("fs", &s.fs),
            ("gs", &s.gs),
            ("ss", &s.ss),
            ("tr", &s.tr),
        ] {
            writeln!(f, "  {name} {}", Segment(segment))?;
        }
        write!(
            f,
            "  gdt {:016x}+{:04x}  idt {:016x}+{:04x}",
            s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit
        )?;
        if !self.code.is_empty() {
            write!(f, "\n  code at rip: {}", Hex(self.code))?;
        }
        if self.beyond {
            write!(
                f,
                "\n  cr2 is an address in RAM that the guest's page tables do not map: was its kernel built\n  \
                 for less memory than it gets? Then give it less (--memory)."
            )?;
        }
        Ok(())
    }
}

struct Segment<'a>(&'a kvm_segment);

impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        let bits = match (s.l, s.db) {
            (1, _) => "64-bit",
            (_, 1) => "32-bit",
            _ => "16-bit",
        };
        write!(
            f,
            "{:04x}  base {:016x}  limit {:08x}  type {:x}  dpl {}  {bits}{}",
            s.selector,
            s.base,
            s.limit,
            s.type_,
            s.dpl,
            if s.present == 0 || s.unusable != 0 { "  not present" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_one_line_in_plain_words() {
        let emulation = Cause::Internal { suberror: Some(1), instruction: vec![0x0f, 0x57, 0xc0] };
        assert_eq!(
            emulation.to_string(),
            "KVM gave up: it could not emulate an instruction (internal error, suberror 1, instruction bytes 0f 57 c0)"
        );
        for cause in [
            Cause::TripleFault,
            Cause::internal(),
            Cause::EntryFailed { reason: 0x8000_0021 },
            Cause::Memory { gpa: 0x1000, size: 4096 },
            Cause::Run { error: "Bad address".into() },
            Cause::Unknown { exit: "Unsupported(99)".into() },
        ] {
            assert_eq!(cause.to_string().lines().count(), 1, "{cause:?}");
        }
    }

    #[test]
    fn the_registers_are_a_compact_block() {
        let regs = kvm_regs { rip: 0x10_0000, ..kvm_regs::default() };
        let sregs = kvm_sregs::default();
        let (code, beyond) = (&[0xcc], false);
        let text = Registers { regs: &regs, sregs: &sregs, code, beyond }.to_string();
        assert!(text.starts_with("  rip 0000000000100000"), "{text}");
        assert!(text.ends_with("code at rip: cc"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        assert!(text.lines().count() <= 16, "{text}");
    }
}
