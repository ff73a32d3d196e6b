//! Where vCPUs wait for a debugger, and what they leave there.
//!
//! A debugger stops all vCPUs at once. Each one leaves its registers here and waits; the debugger reads and changes the
//! copies, so it never calls a vCPU of another thread. When a vCPU goes on, it takes over the changed registers and the
//! breakpoints.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use cafevm_devices::irq::Wake;
use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, kvm_fpu, kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;
use tracing::warn;

use crate::error::HostError;
use crate::threads::gate::Admitted;
use crate::threads::wake::WakeFd;
use crate::x86::debug::{self, BREAKPOINTS_MAX, Breakpoint, DebugExit};

/// The meeting place of a debugger and the vCPUs.
#[derive(Debug)]
pub(crate) struct Debugger {
    /// Whether any vCPU has to wait or has not taken over its orders. Checked before each entry into the guest.
    halts: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// Woken when a vCPU waits, or wants all to wait.
    pub(crate) wake: WakeFd,
}

#[derive(Debug, Default)]
struct State {
    is_attached: bool,
    cpus: Vec<Cpu>,
    breakpoints: Vec<Breakpoint>,
    /// Why the guest stops: the first cause since it last ran.
    stop: Option<Stop>,
    /// Lines for the user of the debugger.
    lines: Vec<String>,
    ended: bool,
}

/// A vCPU, as the debugger sees it.
#[derive(Debug, Default)]
struct Cpu {
    order: Order,
    /// Whether the vCPU has taken over its order.
    is_obeyed: bool,
    /// While it waits.
    registers: Option<Box<Registers>>,
    is_changed: bool,
}

/// What a vCPU does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    #[default]
    Halt,
    Run,
    /// Execute one instruction.
    Step,
}

/// Why a guest stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The debugger wanted it.
    Asked,
    /// A breakpoint or watchpoint.
    Breakpoint(u32, Breakpoint),
    /// The end of a step.
    Stepped(u32),
    /// A finding of --doctor, on this vCPU if it is known.
    Finding(Option<u32>),
}

/// The registers of a vCPU.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registers {
    pub(crate) regs: kvm_regs,
    pub(crate) sregs: kvm_sregs,
    pub(crate) fpu: kvm_fpu,
    pub(crate) is_started: bool,
    pub(crate) is_halted: bool,
}

impl Registers {
    fn read(vcpu: &VcpuFd) -> Result<Self, kvm_ioctls::Error> {
        let state = vcpu.get_mp_state()?.mp_state;
        Ok(Self {
            regs: vcpu.get_regs()?,
            sregs: vcpu.get_sregs()?,
            fpu: vcpu.get_fpu()?,
            is_started: matches!(state, KVM_MP_STATE_RUNNABLE | KVM_MP_STATE_HALTED),
            is_halted: state == KVM_MP_STATE_HALTED,
        })
    }

    fn write(&self, vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
        vcpu.set_regs(&self.regs)?;
        vcpu.set_sregs(&self.sregs)?;
        vcpu.set_fpu(&self.fpu)
    }
}

impl Debugger {
    /// For a machine with `cpus` vCPUs, which wait from the start.
    ///
    /// # Errors
    ///
    /// If the host cannot create an eventfd.
    pub(crate) fn new(cpus: u32) -> Result<Self, HostError> {
        let cpus = (0..cpus).map(|_| Cpu::default()).collect();
        Ok(Self {
            halts: AtomicBool::new(true),
            state: Mutex::new(State { cpus, ..State::default() }),
            changed: Condvar::new(),
            wake: WakeFd::new()?,
        })
    }

    // The vCPUs' side.

    /// Whether vCPU `id` has to call [`Debugger::wait`].
    pub(super) fn halts(&self, id: u32) -> bool {
        self.halts.load(Ordering::Acquire) && {
            let state = self.state();
            let waits = |cpu: &Cpu| cpu.order == Order::Halt || !cpu.is_obeyed;
            !state.ended && state.cpu(id).is_some_and(waits)
        }
    }

    /// Waits with vCPU `id` until it may run. It has completed its last access. It counts as waiting at the gate.
    pub(super) fn wait(&self, id: u32, vcpu: &VcpuFd, admitted: &Admitted) {
        let registers = Registers::read(vcpu)
            .map_err(|error| warn!("--gdb: cannot read the registers of vCPU {id}: {error}"));
        let _aside = admitted.step_aside();
        let mut state = self.state();
        if let Some(cpu) = state.cpu_mut(id) {
            cpu.registers = registers.ok().map(Box::new);
            cpu.is_changed = false;
        }
        self.wake.wake();
        while !state.ended && state.cpu(id).is_some_and(|cpu| cpu.order == Order::Halt) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let breakpoints = state.breakpoints.clone();
        let Some(cpu) = state.cpu_mut(id) else { return };
        cpu.is_obeyed = true;
        let steps = cpu.order == Order::Step;
        let changed = cpu.registers.take().filter(|_| cpu.is_changed);
        self.halts.store(state.cpus.iter().any(Cpu::is_held), Ordering::Release);
        drop(state);
        let written = changed.map_or(Ok(()), |registers| registers.write(vcpu));
        if let Err(error) = written.and_then(|()| debug::set(vcpu, &breakpoints, steps)) {
            warn!("--gdb: cannot set the registers or breakpoints of vCPU {id}: {error}");
        }
    }

