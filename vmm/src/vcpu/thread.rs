//! The thread of a vCPU: the loop that runs it, and how to stop it.

use std::io;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::JoinHandle;

use cafevm_devices::memory::GuestRam;
use kvm_ioctls::VcpuFd;
use tracing::warn;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

use crate::error::HostError;
use crate::exit::Verdict;
use crate::threads::ending::Ending;
use crate::threads::gate::{Admitted, Gate};
use crate::threads::roll::Roll;
use crate::vcpu::debugger::Debugger;
use crate::vcpu::dispatch::{Buses, dispatch};
use crate::vcpu::exits::{ExitCounters, Exits};
use crate::vcpu::kick::ExitFlag;
use crate::vcpu::place::{self, OnVcpu};
use crate::vcpu::snapshot::Snapshots;
use crate::x86::crash::{Cause, Crash};
use crate::x86::outcome::Outcome;
use crate::x86::restart::Judge;

/// A vCPU, ready to run.
pub(crate) struct Vcpu {
    id: u32,
    fd: VcpuFd,
    /// Keeps guest RAM mapped.
    ram: GuestRam,
    /// Distinguishes a guest's restart from its panic.
    judge: Judge,
    exits: Arc<ExitCounters>,
}

/// The state that the vCPUs of a machine share.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) buses: Arc<Buses>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) roll: Arc<Roll>,
    /// Filled on request.
    pub(crate) snapshots: Snapshots,
    /// With --gdb.
    pub(crate) debugger: Option<Arc<Debugger>>,
}

impl Vcpu {
    /// vCPU `id` of a machine with the memory slots of `ram`.
    pub(crate) fn new(id: u32, fd: VcpuFd, ram: GuestRam, judge: Judge) -> Self {
        Self { id, fd, ram, judge, exits: Arc::default() }
    }

    /// Its name in messages and in the roll.
    pub(crate) fn name(&self) -> String {
        format!("vCPU {}", self.id)
    }

    /// Runs on a new thread until the machine ends. It counts its exits.
    ///
    /// # Errors
    ///
    /// If the host cannot create a thread.
    pub(crate) fn spawn(mut self, machine: &Machine) -> Result<VcpuThread, HostError> {
        register_kick()?;
        let flag = Arc::new(ExitFlag::of(&mut self.fd));
        let present = machine.roll.enter(self.name(), &machine.ending);
        let admitted = machine.gate.admit();
        let (machine, shared_flag, exits) = (machine.clone(), flag.clone(), self.exits.clone());
        let run = move || {
            // Dropped last: when the roll has no entry for the thread, everything that it owned is gone.
            let _present = present;
            let (vcpu, machine, admitted) = (self, machine, admitted);
            // The signal mask is inherited: the parent process may have blocked the signal that kicks a vCPU.
            if let Err(error) = unblock_signal(SIGRTMIN()) {
                warn!(
                    "vCPU {}: cannot unblock the signal that stops it: {error:?}; shutdown may take 5 s",
                    vcpu.id
                );
            }
            vcpu.run(&machine, &admitted, &shared_flag);
        };
        let thread = std::thread::Builder::new().name("vcpu".to_owned()).spawn(run);
        let thread = thread.map_err(HostError::os("start a vCPU's thread"))?;
        Ok(VcpuThread { thread, flag, exits })
    }

    fn run(mut self, machine: &Machine, admitted: &Admitted, flag: &ExitFlag) {
        // Before `self` is dropped, and with it the mapping that contains the flag.
        let _revoked = Revoke(flag);
        // Dropped before `self`, which owns the vCPU.
        let _on_vcpu = OnVcpu::new(self.id, &self.fd);
        let Machine { buses, ending, snapshots, debugger, .. } = machine;
        // Whether KVM has completed the access of the last exit, so that the registers are those after it.
        let mut is_complete = false;
        loop {
            admitted.pass();
            if ending.requested() {
                snapshots.make_last(self.id, &self.fd, &self.ram);
                break;
            }
            let debugger = debugger.as_deref().filter(|debugger| debugger.halts(self.id));
            if let Some(debugger) = debugger {
                if is_complete {
                    debugger.wait(self.id, &self.fd, admitted);
                    continue;
                }
                // KVM completes the access and does not enter the guest.
                flag.set();
            }
            let outcome = match self.fd.run() {
                Ok(exit) => {
                    is_complete = false;
                    self.exits.count(&exit);
                    place::note_exit(&exit);
                    dispatch(exit, buses)
                }
                // A kick; or a wake-up without a reason of a vCPU that waits to be started.
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    flag.clear();
                    is_complete = true;
                    snapshots.make(self.id, &self.fd, &self.ram);
                    self.exits.interrupted();
                    Outcome::Continue
                }
                Err(error) => {
                    self.exits.other();
                    Outcome::Crash(Cause::Run { error: error.to_string() })
                }
            };
            let outcome = self.judge.judge(outcome, &self.fd);
            let verdict = match outcome {
                Outcome::Continue => continue,
                Outcome::Debug(exit) => {
                    // Without --gdb there are no breakpoints, so KVM reports none.
                    if let Some(debugger) = &machine.debugger {
                        debugger.exited(self.id, exit);
                    }
                    continue;
                }
                Outcome::Unclaimed(access) => {
                    buses.report_unclaimed(&access, place::rip);
                    continue;
                }
                Outcome::DebugExit(code) => Verdict::DebugExit(code),
                Outcome::PowerOff => Verdict::PowerOff,
                Outcome::Reset => Verdict::Reset,
                Outcome::Crash(cause) => {
                    snapshots.make_last(self.id, &self.fd, &self.ram);
                    let crash = Crash::examine(self.id, cause, &mut self.fd, &self.ram);
                    Verdict::Crash(Box::new(crash))
                }
            };
            ending.end(verdict);
            break;
        }
    }
}

/// Revokes a vCPU's flag, also after a panic of its thread.
struct Revoke<'a>(&'a ExitFlag);

impl Drop for Revoke<'_> {
    fn drop(&mut self) {
        self.0.revoke();
    }
}

/// A running vCPU.
pub(crate) struct VcpuThread {
    thread: JoinHandle<()>,
    flag: Arc<ExitFlag>,
    exits: Arc<ExitCounters>,
}

impl VcpuThread {
    /// Makes the vCPU leave its guest, now or when it next enters it, to check its state. Write the reason first. One
    /// kick is enough.
    pub(crate) fn kick(&self) {
        self.flag.set();
        // The one possible error is an invalid signal number.
        let _sent = self.thread.kill(SIGRTMIN());
    }

    /// Its exits, which it counts.
    pub(crate) fn exits(&self) -> &Arc<ExitCounters> {
        &self.exits
    }

    /// Waits for a thread that has left the [`Roll`]. Returns the number of exits.
    ///
    /// # Errors
    ///
    /// If the thread panicked.
    pub(crate) fn join(self) -> Result<Exits, HostError> {
        let exits = self.exits;
        self.thread.join().map(|()| exits.get()).map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            HostError::Bug(text.unwrap_or_else(|| "a vCPU's thread panicked".to_owned()))
        })
    }
}

/// The signal interrupts a vCPU and has no other effect.
extern "C" fn kicked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn register_kick() -> Result<(), HostError> {
    static FAILED: Mutex<Option<i32>> = Mutex::new(None);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = register_signal_handler(SIGRTMIN(), kicked) {
            *FAILED.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.errno());
        }
    });
    match *FAILED.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(errno) => {
            Err(HostError::os("take over a signal")(io::Error::from_raw_os_error(errno)))
        }
    }
}
