//! A vCPU: the loop that runs it, on a thread of its own, and the means to stop it.

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
use crate::vcpu::dispatch::{Buses, Exits, dispatch};
use crate::vcpu::kick::ExitFlag;
use crate::x86::crash::{Cause, Crash};
use crate::x86::outcome::Outcome;
use crate::x86::restart::Judge;

/// A vCPU, ready to run.
pub(crate) struct Vcpu {
    id: u32,
    fd: VcpuFd,
    /// Keeps the memory mapped that the guest runs in.
    ram: GuestRam,
    /// Tells a guest's restart from its panic.
    judge: Judge,
}

/// What the vCPUs of a machine share.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) buses: Arc<Buses>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) roll: Arc<Roll>,
}

impl Vcpu {
    /// The vCPU with this number, of a machine whose memory slots are those of `ram`.
    pub(crate) const fn new(id: u32, fd: VcpuFd, ram: GuestRam, judge: Judge) -> Self {
        Self { id, fd, ram, judge }
    }

    /// What messages and the roll call it.
    pub(crate) fn name(&self) -> String {
        format!("vCPU {}", self.id)
    }

    /// Runs on a new thread until the guest ends the machine or its end is asked for; how often the guest left to
    /// cafevm.
    ///
    /// # Errors
    ///
    /// Where the host gives no thread.
    pub(crate) fn spawn(mut self, machine: &Machine) -> Result<VcpuThread, HostError> {
        register_kick()?;
        let flag = Arc::new(ExitFlag::of(&mut self.fd));
        let present = machine.roll.enter(self.name(), &machine.ending);
        let admitted = machine.gate.admit();
        let (machine, shared_flag) = (machine.clone(), flag.clone());
        let run = move || {
            // Dropped last: what the thread owns is gone when it is not waited for any more.
            let _present = present;
            let (vcpu, machine, admitted) = (self, machine, admitted);
            // The mask is inherited, and a parent may have blocked the signal that kicks a vCPU.
            if let Err(error) = unblock_signal(SIGRTMIN()) {
                warn!("vCPU {}: cannot unblock the signal that stops it: {error:?}", vcpu.id);
            }
            vcpu.run(&machine, &admitted, &shared_flag)
        };
        let thread = std::thread::Builder::new().name("vcpu".to_owned()).spawn(run);
        let thread = thread.map_err(HostError::os("start a vCPU's thread"))?;
        Ok(VcpuThread { thread, flag })
    }

    fn run(mut self, machine: &Machine, admitted: &Admitted, flag: &ExitFlag) -> Exits {
        // Before `self`, and with it the mapping that the flag lies in, is dropped.
        let _revoked = Revoke(flag);
        let Machine { buses, ending, .. } = machine;
        let mut exits = Exits::default();
        loop {
            admitted.pass();
            if ending.requested() {
                break;
            }
            let outcome = match self.fd.run() {
                Ok(exit) => {
                    exits.count(&exit);
                    dispatch(exit, buses)
                }
                // It was kicked; or, as a vCPU that waits to be started, woken for nothing.
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    flag.clear();
                    exits.interrupted += 1;
                    Outcome::Continue
                }
                Err(error) => {
                    exits.other += 1;
                    Outcome::Crash(Cause::Run { error: error.to_string() })
                }
            };
            let outcome = self.judge.judge(outcome, &self.fd);
            let verdict = match outcome {
                Outcome::Continue => continue,
                Outcome::Unclaimed(access) => {
                    buses.tell_unclaimed(&access, || self.fd.get_regs().ok().map(|regs| regs.rip));
                    continue;
                }
                Outcome::DebugExit(code) => Verdict::DebugExit(code),
                Outcome::PowerOff => Verdict::PowerOff,
                Outcome::Reset => Verdict::Reset,
                Outcome::Crash(cause) => {
                    let crash = Crash::examine(self.id, cause, &mut self.fd, &self.ram);
                    Verdict::Crash(Box::new(crash))
                }
            };
            ending.end(verdict);
            break;
        }
        exits
    }
}

/// Revokes a vCPU's flag, also where its thread panics.
struct Revoke<'a>(&'a ExitFlag);

impl Drop for Revoke<'_> {
    fn drop(&mut self) {
        self.0.revoke();
    }
}

/// A running vCPU.
pub(crate) struct VcpuThread {
    thread: JoinHandle<Exits>,
    flag: Arc<ExitFlag>,
}

impl VcpuThread {
    /// Makes it look what is asked of it: it leaves its guest, now or as soon as it enters it. Once is enough, after
    /// what is asked was written down.
    pub(crate) fn kick(&self) {
        self.flag.set();
        // The one error is a signal number that is not one.
        let _sent = self.thread.kill(SIGRTMIN());
    }

    /// Waits for a thread that has left the [`Roll`]; how often the guest left to cafevm.
    ///
    /// # Errors
    ///
    /// Where the thread panicked.
    pub(crate) fn join(self) -> Result<Exits, HostError> {
        self.thread.join().map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            HostError::Bug(text.unwrap_or_else(|| "a vCPU's thread panicked".to_owned()))
        })
    }
}

/// The signal that interrupts a vCPU does nothing else.
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
