//! What becomes of a write that finds the host's disk full: an error, or patience.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{BlockError, Completion, Engine, Request};

/// Whoever can wait for room on the host.
pub trait Gate: Send + Sync {
    /// Blocks until there may be room again: true, and the request is tried once more. False where nobody waits
    /// any longer, and the request is to fail. `disk` and `error` are for whoever is told.
    fn wait_for_room(&self, disk: &str, error: &io::Error) -> bool;
}

/// An engine that tries a request again, for as long as the host's disk is full and a [`Gate`] says so.
///
/// Nothing else happens on the disk meanwhile, so requests keep their order.
pub struct PatientEngine {
    inner: Box<dyn Engine>,
    gate: Arc<dyn Gate>,
    /// What messages call the disk.
    name: String,
    done: Vec<Completion>,
}

impl PatientEngine {
    /// An engine in front of `inner`, which must finish requests inside `submit`.
    pub fn new(inner: Box<dyn Engine>, name: String, gate: Arc<dyn Gate>) -> Self {
        Self { inner, gate, name, done: Vec::new() }
    }

    /// Whether a completion is to be tried again.
    fn is_patient(&self, completion: &Completion) -> bool {
        match &completion.result {
            Err(BlockError::Host { source, .. }) if is_full(source) => {
                self.gate.wait_for_room(&self.name, source)
            }
            _ => false,
        }
    }
}

/// Whether more room on the host would help.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Engine for PatientEngine {
    fn submit(&mut self, request: Request) {
        let Request { tag, operation, offset } = request;
        let mut tries = Vec::with_capacity(1);
        loop {
            let operation = operation.clone();
            self.inner.submit(Request { tag, operation, offset });
            self.inner.wait();
            self.inner.reap(&mut tries);
            if !tries.iter().any(|completion| self.is_patient(completion)) {
                return self.done.append(&mut tries);
            }
            tries.clear();
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wait(&mut self) {}

    fn grow(&mut self, size: u64) -> io::Result<()> {
        self.inner.grow(size)
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl fmt::Debug for PatientEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientEngine").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::block::{Access, Cache, Image, Operation, SyncEngine};
    use crate::memory::{Buffers, GuestRam};
    use crate::testing::{Fault, FaultEngine, Faults};

    /// Is patient so many times, and remembers what it was told.
    struct Times(Mutex<(usize, Vec<String>)>);

    impl Gate for Times {
        fn wait_for_room(&self, disk: &str, error: &io::Error) -> bool {
            let (left, told) = &mut *self.0.lock().unwrap();
            told.push(format!("{disk}: {:?}", error.kind()));
            *left = left.wrapping_sub(1);
            *left < 100
        }
    }

    fn engine(times: usize) -> (tempfile::TempDir, PatientEngine, Faults, Arc<Times>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.img");
        std::fs::write(&path, [1; 1024]).unwrap();
        let image = Image::open(&path, Cache::WriteBack.opening(Access::ReadWrite)).unwrap();
        let inner = FaultEngine::new(Box::new(SyncEngine::new(image)));
        let faults = inner.faults();
        let gate = Arc::new(Times(Mutex::new((times, Vec::new()))));
        (dir, PatientEngine::new(Box::new(inner), "d.img".into(), gate.clone()), faults, gate)
    }

    fn write(engine: &mut PatientEngine) -> Completion {
        let ram = GuestRam::anonymous(&[(0, 4096)]).unwrap();
        let data = Buffers::single(ram, 0, 1024).unwrap();
        let operation = Operation::Write { data, durable: false };
        engine.submit(Request { tag: 7, operation, offset: 0 });
        let mut done = Vec::new();
        engine.reap(&mut done);
        assert_eq!((done.len(), done[0].tag), (1, 7));
        done.remove(0)
    }

    #[test]
    fn a_write_waits_for_room_and_is_then_done_wholly() {
        let (dir, mut engine, faults, gate) = engine(50);
        faults.push(Fault::After(0, libc::ENOSPC));
        faults.push(Fault::After(512, libc::EDQUOT));
        let done = write(&mut engine);
        assert!(done.result.is_ok());
        assert_eq!(done.transferred, 1024);
        assert_eq!(std::fs::read(dir.path().join("d.img")).unwrap(), [0; 1024]);
        assert_eq!(gate.0.lock().unwrap().1, ["d.img: StorageFull", "d.img: QuotaExceeded"]);
    }

    #[test]
    fn a_write_that_nobody_waits_for_fails_and_so_does_any_other_error() {
        let (_dir, mut engine, faults, gate) = engine(1);
        for _ in 0..2 {
            faults.push(Fault::After(0, libc::ENOSPC));
        }
        assert!(write(&mut engine).result.is_err());
        assert_eq!(gate.0.lock().unwrap().1.len(), 2);
        faults.push(Fault::After(512, libc::EIO));
        let done = write(&mut engine);
        assert!(done.result.is_err());
        assert_eq!((done.transferred, gate.0.lock().unwrap().1.len()), (512, 2));
    }
}
