//! The lanes: their completions, and how they are woken for them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::Session;
use crate::block::Completion;

/// The completions of a lane.
#[derive(Debug)]
pub(super) struct LaneEnd {
    wake: Arc<EventFd>,
    /// Wakes its engine while that watches.
    rouse: Arc<OwnedFd>,
    is_watching: bool,
    pub(super) done: Vec<Completion>,
    pub(super) in_flight: usize,
    /// Whether there are completions for which the lane was not woken.
    pub(super) is_news: bool,
    /// Whether the lane was dropped, so that its completions are not taken.
    pub(super) is_gone: bool,
}

impl Session {
    /// Adds a lane, which is woken by `wake`, or by `rouse` while it watches. Returns its number.
    pub(in crate::block::nbd) fn add_lane(
        &mut self,
        wake: Arc<EventFd>,
        rouse: Arc<OwnedFd>,
    ) -> usize {
        let (is_watching, is_news, is_gone) = (false, false, false);
        let (done, in_flight) = (Vec::new(), 0);
        self.lanes.push(LaneEnd { wake, rouse, is_watching, done, in_flight, is_news, is_gone });
        self.lanes.len() - 1
    }

    /// The engine of a lane is gone.
    pub(in crate::block::nbd) fn remove_lane(&mut self, lane: usize) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.is_gone = true;
            end.done.clear();
        }
    }

    /// The engine of a lane begins to watch, or ends.
    pub(in crate::block::nbd) fn watches(&mut self, lane: usize, is_watching: bool) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.is_watching = is_watching;
        }
    }

    /// Has the engines that watch look again: the sockets are other ones.
    pub(in crate::block::nbd) fn rouse(&self) {
        for end in self.lanes.iter().filter(|end| end.is_watching) {
            signal(&end.rouse);
        }
    }

    /// Tells a lane by this descriptor from now on.
    pub(in crate::block::nbd) fn wake_by(&mut self, lane: usize, wake: &Arc<EventFd>) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.wake = wake.clone();
        }
    }

    /// The number of requests of a lane that are not completed.
    pub(in crate::block::nbd) fn in_flight(&self, lane: usize) -> usize {
        self.lanes.get(lane).map_or(0, |end| end.in_flight)
    }

    /// Whether a lane has completions.
    pub(in crate::block::nbd) fn has_done(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|end| !end.done.is_empty())
    }

    /// Takes the completions of a lane.
    pub(in crate::block::nbd) fn take_done(&mut self, lane: usize, done: &mut Vec<Completion>) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.is_news = false;
            done.append(&mut end.done);
        }
    }

    /// Tells all lanes with news, except for `own`, whose user looks by itself.
    pub(in crate::block::nbd) fn tell(&mut self, own: Option<usize>) {
        for (number, end) in self.lanes.iter_mut().enumerate() {
            if !std::mem::take(&mut end.is_news) || own == Some(number) {
                continue;
            }
            if end.is_watching {
                signal(&end.rouse);
            } else {
                // The one possible error is a full counter; the descriptor is readable then, too.
                let _written = end.wake.write(1);
            }
        }
    }
}

/// Makes an event descriptor readable.
pub(in crate::block::nbd) fn signal(descriptor: &OwnedFd) {
    // The one possible error is a full counter; the descriptor is readable then, too.
    let _written = rustix::io::write(descriptor, &1u64.to_ne_bytes());
}
