//! A timer for a loop.

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

use crate::error::HostError;

/// The longest time that is passed to the host, which does not accept the full range of a [`Duration`]: 100 years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A timerfd. It is readable from its expiry until it is set again. It is never read, because the read would block if
/// the timer was set again in the meantime.
#[derive(Debug)]
pub(crate) struct Timer(TimerFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    ///
    /// If the host cannot create one.
    pub(crate) fn new() -> Result<Self, HostError> {
        TimerFd::new().map(Self).map_err(HostError::os("make a timer"))
    }

    /// Sets the timer to expire once after this time; none disables it.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub(crate) fn set(&mut self, after: Option<Duration>) -> Result<(), HostError> {
        // Zero disables the host's timer.
        let after = after.map(|after| after.clamp(Duration::from_nanos(1), LONGEST));
        self.0.reset(after.unwrap_or_default(), None).map_err(HostError::os("set a timer"))
    }

    /// Sets the timer to expire at this moment; none disables it.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub(crate) fn set_at(&mut self, moment: Option<Instant>) -> Result<(), HostError> {
        self.set(moment.map(|moment| moment.saturating_duration_since(Instant::now())))
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_duration_can_be_set() {
        let mut timer = Timer::new().unwrap();
        for after in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
            timer.set(Some(after)).unwrap();
            assert!(after == Duration::ZERO || timer.0.is_armed().unwrap(), "{after:?}");
        }
        timer.set(None).unwrap();
        assert!(!timer.0.is_armed().unwrap());
    }
}
