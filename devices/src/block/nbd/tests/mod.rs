//! Disks on a server in this process.

mod engine;
mod lost;
mod wrong;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::*;
use crate::block::{BlockError, Completion, Disk, Lane, Operation, Request};
use crate::memory::{Buffers, GuestRam};
use crate::testing::{Behaviour, NbdServer};

/// Far longer than anything here takes, also on a slow machine.
const LONG: Duration = Duration::from_secs(60);

/// A disk on a server, and the thread that looks after its connections.
pub(super) struct Rig {
    disk: Disk,
    link: NbdLink,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    /// A disk on the server, whose requests wait for a lost connection this long.
    pub(super) fn new(server: &NbdServer, reconnect: Duration, connections: u16) -> Self {
        let uri = server.uri().parse().unwrap();
        Self::with(NbdOptions { reconnect, connections, ..NbdOptions::new(uri) })
    }

    pub(super) fn with(options: NbdOptions) -> Self {
        let read_only = options.read_only;
        let storage = NbdStorage::open(options).unwrap();
        let (link, size) = (storage.link(), storage.size());
        let disk = Disk::new(Box::new(storage), "a test's disk".to_owned(), size, read_only);
        let of_thread = link.clone();
        let thread = Some(thread::spawn(move || of_thread.run()));
        Self { disk, link, thread }
    }

    pub(super) fn lane(&self) -> Lane {
        self.disk.lane().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.disk.stop_handle().stop();
        self.link.wake();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

pub(super) fn ram(len: usize) -> GuestRam {
    GuestRam::anonymous(&[(0, len.next_multiple_of(4096))]).unwrap()
}

pub(super) fn write(bytes: &[u8], durable: bool) -> Operation {
    let ram = ram(bytes.len());
    ram.write(0, bytes).unwrap();
    Operation::Write { data: Buffers::single(ram, 0, bytes.len() as u64).unwrap(), durable }
}

pub(super) fn read(lane: &mut Lane, offset: u64, len: usize) -> Result<Vec<u8>, BlockError> {
    let ram = ram(len);
    let data = Buffers::single(ram.clone(), 0, len as u64).unwrap();
    lane.run(Operation::Read(data), offset)?;
    let mut bytes = vec![0; len];
    ram.read_into(0, &mut bytes).unwrap();
    Ok(bytes)
}

/// Waits for so many completions.
pub(super) fn finish(lane: &mut Lane, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    lane.reap(&mut done);
    while done.len() < count {
        lane.wait(LONG);
        let before = done.len();
        lane.reap(&mut done);
        assert!(done.len() > before, "no completion within {LONG:?}");
    }
    done
}

pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 512 + at % 251) as u8).collect()
}
