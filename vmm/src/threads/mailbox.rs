//! A queue of messages into a loop.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use cafevm_devices::irq::Wake;

use crate::error::HostError;
use crate::threads::wake::WakeFd;

/// The sender's end.
#[derive(Debug)]
pub(crate) struct Outbox<T>(Sender<T>, Arc<WakeFd>);

/// The end of the loop, which polls it.
#[derive(Debug)]
pub(crate) struct Inbox<T>(Receiver<T>, Arc<WakeFd>);

/// Both ends.
///
/// # Errors
///
/// Where the host gives no eventfd.
pub(crate) fn mailbox<T>() -> Result<(Outbox<T>, Inbox<T>), HostError> {
    let (sender, receiver) = mpsc::channel();
    let wake = Arc::new(WakeFd::new()?);
    Ok((Outbox(sender, wake.clone()), Inbox(receiver, wake)))
}

impl<T> Outbox<T> {
    /// Sends, without waiting. A loop that has ended takes nothing more, and misses nothing.
    pub(crate) fn send(&self, message: T) {
        let _sent = self.0.send(message);
        self.1.wake();
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl<T> Inbox<T> {
    /// What has come, in its order.
    pub(crate) fn take(&self) -> impl Iterator<Item = T> {
        // First, so that what comes from now on wakes again.
        self.1.clear();
        self.0.try_iter()
    }
}

impl<T> AsRawFd for Inbox<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.1.as_raw_fd()
    }
}
