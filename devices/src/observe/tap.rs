//! The tap: devices send events to it; observers can be attached and detached at any time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::event::{Event, Rule, Seen};

/// Receives the events of devices, on the thread that causes them, in the order in which they happen on that thread.
pub trait Observer: Send + Sync {
    /// Receives one event. Must not wait or access the device: the guest waits for it, and the device may hold locks.
    fn event(&self, seen: &Seen<'_>);
}

/// Identifies an attached observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObserverId(u64);

/// The target of a device's events. Clones share the observers.
///
/// Without an observer, an event costs one relaxed load and a branch: the event is not built, no clock is read, and
/// nothing is called.
#[derive(Clone, Default)]
pub struct Tap(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether there is an observer.
    on: AtomicBool,
    observers: RwLock<Observers>,
    /// Whether an observer reports broken rules, so that the log does not.
    reports_rules: AtomicBool,
    /// The rules that were broken.
    broken: Mutex<BTreeSet<Rule>>,
}

#[derive(Default)]
struct Observers {
    /// Replaced as a whole, so that an observer is called without the lock, and may detach itself.
    all: Arc<[(ObserverId, Arc<dyn Observer>)]>,
    /// The number of observers ever attached.
    count: u64,
}

impl Tap {
    /// A tap with one observer.
    pub fn to(observer: Arc<dyn Observer>) -> Self {
        let tap = Self::default();
        tap.attach(observer);
        tap
    }

    /// Sends all events from now on to `observer`, too.
    ///
    /// A guest that reads registers as memory, without an exit, causes no event.
    pub fn attach(&self, observer: Arc<dyn Observer>) -> ObserverId {
        let mut observers = self.0.observers.write().unwrap_or_else(PoisonError::into_inner);
        observers.count = observers.count.wrapping_add(1);
        let id = ObserverId(observers.count);
        observers.all = observers.all.iter().cloned().chain([(id, observer)]).collect();
        self.0.on.store(true, Ordering::Release);
        id
    }

    /// Sends no further event to an observer. An event that another thread is sending may still arrive. Has no effect
    /// if the observer is detached already.
    pub fn detach(&self, id: ObserverId) {
        let mut observers = self.0.observers.write().unwrap_or_else(PoisonError::into_inner);
        observers.all = observers.all.iter().filter(|(known, _)| *known != id).cloned().collect();
        self.0.on.store(!observers.all.is_empty(), Ordering::Release);
    }

    /// Attaches an observer that reports broken rules to the user: from now on devices do not log them.
    pub fn attach_reporter_of_rules(&self, observer: Arc<dyn Observer>) -> ObserverId {
        self.0.reports_rules.store(true, Ordering::Release);
        self.attach(observer)
    }

    /// The rules that drivers have broken so far, and failures of the host.
    pub fn broken_rules(&self) -> BTreeSet<Rule> {
        self.0.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a broken rule. Returns whether an observer reports it.
    pub(super) fn note_broken(&self, rule: Rule) -> bool {
        self.0.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(rule);
        self.0.reports_rules.load(Ordering::Acquire)
    }

    /// Whether an observer is attached.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    /// Sends the event that `make` builds. Without an observer, `make` is not called.
    #[inline]
    pub(crate) fn emit<'a>(&self, device: &Arc<str>, make: impl FnOnce() -> Event<'a>) {
        if self.is_on() {
            self.hand_over(&Seen::now(device, make()));
        }
    }

    #[cold]
    pub(super) fn hand_over(&self, seen: &Seen<'_>) {
        let observers = self.0.observers.read().unwrap_or_else(PoisonError::into_inner);
        let all = observers.all.clone();
        drop(observers);
        for (_, observer) in &*all {
            observer.event(seen);
        }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tap(on)" } else { "Tap(off)" })
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
