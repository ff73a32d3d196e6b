//! A queue of messages to a loop.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use cafevm_devices::irq::Wake;

use crate::error::HostError;
use crate::threads::wake::WakeFd;

/// The sender's end.
#[derive(Debug)]
pub(crate) struct Outbox<T>(Sender<T>, Arc<WakeFd>);

/// The receiver's end, for a loop.
#[derive(Debug)]
pub(crate) struct Inbox<T>(Receiver<T>, Arc<WakeFd>);

/// Both ends.
///
/// # Errors
///
/// If the host cannot create an eventfd.
pub(crate) fn mailbox<T>() -> Result<(Outbox<T>, Inbox<T>), HostError> {
    let (sender, receiver) = mpsc::channel();
    let wake = Arc::new(WakeFd::new()?);
    Ok((Outbox(sender, wake.clone()), Inbox(receiver, wake)))
}

impl<T> Outbox<T> {
    /// Sends without waiting. A loop that has ended receives nothing more.
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
    /// Takes all messages, in order.
    pub(crate) fn take(&self) -> impl Iterator<Item = T> {
        // Reset first, so that later messages wake the loop again.
        self.1.clear();
        self.0.try_iter()
    }
}

impl<T> AsRawFd for Inbox<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.1.as_raw_fd()
    }
}
