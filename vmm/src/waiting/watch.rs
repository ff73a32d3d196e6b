//! Explains, with `--doctor`, why a guest waits when nothing has happened for a while.

use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::catalogue;
use cafevm_devices::doctor::Doctor;
use cafevm_devices::observe::Rule;
use event_manager::{EventOps, Events};

use super::{Examiner, Explain, Explanation};
use crate::error::HostError;
use crate::runtime::event_loop::{Subscriber, watch};
use crate::runtime::timer::Timer;

/// Looks at the machine at intervals.
pub(crate) struct StallWatch<'a> {
    timer: Timer,
    every: Duration,
    doctor: Arc<Doctor>,
    examiner: Examiner,
    explain: Explain<'a>,
    /// Whether the machine is paused, or a debugger holds the guest.
    is_held: Box<dyn Fn() -> bool + 'a>,
    /// The number of events at the last look.
    seen: u64,
    /// Whether this stall is reported.
    is_reported: bool,
}

impl<'a> StallWatch<'a> {
    /// Looks every `every`.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(
        (doctor, every): (Arc<Doctor>, Duration),
        examiner: Examiner,
        explain: Explain<'a>,
        is_held: Box<dyn Fn() -> bool + 'a>,
    ) -> Result<Self, HostError> {
        Ok(Self {
            timer: Timer::new()?,
            every,
            doctor,
            examiner,
            explain,
            is_held,
            seen: 0,
            is_reported: false,
        })
    }

    fn look(&mut self) {
        if (self.is_held)() {
            // What comes next counts as progress.
            self.seen = u64::MAX;
            return;
        }
        let seen = self.doctor.activity();
        if std::mem::replace(&mut self.seen, seen) != seen {
            self.is_reported = false;
        } else if !self.is_reported && seen > 0 {
            let is_outstanding = self.examiner.is_outstanding();
            if is_outstanding || self.examiner.is_suppressed() {
                self.is_reported = true;
                let explanation = (self.explain)();
                if is_outstanding {
                    self.report(catalogue::WAITS, &explanation);
                } else if explanation.is_asleep {
                    self.report(catalogue::SLEEPS, &explanation);
                }
            }
        }
    }
}

impl StallWatch<'_> {
    fn report(&self, rule: Rule, explanation: &Explanation) {
        let seconds = self.every.as_secs_f64();
        let what = format!("nothing happened for {seconds} s:\n{explanation}");
        self.doctor.report(&Arc::from("the guest"), rule, &what);
    }
}

impl Subscriber for StallWatch<'_> {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.timer.set(Some(self.every))?;
        watch(ops, &self.timer)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        self.look();
        self.timer.set(Some(self.every))
    }
}
