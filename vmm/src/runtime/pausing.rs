//! The states of a pause: Running, Pausing, Paused, Resuming.
//!
//! ```text
//!              pause, a full disk              all vCPUs wait             nothing is in flight
//!   Running ─────────────────────▶ Parking ───────────────▶ Quiescing ──────────────────▶ Paused
//!      ▲                              │ resume                  │ the host does not finish    │ resume
//!      │ nothing waits for room       ▼                         ▼                             ▼
//!      └────────────────────────── Resuming ◀─────────────── Stuck ◀─── (finished later: Paused)
//! ```
//!
//! The main thread makes all decisions, in calls that never wait. vCPUs wait at the [`Gate`]; everything that may wait
//! for a disk is a [`Job`] of the I/O thread.

use std::sync::Arc;

use serde_json::json;
use tracing::warn;

use crate::runtime::messages::{Answer, Job, Ticket};
use crate::threads::gate::{Full, Gate};
use crate::threads::mailbox::Outbox;

/// The states between running and paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// vCPUs are parking at the gate.
    Parking,
    /// The I/O thread waits until nothing is in flight.
    Quiescing,
    /// Its wait failed. It reports when nothing is in flight.
    Stuck,
    Paused,
    /// The I/O thread retries requests that wait for room.
    Resuming,
}

/// The last request of a client or a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Running,
    Paused,
}

/// Pauses and resumes a machine.
pub(crate) struct Pausing<'a> {
    gate: Arc<Gate>,
    /// Makes each vCPU check the gate.
    kick: Box<dyn Fn() + 'a>,
    jobs: Outbox<Job>,
    answers: Outbox<(Ticket, Answer)>,
    state: State,
    wanted: Wanted,
    /// The full disk that is the reason for the pause.
    full: Option<Full>,
    waiting: Vec<(Ticket, Wanted)>,
}

impl<'a> Pausing<'a> {
    /// For a running machine. `kick` makes each vCPU check the gate; answers to clients go to `answers`.
    pub(crate) fn new(
        gate: Arc<Gate>,
        kick: Box<dyn Fn() + 'a>,
        jobs: Outbox<Job>,
        answers: Outbox<(Ticket, Answer)>,
    ) -> Self {
        let (state, wanted) = (State::Running, Wanted::Running);
        Self { gate, kick, jobs, answers, state, wanted, full: None, waiting: Vec::new() }
    }

    /// The state for a client, and the reason if the machine is paused or pausing.
    pub(crate) fn status(&self) -> (&'static str, Option<String>) {
        let state = match self.state {
            State::Running => "running",
            State::Parking | State::Quiescing | State::Stuck => "pausing",
            State::Paused => "paused",
            State::Resuming => "resuming",
        };
        let reason = match (&self.full, self.state) {
            (Some(Full { disk, error }), _) => Some(format!("{disk}: {error}")),
            (None, State::Running | State::Resuming) => None,
            (None, _) => Some("a client of the control socket asked for it".to_owned()),
        };
        (state, reason)
    }

    /// Handles a client's pause.
    pub(crate) fn pause(&mut self, ticket: Ticket) {
        self.want(Wanted::Paused, ticket);
        match self.state {
            State::Running => self.park(),
            State::Paused => self.answer(Wanted::Paused, &Ok(json!({}))),
            State::Parking | State::Quiescing | State::Stuck | State::Resuming => {}
        }
    }

    /// Handles a client's resume.
    pub(crate) fn resume(&mut self, ticket: Ticket) {
        self.want(Wanted::Running, ticket);
        match self.state {
            State::Running => self.answer(Wanted::Running, &Ok(json!({}))),
            // The disks did not hold requests yet.
            State::Parking if self.gate.open() => self.run(),
            State::Stuck | State::Paused => self.release(),
            State::Parking | State::Quiescing | State::Resuming => {}
        }
    }

    /// Handles a vCPU that parked at the gate.
    pub(crate) fn parked(&mut self) {
        if self.state != State::Parking || !self.gate.is_all_parked() {
            return;
        }
        if self.wanted == Wanted::Running {
            return self.release();
        }
        self.quiesce();
    }

    /// Handles a signal that a disk may be full.
    pub(crate) fn full(&mut self) {
        // During a retry, the result of the retry reports it.
        if self.state == State::Resuming {
            return;
        }
        if let Some(full) = self.gate.full_disk() {
            self.because_of(full);
            if self.state == State::Running {
                self.wanted = Wanted::Paused;
                self.park();
            }
        }
    }

    /// Handles the result of [`Job::Quiesce`].
    pub(crate) fn quiesced(&mut self, result: Result<(), String>) {
        // A second result of the same job, after the first one led to another state.
        if !matches!(self.state, State::Quiescing | State::Stuck) {
            return;
        }
        if self.wanted == Wanted::Running {
            return self.release();
        }
        match result {
            Ok(()) => {
                self.state = State::Paused;
                self.answer(Wanted::Paused, &Ok(json!({})));
            }
            Err(why) => {
                self.state = State::Stuck;
                let why = format!("not paused yet: {why}; status shows when it is");
                self.answer(Wanted::Paused, &Err(why));
            }
        }
    }

    /// Handles the result of [`Job::Release`].
    pub(crate) fn released(&mut self, result: Result<(), Full>) {
        if self.state != State::Resuming {
            return;
        }
        self.full = None;
        if self.wanted == Wanted::Paused && result.is_ok() {
            // No vCPU has left the gate.
            return self.quiesce();
        }
        // A disk may have become full in the meantime.
        let still = result.err().or_else(|| (!self.gate.open()).then(|| self.gate.full_disk())?);
        match still {
            Some(full) => {
                let Full { disk, error } = &full;
                let why = format!(
                    "{disk}: {error}; the machine stays paused: make room, or bring its server back, then send resume \
                     again"
                );
                self.because_of(full);
                self.wanted = Wanted::Paused;
                self.answer(Wanted::Running, &Err(why));
                self.quiesce();
            }
            None => self.run(),
        }
    }

    fn want(&mut self, wanted: Wanted, ticket: Ticket) {
        if self.wanted != wanted {
            let why = match wanted {
                Wanted::Running => "a later resume came before the machine was paused",
                Wanted::Paused => "a later pause came before the machine ran again",
            };
            self.answer(self.wanted, &Err(why.to_owned()));
        }
        self.wanted = wanted;
        self.waiting.push((ticket, wanted));
    }

    fn because_of(&mut self, full: Full) {
        if self.full.is_none() {
            let Full { disk, error } = &full;
            warn!(
                "{disk}: {error}; the machine is paused (werror=stop): make room, or bring its server back, then send \
                 {{\"resume\":{{}}}} to the control socket"
            );
            self.full = Some(full);
        }
    }

    fn park(&mut self) {
        self.state = State::Parking;
        self.gate.close();
        (self.kick)();
        self.parked();
    }

    fn quiesce(&mut self) {
        self.state = State::Quiescing;
        self.jobs.send(Job::Quiesce);
    }

    fn release(&mut self) {
        self.state = State::Resuming;
        self.jobs.send(Job::Release);
    }

    /// The gate is open.
    fn run(&mut self) {
        self.state = State::Running;
        self.full = None;
        self.answer(Wanted::Running, &Ok(json!({})));
    }

    /// Answers all clients that wait for this.
    fn answer(&mut self, wanted: Wanted, answer: &Answer) {
        for (ticket, _) in self.waiting.extract_if(.., |(_, waits_for)| *waits_for == wanted) {
            self.answers.send((ticket, answer.clone()));
        }
    }
}

#[cfg(test)]
#[path = "pausing_tests.rs"]
mod tests;
