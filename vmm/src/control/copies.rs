//! Backups and commits, each on a thread of its own: they read and write much, and wait for the host.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use cafevm_devices::block::{Backup, Commit};
use serde_json::{Value, json};
use tracing::info;

use crate::machine::devices::AnyDisk;
use crate::runtime::messages::{Answer, Ticket};
use crate::threads::mailbox::Outbox;

/// The backups and commits of a machine. Dropped, it ends those that are not finished, and waits for their threads.
pub(super) struct Copies {
    answers: Outbox<(Ticket, Answer)>,
    ended: Arc<AtomicBool>,
    /// The disks that are being copied.
    busy: Arc<Mutex<BTreeSet<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// Why a copy ended early.
const ENDED: &str = "not finished, because the machine ends";

impl Copies {
    /// Without a copy. Answers go to `answers`.
    pub(super) fn new(answers: Outbox<(Ticket, Answer)>) -> Self {
        Self { answers, ended: Arc::default(), busy: Arc::default(), threads: Vec::new() }
    }

    /// Begins a backup of `disk`, which the client calls `id`, to the file `to`; or a commit.
    ///
    /// # Errors
    ///
    /// If one of this disk is not finished, or the host provides no thread.
    pub(super) fn begin(
        &mut self,
        ticket: Ticket,
        disk: AnyDisk,
        id: String,
        to: Option<PathBuf>,
    ) -> Result<(), String> {
        self.threads.retain(|thread| !thread.is_finished());
        let name = disk.disk().name().to_owned();
        if !self.busy().insert(name.clone()) {
            return Err(format!("{id}: another backup or commit of it is not finished"));
        }
        let disk_name = name.clone();
        let (answers, ended, busy) = (self.answers.clone(), self.ended.clone(), self.busy.clone());
        let work = move || {
            let begin = Instant::now();
            let done = match &to {
                Some(to) => backup(&disk, to, &ended),
                None => commit(&disk, &ended),
            };
            let answer = done.map(|mut done| {
                let seconds = begin.elapsed().as_secs_f64();
                let what = if to.is_some() { "backup" } else { "commit" };
                info!("{id}: {what} finished after {seconds:.3} s: {done}");
                if let Some(done) = done.as_object_mut() {
                    done.insert("id".to_owned(), id.clone().into());
                    done.insert("seconds".to_owned(), seconds.into());
                }
                done
            });
            // Before the answer: the next message may follow at once.
            busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            answers.send((ticket, answer.map_err(|why| format!("{id}: {why}"))));
        };
        match thread::Builder::new().name("copy".to_owned()).spawn(work) {
            Ok(thread) => {
                self.threads.push(thread);
                Ok(())
            }
            Err(error) => {
                self.busy().remove(&disk_name);
                Err(format!("no thread for it: {error}"))
            }
        }
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ended = thread.join();
        }
    }
}

fn backup(disk: &AnyDisk, to: &Path, ended: &AtomicBool) -> Result<Value, String> {
    let mut backup = Backup::new(disk.disk(), to).map_err(text)?;
    disk.while_idle(|| backup.begin()).map_err(text)?.map_err(text)?;
    while backup.step().map_err(text)? {
        check(ended)?;
    }
    let (bytes, written) = backup.finish().map_err(text)?;
    Ok(json!({ "to": to, "bytes": bytes, "written": written }))
}

fn commit(disk: &AnyDisk, ended: &AtomicBool) -> Result<Value, String> {
    let mut commit = Commit::new(disk.disk()).map_err(text)?;
    disk.while_idle(|| commit.begin()).map_err(text)?.map_err(text)?;
    while commit.step().map_err(text)? {
        check(ended)?;
    }
    let bytes = disk.while_idle(|| commit.finish()).map_err(text)?.map_err(text)?;
    Ok(json!({ "bytes": bytes }))
}

fn check(ended: &AtomicBool) -> Result<(), String> {
    if ended.load(Ordering::Relaxed) { Err(ENDED.to_owned()) } else { Ok(()) }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
