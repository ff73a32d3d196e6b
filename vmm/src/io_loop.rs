//! The thread beside the vCPUs: what devices leave undone in a doorbell, and the control socket.

use std::sync::{Arc, TryLockError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::error;

use crate::control::{ControlSocket, Controlled};
use crate::error::HostError;
use crate::event::Event;
use crate::vcpu::Ending;

/// How soon to try a device again that a vCPU holds.
const BUSY: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// What the thread needs.
pub(crate) struct IoLoop {
    pub(crate) ending: Arc<Ending>,
    /// Told when a device has left work undone, or was taken over.
    pub(crate) helper: Arc<Event>,
    pub(crate) controlled: Controlled,
    pub(crate) control: Option<ControlSocket>,
}

impl IoLoop {
    /// Starts the thread; it ends with the machine.
    ///
    /// # Errors
    ///
    /// Where the host gives no thread.
    pub(crate) fn spawn(self) -> Result<JoinHandle<()>, HostError> {
        let run = move || {
            if let Err(error) = self.run() {
                error!("the control socket is served no longer: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("io".to_owned()).spawn(run);
        thread.map_err(HostError::os("start the thread beside the vCPUs"))
    }

    fn run(mut self) -> Result<(), HostError> {
        let mut busy = false;
        while !self.ending.requested() {
            let mut fds = vec![
                PollFd::new(self.ending.event(), PollFlags::IN),
                PollFd::new(&*self.helper, PollFlags::IN),
            ];
            fds.extend(self.control.iter().flat_map(ControlSocket::poll_fds));
            match poll(&mut fds, busy.then_some(&BUSY)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(HostError::os("wait for work")(error)),
            }
            if self.helper.take() || busy {
                let helped = self.help();
                busy = !(self.controlled.pages.look() && helped);
            }
            if let Some(control) = &mut self.control {
                control.serve(&mut self.controlled);
            }
        }
        Ok(())
    }

    /// Does what devices left undone. False where one is held, perhaps for long: by a vCPU in a full disk's pause.
    fn help(&self) -> bool {
        let mut all = true;
        for disk in &self.controlled.disks {
            match disk.device.try_lock() {
                Ok(mut device) => device.service_unfinished(),
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().service_unfinished(),
                Err(TryLockError::WouldBlock) => all = false,
            }
        }
        all
    }
}
