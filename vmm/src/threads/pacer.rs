//! The time for the limits of disks: one timer for the machine.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cafevm_devices::block::Pace;
use tracing::warn;
use vmm_sys_util::timerfd::TimerFd;

use crate::error::HostError;
use crate::threads::gate::Gate;

/// The longest time that the timer is set to; then the disks are serviced too early, and ask again.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Wakes the I/O thread when requests of a limited disk may begin.
pub(crate) struct Pacer {
    gate: Arc<Gate>,
    /// The number of the timer's descriptor, which lives as long as the timer.
    fd: RawFd,
    timer: Mutex<Alarm>,
}

struct Alarm {
    timer: TimerFd,
    /// When it expires.
    at: Option<Instant>,
}

impl Pacer {
    /// With a timer that is not set. While `gate` is closed, nothing waits.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(gate: Arc<Gate>) -> Result<Self, HostError> {
        let timer = TimerFd::new().map_err(HostError::os("make a timer"))?;
        let fd = timer.as_raw_fd();
        Ok(Self { gate, fd, timer: Mutex::new(Alarm { timer, at: None }) })
    }

    /// Clears the timer after it has expired. Call it before the disks are serviced, which set it again.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub(crate) fn clear(&self) -> Result<(), HostError> {
        let mut alarm = self.alarm();
        alarm.at = None;
        alarm.timer.clear().map_err(HostError::os("set a timer"))
    }

    fn alarm(&self) -> MutexGuard<'_, Alarm> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace for Pacer {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wake_at(&self, at: Instant) {
        let mut alarm = self.alarm();
        if alarm.at.is_some_and(|set| set <= at) {
            return;
        }
        alarm.at = Some(at);
        // Zero would disable it.
        let after = at.saturating_duration_since(Instant::now());
        let after = after.clamp(Duration::from_nanos(1), LONGEST);
        if let Err(error) = alarm.timer.reset(after, None) {
            warn!("cannot set a timer: {error}; requests of a limited disk may come late");
        }
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn is_hurried(&self) -> bool {
        self.gate.is_closed()
    }
}

impl AsRawFd for Pacer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer() -> (Pacer, Arc<Gate>) {
        let gate = Arc::new(Gate::new().unwrap());
        (Pacer::new(gate.clone()).unwrap(), gate)
    }

    #[test]
    fn the_earliest_time_counts_until_it_is_cleared() {
        let (pacer, _) = pacer();
        let is_armed = || pacer.alarm().timer.is_armed().unwrap();
        let (soon, later) = (pacer.now() + LONGEST / 4, pacer.now() + LONGEST / 2);
        for at in [later, soon, later] {
            pacer.wake_at(at);
        }
        assert!(is_armed());
        assert_eq!(pacer.alarm().at, Some(soon));
        pacer.clear().unwrap();
        assert!(!is_armed());
        pacer.wake_at(later);
        assert_eq!(pacer.alarm().at, Some(later));
        // A time that has passed, and one that is far away.
        pacer.wake_at(pacer.now() - Duration::from_millis(1));
        pacer.clear().unwrap();
        pacer.wake_at(pacer.now() + Duration::from_secs(1 << 33));
        assert!(is_armed());
    }

    #[test]
    fn a_closed_gate_hurries() {
        let (pacer, gate) = pacer();
        assert!(!pacer.is_hurried());
        gate.close();
        assert!(pacer.is_hurried());
    }
}
