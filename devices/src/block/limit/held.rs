//! The requests of a lane that wait for tokens.

use std::collections::VecDeque;
use std::time::Instant;

use super::Limiter;
use crate::block::Request;

/// Requests in their order, each with the time when it may begin.
#[derive(Debug, Default)]
pub(in crate::block) struct Held {
    requests: VecDeque<(Instant, Request)>,
    /// The limits that these times come from.
    generation: u64,
}

impl Held {
    pub(in crate::block) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(in crate::block) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Takes the request's tokens. Returns it if it may begin now, and holds it otherwise.
    pub(in crate::block) fn admit(
        &mut self,
        limiter: &Limiter,
        request: Request,
    ) -> Option<Request> {
        let Some(pace) = limiter.pace() else { return Some(request) };
        self.renew(limiter);
        let now = pace.now();
        let due = limiter.take(&request.operation, now);
        // Where the limits were relaxed, it may be earlier than those before it. They keep their order.
        if due <= now && self.requests.is_empty() {
            return Some(request);
        }
        self.requests.push_back((due, request));
        None
    }

    /// Takes the first request if it may begin now.
    pub(in crate::block) fn next_due(&mut self, limiter: &Limiter) -> Option<Request> {
        self.renew(limiter);
        let (pace, (due, _)) = (limiter.pace()?, self.requests.front()?);
        let may_begin = *due <= pace.now() || pace.is_hurried();
        may_begin.then(|| self.requests.pop_front()).flatten().map(|(_, request)| request)
    }

    /// When the first request may begin.
    pub(in crate::block) fn due(&self) -> Option<Instant> {
        self.requests.front().map(|(due, _)| *due)
    }

    /// Takes the first request, whether or not it may begin.
    pub(in crate::block) fn pop(&mut self) -> Option<Request> {
        self.requests.pop_front().map(|(_, request)| request)
    }

    /// Takes the first request, which will not be carried out.
    pub(in crate::block) fn drop_next(&mut self, limiter: &Limiter) -> Option<Request> {
        self.renew(limiter);
        let request = self.pop()?;
        limiter.give_back(&request.operation);
        Some(request)
    }

    /// Makes all writes durable.
    pub(in crate::block) fn harden(&mut self) {
        self.requests.iter_mut().for_each(|(_, request)| request.operation.harden());
    }

    /// After a change of the limits: all take their tokens again.
    fn renew(&mut self, limiter: &Limiter) {
        let generation = limiter.generation();
        if std::mem::replace(&mut self.generation, generation) == generation {
            return;
        }
        let Some(pace) = limiter.pace() else { return };
        let now = pace.now();
        for (due, request) in &mut self.requests {
            *due = limiter.take(&request.operation, now);
        }
    }
}
