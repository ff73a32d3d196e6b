//! A vCPU: the loop that runs it, on a thread of its own, and the means to stop it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::JoinHandle;

use cafevm_devices::memory::GuestRam;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::crash::{Cause, Crash};
use crate::dispatch::{Buses, Exits, Outcome, dispatch};
use crate::error::HostError;
use crate::event::Event;
use crate::exit::Verdict;
use crate::pause::Pause;
use crate::restart::Judge;

/// A vCPU, ready to run.
pub(crate) struct Vcpu {
    id: u32,
    fd: VcpuFd,
    /// Keeps the memory mapped that the guest runs in.
    ram: GuestRam,
    /// Tells a guest's restart from its panic.
    judge: Judge,
}

impl Vcpu {
    /// The vCPU with this number, of a machine whose memory slots are those of `ram`.
    pub(crate) const fn new(id: u32, fd: VcpuFd, ram: GuestRam, judge: Judge) -> Self {
        Self { id, fd, ram, judge }
    }

    /// Runs on a new thread until the guest ends the machine or `ending` asks to stop; how often the guest
    /// left to us.
    ///
    /// # Errors
    ///
    /// Where the host gives no thread.
    pub(crate) fn spawn(
        self,
        buses: Arc<Buses>,
        ending: Arc<Ending>,
        pause: Arc<Pause>,
    ) -> Result<VcpuThread, HostError> {
        register_kick()?;
        let run = move || {
            // Told also where this thread panics: nobody waits in vain.
            let _told = TellAtEnd(&ending);
            self.run(&buses, &ending, &pause)
        };
        let name = "vcpu".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(run);
        thread.map(VcpuThread).map_err(HostError::os("start a vCPU's thread"))
    }

    fn run(mut self, buses: &Buses, ending: &Ending, pause: &Pause) -> Exits {
        let mut exits = Exits::default();
        loop {
            pause.park();
            if ending.requested() {
                break;
            }
            let outcome = match self.fd.run() {
                Ok(exit) => {
                    exits.count(&exit);
                    dispatch(exit, buses)
                }
                // A signal; or a vCPU that waits to be started was woken for nothing.
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
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

/// A running vCPU.
pub(crate) struct VcpuThread(JoinHandle<Exits>);

impl VcpuThread {
    /// Whether it has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Interrupts what it does: running the guest, or waiting for the host. It must be done again until the
    /// thread has ended, as a signal that comes just before the thread begins to wait is lost.
    pub(crate) fn kick(&self) {
        // The one error is a signal number that is not one.
        let _sent = self.0.kill(SIGRTMIN());
    }

    /// Waits for its end; how often the guest left to us.
    ///
    /// # Errors
    ///
    /// Where the thread panicked.
    pub(crate) fn join(self) -> Result<Exits, HostError> {
        self.0.join().map_err(|panic| {
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

/// How the machine's threads agree on its end: the first verdict counts.
#[derive(Debug)]
pub(crate) struct Ending {
    requested: AtomicBool,
    verdict: Mutex<Option<Verdict>>,
    ended: Event,
}

impl Ending {
    /// An end that nobody has asked for.
    ///
    /// # Errors
    ///
    /// Where the host gives no eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        let ended = Event::new()?;
        Ok(Self { requested: AtomicBool::new(false), verdict: Mutex::default(), ended })
    }

    /// Ends the machine with this verdict, unless it has one.
    pub(crate) fn end(&self, verdict: Verdict) {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(verdict);
        self.stop();
    }

    /// Asks all to stop.
    pub(crate) fn stop(&self) {
        self.requested.store(true, Ordering::Release);
        self.ended.tell();
    }

    /// Whether the end was asked for.
    pub(crate) fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// How it ended, if it has.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What becomes readable at the end.
    pub(crate) const fn event(&self) -> &Event {
        &self.ended
    }
}

struct TellAtEnd<'a>(&'a Ending);

impl Drop for TellAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