    /// Stops the guest because of a debug exit of vCPU `id`.
    pub(super) fn exited(&self, id: u32, exit: DebugExit) {
        let mut state = self.state();
        let hit = debug::hit(exit, &state.breakpoints);
        let stop = hit.map_or(Stop::Stepped(id), |breakpoint| Stop::Breakpoint(id, breakpoint));
        self.halt(&mut state, stop);
    }

    // The doctor's side.

    /// Stops the guest because of a finding, which `line` describes, if a debugger is attached.
    pub(crate) fn found(&self, cpu: Option<u32>, line: String) {
        let mut state = self.state();
        if state.is_attached {
            state.lines.push(line);
            self.halt(&mut state, Stop::Finding(cpu));
        }
    }

    // The debugger's side.

    /// A debugger has come: findings stop the guest.
    pub(crate) fn attach(&self) {
        self.state().is_attached = true;
    }

    /// The debugger has gone: the guest runs without breakpoints. The caller then kicks the vCPUs.
    pub(crate) fn detach(&self) {
        let mut state = self.state();
        state.is_attached = false;
        state.breakpoints.clear();
        state.lines.clear();
        self.release(&mut state, |_| Order::Run);
    }

    /// Stops the guest. The caller then kicks the vCPUs.
    pub(crate) fn stop(&self) {
        self.halt(&mut self.state(), Stop::Asked);
    }

    /// Lets each vCPU do what `order` says. A vCPU in its guest takes it over at its next exit.
    pub(crate) fn resume(&self, order: impl Fn(u32) -> Order) {
        self.release(&mut self.state(), order);
    }

    /// Ends all waiting: the machine ends.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Whether a vCPU must wait that does not wait yet.
    pub(crate) fn is_stopping(&self) -> bool {
        let late = |cpu: &Cpu| cpu.order == Order::Halt && cpu.registers.is_none();
        self.state().cpus.iter().any(late)
    }

    /// Whether any vCPU has to wait.
    pub(crate) fn holds(&self) -> bool {
        self.halts.load(Ordering::Acquire)
    }

    /// Why the guest stopped. It is forgotten when the guest runs again.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.state().stop
    }

    /// Takes the lines for the debugger's user.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.state().lines)
    }

    /// Uses the registers of vCPU `id`. None if it does not wait.
    pub(crate) fn registers<T>(&self, id: u32, with: impl FnOnce(&Registers) -> T) -> Option<T> {
        self.state().cpu(id)?.registers.as_deref().map(with)
    }

    /// Changes the registers of vCPU `id`. None if it does not wait.
    pub(crate) fn change<T>(&self, id: u32, with: impl FnOnce(&mut Registers) -> T) -> Option<T> {
        let mut state = self.state();
        let cpu = state.cpu_mut(id)?;
        cpu.is_changed = true;
        cpu.registers.as_deref_mut().map(with)
    }

    /// Adds a breakpoint for all vCPUs. Returns false if there is no room, or a processor cannot watch this.
    pub(crate) fn add(&self, breakpoint: Breakpoint) -> bool {
        let breakpoints = &mut self.state().breakpoints;
        let fits = breakpoints.len() < BREAKPOINTS_MAX && breakpoint.is_possible();
        if fits {
            breakpoints.push(breakpoint);
        }
        fits
    }

    /// Removes a breakpoint. Returns whether it was there.
    pub(crate) fn remove(&self, breakpoint: Breakpoint) -> bool {
        let breakpoints = &mut self.state().breakpoints;
        let position = breakpoints.iter().position(|other| *other == breakpoint);
        position.map(|position| breakpoints.remove(position)).is_some()
    }

    /// The number of vCPUs.
    pub(crate) fn cpus(&self) -> u32 {
        u32::try_from(self.state().cpus.len()).unwrap_or(u32::MAX)
    }

    fn halt(&self, state: &mut State, stop: Stop) {
        state.stop.get_or_insert(stop);
        for cpu in &mut state.cpus {
            cpu.order = Order::Halt;
        }
        self.halts.store(true, Ordering::Release);
        self.wake.wake();
    }

    fn release(&self, state: &mut State, order: impl Fn(u32) -> Order) {
        state.stop = None;
        // Until each vCPU has taken over its order.
        self.halts.store(true, Ordering::Release);
        for (id, cpu) in (0..).zip(&mut state.cpus) {
            cpu.order = order(id);
            cpu.is_obeyed = false;
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn cpu(&self, id: u32) -> Option<&Cpu> {
        self.cpus.get(usize::try_from(id).ok()?)
    }

    fn cpu_mut(&mut self, id: u32) -> Option<&mut Cpu> {
        self.cpus.get_mut(usize::try_from(id).ok()?)
    }
}

impl Cpu {
    fn is_held(&self) -> bool {
        self.order == Order::Halt || !self.is_obeyed
    }
}
