//! The doctor: an observer that collects the mistakes of drivers as findings, each with its rule.
//!
//! A device reports a rule that one access breaks ([`Event::Broken`]). Other mistakes need a look at several events: a
//! doorbell for nothing, an interrupt that is never acknowledged, a descriptor that is queued twice. The doctor finds
//! these.
//!
//! ```text
//!  a device ──▶ Tap ──▶ Doctor ──┬─ Event::Broken ──────────▶ Finding
//!                                └─ handshake, ring, svirtb ─▶ Finding
//! ```
//!
//! | question | file |
//! |---|---|
//! | What does a driver leave out in its handshake? | `handshake.rs` |
//! | Which mistakes are in its rings and interrupts? | `ring.rs` |
//! | Which mistakes are in a svirtb ring? | `svirtb.rs` |
//!
//! The rules are in `catalogue/`.

mod handshake;
mod ring;
mod svirtb;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::catalogue::find;
use crate::observe::{Direction, Event, Observer, Rule, RuleInfo, Seen, Words};
use handshake::Handshake;
use ring::Rings;
use svirtb::Svirtb;

/// A mistake of a driver.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding<'a> {
    /// The name of the device in the log.
    pub device: &'a str,
    /// The rule, explained.
    pub rule: &'static RuleInfo,
    /// What was seen, with values.
    pub what: Words<'a>,
}

/// How often a driver broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// The name of the device in the log.
    pub device: Arc<str>,
    /// The rule.
    pub rule: &'static RuleInfo,
    /// How often it was broken; at least 1.
    pub times: u64,
}

/// Collects findings. The first one of each rule and device is passed on; all are counted.
pub struct Doctor {
    state: Mutex<State>,
    /// They receive each first finding.
    listeners: Mutex<Vec<Listener>>,
    activity: AtomicU64,
}

type Listener = Box<dyn Fn(&Finding<'_>) + Send + Sync>;

#[derive(Default)]
struct State {
    watches: HashMap<Arc<str>, Watch>,
    /// By device and id of the rule.
    counts: BTreeMap<(Arc<str>, &'static str), Count>,
}

/// What the doctor remembers of one device.
#[derive(Default)]
struct Watch {
    handshake: Handshake,
    rings: Rings,
    svirtb: Svirtb,
}

/// Receives a mistake: its rule, and what was seen.
type Report<'a> = &'a mut dyn FnMut(Rule, fmt::Arguments<'_>);

impl Doctor {
    /// Calls `found` with the first finding of each rule and device, on the thread that caused it. It must not wait: the
    /// guest waits for it.
    pub fn new(found: impl Fn(&Finding<'_>) + Send + Sync + 'static) -> Self {
        let listeners = Mutex::new(vec![Box::new(found) as Listener]);
        Self { state: Mutex::default(), listeners, activity: AtomicU64::new(0) }
    }

    /// Also calls `found`, after the others.
    pub fn listen(&self, found: impl Fn(&Finding<'_>) + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(found));
    }

    /// Adds a finding of the VMM about `device`. A rule that is not in the catalogue is ignored.
    pub fn report(&self, device: &Arc<str>, rule: Rule, what: &dyn fmt::Display) {
        self.add(&mut self.state(), device, rule, what);
    }

    /// The number of events so far, without reads of registers: a driver may poll a register for ever.
    pub fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// All rules that were broken, by device.
    pub fn counts(&self) -> Vec<Count> {
        self.state().counts.values().cloned().collect()
    }

    fn add(&self, state: &mut State, device: &Arc<str>, rule: Rule, what: &dyn fmt::Display) {
        let Some(rule) = find(rule) else { return };
        let count = state.counts.entry((device.clone(), rule.id));
        let count = count.or_insert_with(|| Count { device: device.clone(), rule, times: 0 });
        count.times = count.times.saturating_add(1);
        if count.times == 1 {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            for found in &*listeners {
                found(&Finding { device, rule, what: Words(what) });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Doctor {
    fn event(&self, seen: &Seen<'_>) {
        let is_progress = !matches!(
            seen.event,
            Event::Register { direction: Direction::Read, .. } | Event::Access { .. }
        );
        self.activity.fetch_add(is_progress.into(), Ordering::Relaxed);
        let device = seen.device;
        let mut state = self.state();
        if let Event::Broken { rule, what } = seen.event {
            return self.add(&mut state, device, rule, &what);
        }
        // A device is watched from its first event on; their number is that of the devices.
        let mut watch = state.watches.remove(device).unwrap_or_default();
        let mut report = |rule: Rule, what: fmt::Arguments<'_>| {
            self.add(&mut state, device, rule, &what);
        };
        if &**device == crate::svirtb::NAME {
            watch.svirtb.event(&seen.event, &mut report);
        } else {
            watch.handshake.event(&seen.event, &mut report);
            watch.rings.event(&seen.event, &mut report);
        }
        state.watches.insert(device.clone(), watch);
    }
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doctor").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
