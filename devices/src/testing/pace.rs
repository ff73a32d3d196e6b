//! A clock for limits that a test moves.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::block::Pace;

/// Time passes only when the test says so, or when the device sleeps.
#[derive(Debug)]
pub struct ManualPace {
    begin: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    wake: Option<Duration>,
    is_hurried: bool,
    /// When the machine hurries.
    hurries_at: Option<Duration>,
}

impl Default for ManualPace {
    fn default() -> Self {
        Self { begin: Instant::now(), state: Mutex::default() }
    }
}

impl ManualPace {
    /// The time since the begin.
    pub fn passed(&self) -> Duration {
        self.state().now
    }

    /// Lets this time pass.
    pub fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.now += time;
        if state.hurries_at.is_some_and(|at| at <= state.now) {
            state.is_hurried = true;
        }
    }

    /// Takes the earliest time at which the device wants to be serviced, since the begin.
    pub fn take_wake(&self) -> Option<Duration> {
        self.state().wake.take()
    }

    /// From this time on nothing may wait for tokens.
    pub fn hurry_at(&self, at: Duration) {
        self.state().hurries_at = Some(at);
        self.pass(Duration::ZERO);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace for ManualPace {
    fn now(&self) -> Instant {
        self.begin + self.state().now
    }

    fn wake_at(&self, at: Instant) {
        let (mut state, at) = (self.state(), at.saturating_duration_since(self.begin));
        state.wake = Some(state.wake.map_or(at, |wake| wake.min(at)));
    }

    fn sleep(&self, time: Duration) {
        self.pass(time);
    }

    fn is_hurried(&self) -> bool {
        self.state().is_hurried
    }
}
