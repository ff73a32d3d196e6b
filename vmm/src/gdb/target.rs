//! The machine as gdb sees it: a process with a thread for each vCPU. gdb's thread 1 is vCPU 0.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;

use cafevm_devices::memory::GuestRam;
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::exec_file::ExecFileOps;
use gdbstub::target::ext::host_io::HostIoOps;
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;

use super::program::Program;
use super::registers;
use crate::layout::PAGE;
use crate::vcpu::debugger::{Debugger, Order};
use crate::waiting::Explain;
use crate::x86::debug::{Breakpoint, Watched};
use crate::x86::paging::Paging;

/// The errno for memory that is not there.
const EFAULT: u8 = 14;

/// A machine under a debugger.
pub(super) struct Guest<'a> {
    pub(super) debugger: Arc<Debugger>,
    pub(super) ram: GuestRam,
    pub(super) program: Program,
    pub(super) explain: Explain<'a>,
    /// What gdb wants of some vCPUs; the others do `otherwise`.
    orders: Vec<(u32, Order)>,
    otherwise: Order,
}

/// No error ends a session.
pub(super) type Never = std::convert::Infallible;

impl<'a> Guest<'a> {
    pub(super) const fn new(
        debugger: Arc<Debugger>,
        ram: GuestRam,
        program: Program,
        explain: Explain<'a>,
    ) -> Self {
        Self { debugger, ram, program, explain, orders: Vec::new(), otherwise: Order::Run }
    }

    /// Calls `with` for each part of `addr..addr + len` in one page: its guest-physical address, and where it begins in
    /// the range. Stops where no page is or `with` returns false. Returns the number of bytes before that.
    fn pages(
        &self,
        tid: Tid,
        addr: u64,
        len: usize,
        mut with: impl FnMut(&GuestRam, u64, std::ops::Range<usize>) -> bool,
    ) -> Option<usize> {
        let paging = self.debugger.registers(cpu(tid), |registers| Paging::of(&registers.sregs))?;
        let mut done = 0;
        while done < len {
            let linear = addr.wrapping_add(done as u64);
            let in_page = usize::try_from(PAGE - linear % PAGE).ok()?;
            let part = done..len.min(done + in_page);
            let Some(place) = paging.translate(&self.ram, linear) else { break };
            if !with(&self.ram, place, part.clone()) {
                break;
            }
            done = part.end;
        }
        (done > 0 || len == 0).then_some(done)
    }

    fn order(&mut self, tid: Tid, order: Order) {
        self.orders.push((cpu(tid), order));
    }
}

/// The vCPU of a thread of gdb's.
pub(super) fn cpu(tid: Tid) -> u32 {
    u32::try_from(tid.get() - 1).unwrap_or(u32::MAX)
}

/// gdb's thread of a vCPU.
pub(super) fn tid(cpu: u32) -> Tid {
    NonZeroUsize::MIN.saturating_add(usize::try_from(cpu).unwrap_or(usize::MAX))
}

fn fault<T, E>(found: Option<T>) -> Result<T, TargetError<E>> {
    found.ok_or(TargetError::Errno(EFAULT))
}

impl Target for Guest<'_> {
    type Arch = X86_64_SSE;
    type Error = Never;

    fn base_ops(&mut self) -> BaseOps<'_, X86_64_SSE, Never> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_exec_file(&mut self) -> Option<ExecFileOps<'_, Self>> {
        Some(self)
    }

    fn support_host_io(&mut self) -> Option<HostIoOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Guest<'_> {
    fn read_registers(&mut self, regs: &mut X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        fault(self.debugger.registers(cpu(tid), |from| registers::to_gdb(from, regs)))
    }

    fn write_registers(&mut self, regs: &X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        fault(self.debugger.change(cpu(tid), |to| registers::from_gdb(regs, to)))
    }

    fn read_addrs(&mut self, addr: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        fault(self.pages(tid, addr, data.len(), |ram, place, part| {
            data.get_mut(part).is_some_and(|data| ram.read_into(place, data).is_ok())
        }))
    }

    fn write_addrs(&mut self, addr: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let written = self.pages(tid, addr, data.len(), |ram, place, part| {
            data.get(part).is_some_and(|data| ram.write(place, data).is_ok())
        });
        fault(written.filter(|written| *written == data.len()).map(drop))
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), Never> {
        (0..self.debugger.cpus()).for_each(|cpu| is_active(tid(cpu)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

/// Signals are ignored: a machine has none.
impl MultiThreadResume for Guest<'_> {
    fn resume(&mut self) -> Result<(), Never> {
        let Self { orders, otherwise, .. } = self;
        let of = |cpu| orders.iter().find(|(of, _)| *of == cpu).map_or(*otherwise, |(_, o)| *o);
        self.debugger.resume(of);
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Never> {
        self.orders.clear();
        self.otherwise = Order::Run;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Never> {
        self.order(tid, Order::Run);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Never> {
        self.order(tid, Order::Step);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Never> {
        self.otherwise = Order::Halt;
        Ok(())
    }
}

impl ThreadExtraInfo for Guest<'_> {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Never> {
        let cpu = cpu(tid);
        let state = self.debugger.registers(cpu, |registers| {
            match (registers.is_started, registers.is_halted) {
                (false, _) => " (not started)",
                (true, true) => " (halted)",
                (true, false) => "",
            }
        });
        let room = buf.len();
        let mut left = buf;
        // A name that does not fit is cut.
        let _written = write!(left, "vCPU {cpu}{}", state.unwrap_or(" (in a device)"));
        Ok(room - left.len())
    }
}

/// All breakpoints are of the processor: the guest's code is not changed.
impl Breakpoints for Guest<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

const fn at(addr: u64, is_hardware: bool) -> Breakpoint {
    Breakpoint { watched: Watched::Execution { is_hardware }, addr, len: 1 }
}

impl SwBreakpoint for Guest<'_> {
    fn add_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.debugger.add(at(addr, false)))
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.debugger.remove(at(addr, false)))
    }
}

impl HwBreakpoint for Guest<'_> {
    fn add_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.debugger.add(at(addr, true)))
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.debugger.remove(at(addr, true)))
    }
}

const fn data(addr: u64, len: u64, kind: WatchKind) -> Breakpoint {
    let watched = match kind {
        WatchKind::Write => Watched::Write,
        WatchKind::Read => Watched::Read,
        WatchKind::ReadWrite => Watched::Access,
    };
    Breakpoint { watched, addr, len }
}

impl HwWatchpoint for Guest<'_> {
    fn add_hw_watchpoint(
        &mut self,
        addr: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.debugger.add(data(addr, len, kind)))
    }

    fn remove_hw_watchpoint(
        &mut self,
        addr: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.debugger.remove(data(addr, len, kind)))
    }
}

/// gdb's command `monitor`.
impl MonitorCmd for Guest<'_> {
    fn handle_monitor_cmd(&mut self, cmd: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Never> {
        match cmd.trim_ascii() {
            b"explain" => out.write_raw(format!("{}\n", (self.explain)()).as_bytes()),
            _ => out.write_raw(b"monitor explain: what the guest waits for\n"),
        }
        Ok(())
    }
}
