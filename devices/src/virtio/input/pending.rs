//! Groups of events for which the driver has given no buffers yet.
//!
//! The list is bounded. When it is full, the oldest groups are dropped as a whole. A dropped group may have released a
//! key that the driver was told is pressed: for the driver it would stay pressed, and repeat. So the release of such a
//! key is owed, and sent before everything that follows; a second release has no effect for a driver.

use std::collections::{BTreeSet, VecDeque};

use super::InputEvent;
use crate::virtio::spec::input::EV_KEY;

/// The most events that wait, with the end of each group.
pub(super) const PENDING_MAX: usize = 1024;

/// The groups that wait, oldest first, and what the driver knows of keys.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Each ends with SYN_REPORT.
    groups: VecDeque<Box<[InputEvent]>>,
    /// The sum of their lengths.
    events: usize,
    /// The keys that the driver was told are pressed.
    pressed: BTreeSet<u16>,
    /// Those of them whose release was dropped.
    owed: BTreeSet<u16>,
    /// The number of groups that were dropped.
    dropped: u64,
}

impl Pending {
    /// Adds a group, and drops the oldest ones if there is no room. A group that is longer than the list is dropped
    /// itself.
    pub(super) fn add(&mut self, group: &[InputEvent]) {
        let group: Box<[_]> = group.iter().copied().chain([InputEvent::REPORT]).collect();
        if group.len() > PENDING_MAX {
            return self.drop_group(&group);
        }
        while self.events + group.len() > PENDING_MAX {
            self.drop_oldest();
        }
        self.events += group.len();
        self.groups.push_back(group);
    }

    /// The number of events of the next group for the driver.
    pub(super) fn next_len(&self) -> Option<usize> {
        // A release, and the end of its group.
        let owed = (!self.owed.is_empty()).then_some(2);
        owed.or_else(|| self.groups.front().map(|group| group.len()))
    }

    /// Takes the next group, if it has at most `most` events. The caller delivers it.
    pub(super) fn take(&mut self, most: usize) -> Option<Box<[InputEvent]>> {
        self.next_len().filter(|len| *len <= most)?;
        if let Some(code) = self.owed.pop_first() {
            self.pressed.remove(&code);
            return Some([InputEvent::key(code, false), InputEvent::REPORT].into());
        }
        let group = self.groups.pop_front()?;
        self.events -= group.len();
        for event in group.iter().filter(|event| event.kind == EV_KEY) {
            if event.value == 0 {
                self.pressed.remove(&event.code);
            } else {
                self.pressed.insert(event.code);
            }
        }
        Some(group)
    }

    /// Drops the oldest group.
    fn drop_oldest(&mut self) {
        if let Some(group) = self.groups.pop_front() {
            self.events -= group.len();
            self.drop_group(&group);
        }
    }

    /// Drops the next group, which no buffers will ever suffice for.
    pub(super) fn drop_next(&mut self) {
        if self.owed.pop_first().is_none() {
            self.drop_oldest();
        }
    }

    /// Drops all groups.
    pub(super) fn drop_all(&mut self) {
        while !self.groups.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_group(&mut self, group: &[InputEvent]) {
        self.dropped = self.dropped.saturating_add(1);
        let released = group.iter().filter(|event| event.kind == EV_KEY && event.value == 0);
        self.owed
            .extend(released.map(|event| event.code).filter(|code| self.pressed.contains(code)));
    }

    /// A new driver begins: nothing is pressed, and nothing waits. Groups that waited are dropped.
    pub(super) fn begin(&mut self) {
        self.drop_all();
        self.pressed.clear();
        self.owed.clear();
    }

    /// The number of events that wait.
    pub(super) const fn events(&self) -> usize {
        self.events
    }

    /// The number of groups that were dropped.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pending: &mut Pending) -> Vec<(u16, i32)> {
        let mut seen = Vec::new();
        while let Some(group) = pending.take(usize::MAX) {
            assert_eq!(group.last(), Some(&InputEvent::REPORT));
            seen.extend(group[..group.len() - 1].iter().map(|event| (event.code, event.value)));
        }
        seen
    }

    #[test]
    fn groups_come_in_order_and_whole() {
        let mut pending = Pending::default();
        pending.add(&[InputEvent::key(1, true)]);
        pending.add(&[InputEvent::rel(0, 5), InputEvent::rel(1, -5)]);
        assert_eq!((pending.next_len(), pending.take(1)), (Some(2), None));
        assert_eq!(pending.take(2).unwrap().len(), 2);
        assert_eq!((pending.next_len(), pending.take(2)), (Some(3), None));
        assert_eq!(pending.take(3).unwrap().len(), 3);
        assert_eq!((pending.next_len(), pending.take(9), pending.dropped()), (None, None, 0));
    }

    #[test]
    fn the_oldest_groups_go_and_no_key_stays_pressed() {
        let mut pending = Pending::default();
        pending.add(&[InputEvent::key(30, true)]);
        pending.add(&[InputEvent::key(31, true)]);
        assert_eq!(keys(&mut pending), [(30, 1), (31, 1)]);
        pending.add(&[InputEvent::key(30, false)]);
        for n in 0..PENDING_MAX / 2 {
            pending.add(&[InputEvent::rel(0, i32::try_from(n).unwrap())]);
        }
        assert_eq!((pending.dropped(), pending.next_len()), (1, Some(2)));
        // Key 31 is still pressed, and its release still comes.
        pending.add(&[InputEvent::key(31, false)]);
        assert_eq!(pending.dropped(), 2);
        let seen = keys(&mut pending);
        assert_eq!(seen[..2], [(30, 0), (0, 1)]);
        assert_eq!((seen.last(), seen.len()), (Some(&(31, 0)), 1 + PENDING_MAX / 2));
    }

    #[test]
    fn a_key_whose_press_was_dropped_is_not_released() {
        let mut pending = Pending::default();
        pending.add(&[InputEvent::key(30, true)]);
        pending.add(&[InputEvent::key(30, false)]);
        pending.drop_all();
        assert_eq!((pending.next_len(), pending.dropped()), (None, 2));
        pending.add(&vec![InputEvent::key(30, true); PENDING_MAX]);
        assert_eq!((pending.next_len(), pending.dropped()), (None, 3));
        // With its end it has just the length of the list.
        pending.add(&vec![InputEvent::key(30, true); PENDING_MAX - 1]);
        assert_eq!((pending.next_len(), pending.dropped()), (Some(PENDING_MAX), 3));
    }

    #[test]
    fn a_key_that_was_released_late_is_not_released_again() {
        let mut pending = Pending::default();
        pending.add(&[InputEvent::key(30, true)]);
        keys(&mut pending);
        pending.add(&[InputEvent::key(30, false)]);
        pending.drop_all();
        assert_eq!(keys(&mut pending), [(30, 0)]);
        // Neither of these comes, so the driver still has it released.
        pending.add(&[InputEvent::key(30, true)]);
        pending.add(&[InputEvent::key(30, false)]);
        pending.drop_all();
        assert_eq!(keys(&mut pending), []);
    }

    #[test]
    fn a_new_driver_knows_of_no_key() {
        let mut pending = Pending::default();
        pending.add(&[InputEvent::key(30, true)]);
        keys(&mut pending);
        pending.add(&[InputEvent::key(30, false)]);
        pending.begin();
        assert_eq!((keys(&mut pending), pending.dropped()), (vec![], 1));
    }
}
