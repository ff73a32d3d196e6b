//! The gate at which vCPUs wait while the machine is paused; a full disk closes it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cafevm_devices::block::FullAlarm;
use cafevm_devices::irq::Wake;

use crate::error::HostError;
use crate::threads::wake::WakeFd;

/// The gate between a vCPU and its guest: no vCPU enters the guest while it is closed.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Checked before each entry into the guest, so it needs no lock.
    closed: AtomicBool,
    state: Mutex<State>,
    opened: Condvar,
    /// Woken when all vCPUs wait here.
    pub(crate) all_parked: WakeFd,
    /// Woken when a full disk has closed the gate.
    pub(crate) full: WakeFd,
}

#[derive(Debug, Default)]
struct State {
    /// The vCPUs that have not ended.
    vcpus: usize,
    /// Those of them that wait here.
    parked: usize,
    full: Option<Full>,
    /// The machine has ended: nothing waits here any more.
    ended: bool,
}

/// A disk that waits for room on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) disk: String,
    /// The host's error.
    pub(crate) error: String,
}

impl Gate {
    /// An open gate.
    ///
    /// # Errors
    ///
    /// If the host cannot create an eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        Ok(Self {
            closed: AtomicBool::new(false),
            state: Mutex::default(),
            opened: Condvar::new(),
            all_parked: WakeFd::new()?,
            full: WakeFd::new()?,
        })
    }

    /// Adds a vCPU, which counts until the value is dropped.
    pub(crate) fn admit(self: &Arc<Self>) -> Admitted {
        self.state().vcpus += 1;
        Admitted(self.clone())
    }

    /// Closes the gate. A vCPU in its guest sees it after a kick.
    pub(crate) fn close(&self) {
        let _state = self.state();
        self.closed.store(true, Ordering::Release);
    }

    /// Opens the gate, unless a disk is full. Returns whether it is open.
    pub(crate) fn open(&self) -> bool {
        let state = self.state();
        if state.full.is_some() {
            return false;
        }
        self.closed.store(false, Ordering::Release);
        self.opened.notify_all();
        true
    }

    /// Opens the gate permanently: the machine has ended, and the vCPUs check that next.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        self.opened.notify_all();
    }

    /// The full disk, if there is one.
    pub(crate) fn full_disk(&self) -> Option<Full> {
        self.state().full.clone()
    }

    /// Forgets the full disk before a retry.
    pub(crate) fn forget_full(&self) {
        self.state().full = None;
    }

    /// Whether the machine is paused, or about to be.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether every vCPU waits at the closed gate.
    pub(crate) fn is_all_parked(&self) -> bool {
        let state = self.state();
        self.closed.load(Ordering::Acquire) && state.parked == state.vcpus
    }

    /// Waits while the gate is closed and the machine has not ended.
    fn pass(&self) {
        if !self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        self.park(&mut state);
        while self.closed.load(Ordering::Acquire) && !state.ended {
            state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.parked -= 1;
    }

    fn park(&self, state: &mut State) {
        state.parked += 1;
        if state.parked == state.vcpus {
            self.all_parked.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the gate because a write found the host's disk full, also for the vCPU of that write.
impl FullAlarm for Gate {
    fn raise(&self, disk: &str, error: &io::Error) {
        let mut state = self.state();
        let full = || Full { disk: disk.to_owned(), error: error.to_string() };
        state.full.get_or_insert_with(full);
        self.closed.store(true, Ordering::Release);
        self.full.wake();
    }
}

/// A vCPU that passes the gate before it enters the guest.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<Gate>);

impl Admitted {
    /// Waits while the gate is closed and the machine has not ended.
    pub(crate) fn pass(&self) {
        self.0.pass();
    }

    /// The vCPU waits elsewhere, outside its guest, until the value is dropped: it counts as waiting here. It passes the
    /// gate before it enters its guest again.
    pub(crate) fn step_aside(&self) -> Aside<'_> {
        let gate = &*self.0;
        gate.park(&mut gate.state());
        Aside(gate)
    }
}

/// A vCPU that waits elsewhere.
#[derive(Debug)]
pub(crate) struct Aside<'a>(&'a Gate);

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.0.state().parked -= 1;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.vcpus -= 1;
        if state.parked == state.vcpus {
            self.0.all_parked.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::new().unwrap())
    }

    /// Blocks until the gate reports that all vCPUs are parked.
    fn wait_for_all(gate: &Gate) {
        while !gate.is_all_parked() {
            thread::yield_now();
        }
        assert!(gate.all_parked.clear());
    }

    #[test]
    fn what_is_parked_goes_on_when_the_gate_opens() {
        let gate = gate();
        let vcpus: Vec<_> = (0..3).map(|_| gate.admit()).collect();
        vcpus[0].pass(); // The gate is open.
        gate.close();
        assert!(!gate.is_all_parked());
        let threads: Vec<_> =
            vcpus.into_iter().map(|vcpu| thread::spawn(move || vcpu.pass())).collect();
        wait_for_all(&gate);
        assert!(gate.open() && !gate.is_all_parked());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_vcpu_that_has_ended_is_not_waited_for() {
        let gate = gate();
        let (one, other) = (gate.admit(), gate.admit());
        gate.close();
        let waiting = thread::spawn(move || one.pass());
        drop(other);
        wait_for_all(&gate);
        gate.end();
        waiting.join().unwrap();
    }

    #[test]
    fn a_vcpu_that_waits_elsewhere_counts_as_parked() {
        let gate = gate();
        let vcpu = gate.admit();
        gate.close();
        let aside = vcpu.step_aside();
        wait_for_all(&gate);
        drop(aside);
        assert!(!gate.is_all_parked());
    }

    #[test]
    fn a_full_disk_closes_the_gate_until_it_is_forgotten() {
        let gate = gate();
        for disk in ["a", "b"] {
            gate.raise(disk, &io::ErrorKind::StorageFull.into());
        }
        assert!(gate.full.clear());
        assert_eq!(gate.full_disk().unwrap().disk, "a");
        assert!(!gate.open());
        let vcpu = gate.admit();
        let waiting = thread::spawn(move || vcpu.pass());
        wait_for_all(&gate);
        gate.forget_full();
        assert!(gate.open());
        waiting.join().unwrap();
    }

    #[test]
    fn no_vcpu_waits_beyond_the_machines_end() {
        let gate = gate();
        gate.close();
        gate.end();
        gate.admit().pass();
    }
}
