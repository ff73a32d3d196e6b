//! The event loops: an `EventManager` with subscribers that may fail.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use event_manager::{
    Error, EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps,
};

use crate::error::HostError;
use crate::threads::ending::Ending;

/// A subscriber of a loop. Its calls never block.
pub(crate) trait Subscriber {
    /// Registers the descriptors to watch.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError>;
    /// Handles a descriptor that is ready.
    ///
    /// # Errors
    ///
    /// An error that ends the loop.
    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError>;
}

/// A loop with its subscribers.
pub(crate) struct EventLoop<C: ?Sized> {
    manager: EventManager<Watched<C>>,
    failed: Failed,
}

/// The first error of any subscriber.
type Failed = Arc<Mutex<Option<HostError>>>;

/// A subscriber whose error ends the loop.
struct Watched<C: ?Sized> {
    failed: Failed,
    subscriber: Box<C>,
}

impl<C: Subscriber + ?Sized> EventLoop<C> {
    /// A loop without subscribers.
    ///
    /// # Errors
    ///
    /// If the host cannot create an epoll descriptor.
    pub(crate) fn new() -> Result<Self, HostError> {
        let manager = EventManager::new().map_err(failed)?;
        Ok(Self { manager, failed: Failed::default() })
    }

    /// Adds a subscriber.
    ///
    /// # Errors
    ///
    /// If its registration fails.
    pub(crate) fn add(&mut self, subscriber: Box<C>) -> Result<(), HostError> {
        let failed = self.failed.clone();
        self.manager.add_subscriber(Watched { failed, subscriber });
        self.check()
    }

    /// Runs the loop until the machine ends. One of the subscribers must watch [`Ending`].
    ///
    /// # Errors
    ///
    /// If a subscriber fails, or the host cannot wait.
    pub(crate) fn run(&mut self, ending: &Ending) -> Result<(), HostError> {
        while !ending.requested() {
            self.manager.run().map_err(failed)?;
            self.check()?;
        }
        Ok(())
    }

    /// Handles ready descriptors until none is left, without waiting.
    #[cfg(test)]
    pub(crate) fn serve_what_is_there(&mut self) -> Result<(), HostError> {
        while self.manager.run_with_timeout(0).map_err(failed)? > 0 {
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), HostError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

impl<C: Subscriber + ?Sized> Watched<C> {
    fn keep(&self, result: Result<(), HostError>) {
        if let Err(error) = result {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

impl<C: Subscriber + ?Sized> MutEventSubscriber for Watched<C> {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let result = self.subscriber.handle(events, ops);
        self.keep(result);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let result = self.subscriber.begin(ops);
        self.keep(result);
    }
}

/// Wakes a loop when the machine ends, so that [`EventLoop::run`] returns.
pub(crate) struct AtExit(pub(crate) Arc<Ending>);

impl Subscriber for AtExit {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.0)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        Ok(())
    }
}

/// Watches `fd` for input.
///
/// # Errors
///
/// If the host refuses.
pub(crate) fn watch(ops: &mut EventOps<'_>, fd: &impl AsRawFd) -> Result<(), HostError> {
    ops.add(Events::new(fd, EventSet::IN)).map_err(failed)
}

/// Stops watching `fd`.
///
/// # Errors
///
/// If it was not watched.
pub(crate) fn unwatch(ops: &mut EventOps<'_>, fd: &impl AsRawFd) -> Result<(), HostError> {
    ops.remove(Events::empty(fd)).map_err(failed)
}

/// An error of the event manager.
pub(crate) fn failed(error: Error) -> HostError {
    HostError::os("wait for events")(io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::wake::WakeFd;
    use cafevm_devices::irq::Wake;

    /// Fails when it is woken, and in its registration if the test wants that.
    struct Fails {
        wake: Arc<WakeFd>,
        at_once: bool,
    }

    impl Subscriber for Fails {
        fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
            if self.at_once { Err(HostError::Bug("begin".into())) } else { watch(ops, &*self.wake) }
        }

        fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
            Err(HostError::Bug("serve".into()))
        }
    }

    #[test]
    fn an_error_of_a_concern_ends_the_loop() {
        let (wake, ending) = (Arc::new(WakeFd::new().unwrap()), Ending::new().unwrap());
        let mut events: EventLoop<dyn Subscriber> = EventLoop::new().unwrap();
        let error = events.add(Box::new(Fails { wake: wake.clone(), at_once: true })).unwrap_err();
        assert!(error.to_string().contains("begin"), "{error}");
        events.add(Box::new(Fails { wake: wake.clone(), at_once: false })).unwrap();
        wake.wake();
        let error = events.run(&ending).unwrap_err();
        assert!(error.to_string().contains("serve"), "{error}");
        // The loop does not handle ready descriptors after the machine has ended.
        ending.stop();
        events.run(&ending).unwrap();
    }
}
