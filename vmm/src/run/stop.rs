//! Stops a machine's threads, within a limit: a thread that the host blocks is left behind.

use std::time::Duration;

use tracing::warn;

use crate::error::HostError;
use crate::exit::Verdict;
use crate::run::start::Running;
use crate::vcpu::exits::Exits;

use crate::machine::devices::{Devices, Unfinished};

/// The time after which a line is logged that names what blocks the threads.
const SOON: Duration = Duration::from_secs(1);
/// The time after which the remaining threads are left behind.
const AT_LAST: Duration = Duration::from_secs(5);

impl Running {
    /// Stops all threads and waits for them within the limit. Returns the number of exits.
    ///
    /// # Errors
    ///
    /// If a thread panicked, or the I/O thread failed.
    pub(crate) fn stop(self) -> Result<Exits, HostError> {
        self.ending.stop();
        self.devices.stop();
        self.gate.end();
        if let Some(debugger) = &self.debugger {
            debugger.end();
        }
        self.kick();
        let mut left = self.roll.wait(SOON);
        if !left.is_empty() {
            warn!("{}", what_is_waited_for(&left, self.devices.unfinished().as_ref()));
            left = self.roll.wait(AT_LAST.saturating_sub(SOON));
        }
        self.devices.leave_unfinished();
        // The kernel ends a thread only when it has finished what the thread put into an io_uring.
        let may_hang = self.devices.unfinished().is_some();
        let mut exits = Exits::default();
        for (name, thread) in self.threads {
            if !left.contains(&name) && !may_hang {
                exits = exits.plus(thread.join()?);
            }
        }
        for (name, thread) in self.workers {
            if !left.contains(&name) && !may_hang {
                thread.join().map_err(|_| HostError::Bug(format!("{name} panicked")))??;
            }
        }
        // The guest's output is written before the log lines about its end.
        drop(self.output);
        if self.linux
            && let Some(verdict) = self.ending.verdict()
        {
            report(&verdict, &self.devices);
        }
        Ok(exits)
    }
}

/// The reason why shutdown takes long, as far as it is known.
fn what_is_waited_for(threads: &[String], unfinished: Option<&Unfinished>) -> String {
    match unfinished {
        Some(unfinished) => format!("the machine has ended; waiting for {unfinished}"),
        None => format!(
            "the machine has ended; waiting for {}, which does not stop",
            threads.join(", ")
        ),
    }
}

/// Logs which disks a Linux guest never used, if the guest ended the run itself.
fn report(verdict: &Verdict, devices: &Devices) {
    if !matches!(verdict, Verdict::PowerOff | Verdict::Reset | Verdict::Crash(_)) {
        return;
    }
    for disk in devices.disks.iter().filter(|disk| !disk.device.was_used()) {
        warn!(
            "the guest never used {}: no driver set DRIVER_OK; its kernel needs VIRTIO_MMIO and VIRTIO_BLK, built in or \
             as modules in the initrd",
            disk.blk.name()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_said_of_a_late_thread() {
        let threads = ["vCPU 0".to_owned(), "the I/O thread".to_owned()];
        assert_eq!(
            what_is_waited_for(&threads, None),
            "the machine has ended; waiting for vCPU 0, the I/O thread, which does not stop"
        );
    }
}
