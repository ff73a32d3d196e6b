//! Carries out messages.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::block::{Disk, DiskStats, ErrorKind, OperationKind};
use cafevm_devices::svirtb;
use serde_json::{Value, json};

use super::PATIENCE;
use super::copies::Copies;
use super::message::Message;
use super::seat::Seat;
use crate::exit::Verdict;
use crate::machine::devices::Devices;
use crate::runtime::messages::{self, Answer, Job, Ticket};
use crate::runtime::pausing::Pausing;
use crate::threads::ending::Ending;
use crate::threads::mailbox::Outbox;
use crate::waiting::{Explain, Explanation};

/// Carries out messages of clients, without blocking.
pub(crate) struct Operator<'a> {
    pub(crate) devices: Devices,
    pub(crate) jobs: Outbox<Job>,
    pub(crate) pausing: Rc<RefCell<Pausing<'a>>>,
    pub(crate) ending: Arc<Ending>,
    explain: Explain<'a>,
    copies: Copies,
    seat: Seat,
    next: u64,
}

/// An answer that follows later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Later {
    pub(super) ticket: Ticket,
    /// How long the client waits for it, unless it comes in any case: after a copy of a disk, or when all is typed.
    pub(super) within: Option<Duration>,
}

impl<'a> Operator<'a> {
    /// For a machine with these devices.
    pub(crate) fn new(
        devices: Devices,
        jobs: Outbox<Job>,
        pausing: Rc<RefCell<Pausing<'a>>>,
        ending: Arc<Ending>,
        explain: Explain<'a>,
        answers: Outbox<(Ticket, Answer)>,
        seat: Seat,
    ) -> Self {
        let copies = Copies::new(answers);
        Self { devices, jobs, pausing, ending, explain, copies, seat, next: 0 }
    }

    /// Carries out one line. Returns the answer, or one that follows later.
    pub(super) fn perform(&mut self, line: &[u8]) -> Result<Answer, Later> {
        let message = match Message::parse(line) {
            Ok(message) => message,
            Err(why) => return Ok(Err(why)),
        };
        self.next += 1;
        let ticket = Ticket(self.next);
        // A text may be long. Its answer comes in any case.
        let is_input =
            matches!(message, Message::Keys(_) | Message::Type(_) | Message::Pointer { .. });
        let within = (!is_input).then_some(PATIENCE);
        let begun = match message {
            Message::Status => return Ok(Ok(self.status())),
            Message::Explain => {
                let Explanation { lines, is_outstanding, .. } = (self.explain)();
                return Ok(Ok(json!({ "outstanding": is_outstanding, "lines": lines })));
            }
            Message::Quit => {
                self.ending.end(Verdict::Quit);
                return Ok(Ok(json!({})));
            }
            Message::Pause => {
                self.pausing.borrow_mut().pause(ticket);
                Ok(())
            }
            Message::Resume => {
                self.pausing.borrow_mut().resume(ticket);
                Ok(())
            }
            Message::Resize { id, bytes } => self.find(&id).map(|disk| {
                self.jobs.send(Job::Resize { ticket, disk, id, bytes });
            }),
            Message::Limit { id, limits } => self
                .find_any(&id)
                .map(|disk| self.jobs.send(Job::Limit { ticket, disk, id, limits })),
            Message::Backup { id, to } => return self.copy(ticket, id, Some(to)),
            Message::Commit { id } => return self.copy(ticket, id, None),
            Message::Screenshot { to, cursor } => self.seat.screenshot(ticket, to, cursor),
            Message::Keys(codes) => self.while_it_runs(|seat| seat.keys(ticket, &codes)),
            Message::Type(text) => self.while_it_runs(|seat| seat.text(ticket, &text)),
            Message::Pointer { place, buttons, wheel } => {
                self.while_it_runs(|seat| seat.pointer(ticket, place, buttons, wheel))
            }
        };
        match begun {
            Ok(()) => Err(Later { ticket, within }),
            Err(why) => Ok(Err(why)),
        }
    }

    /// Begins what a guest takes only while it runs.
    fn while_it_runs(&self, begin: impl FnOnce(&Seat) -> Result<(), String>) -> Result<(), String> {
        let (state, _) = self.pausing.borrow().status();
        if state != "running" {
            return Err(format!("the machine is {state}; resume it first"));
        }
        begin(&self.seat)
    }

    /// The reason why an answer takes long, as far as it is known.
    pub(super) fn delay(&self) -> String {
        let (state, _) = self.pausing.borrow().status();
        let why = self.devices.unfinished().map(|unfinished| format!(": {unfinished}"));
        format!("the machine is {state}{}", why.unwrap_or_default())
    }

    fn status(&self) -> Value {
        let virtio = self.devices.disks.iter().map(|disk| {
            let (name, id) = (disk.blk.name(), disk.blk.id());
            described(disk.blk.disk(), json!({ "name": name, "id": id, "bus": "virtio" }))
        });
        let svirtb =
            self.devices.svirtb.iter().map(|svirtb| {
                described(&svirtb.disk, json!({ "name": "svirtb", "bus": "svirtb" }))
            });
        let disks: Vec<_> = virtio.chain(svirtb).collect();
        let (state, reason) = self.pausing.borrow().status();
        let mut status = json!({ "state": state, "paused": state == "paused", "disks": disks });
        if let (Some(reason), Some(status)) = (reason, status.as_object_mut()) {
            status.insert("reason".to_owned(), reason.into());
        }
        status
    }

    /// Begins a backup to a file, or a commit.
    fn copy(&mut self, ticket: Ticket, id: String, to: Option<PathBuf>) -> Result<Answer, Later> {
        let known = |disk| self.devices.any(disk).ok_or_else(|| format!("{id}: no such disk"));
        let found = self.find_any(&id).and_then(known);
        match found.and_then(|disk| self.copies.begin(ticket, disk, id, to)) {
            Ok(()) => Err(Later { ticket, within: None }),
            Err(why) => Ok(Err(why)),
        }
    }

    /// Finds a disk on either bus: see [`Devices::any`].
    fn find_any(&self, id: &str) -> Result<Option<usize>, String> {
        let is_svirtb = self.devices.svirtb.is_some() && id == svirtb::NAME;
        if is_svirtb { Ok(None) } else { self.find(id).map(Some) }
    }

    /// Finds a virtio disk.
    fn find(&self, id: &str) -> Result<usize, String> {
        let disks = &self.devices.disks;
        disks.iter().position(|d| d.blk.id() == id || d.blk.name() == id).ok_or_else(|| {
            let known: Vec<_> =
                disks.iter().map(|d| format!("{} ({})", d.blk.id(), d.blk.name())).collect();
            format!("no virtio disk has the id {id:?}; there are: {}", known.join(", "))
        })
    }
}

/// An object of these numbers.
fn counts<const N: usize>(names: [&str; N], numbers: [u64; N]) -> Value {
    let names = names.map(|name| name.replace(' ', "-"));
    Value::Object(names.into_iter().zip(numbers.map(Value::from)).collect())
}

/// Adds to `known` what `status` reports of every disk.
fn described(disk: &Disk, mut known: Value) -> Value {
    if let Some(known) = known.as_object_mut() {
        known.insert("path".to_owned(), disk.name().into());
        known.insert("size".to_owned(), disk.size().into());
        known.insert("read-only".to_owned(), disk.read_only().into());
        let info = disk.info();
        known.insert("format".to_owned(), info.format.into());
        known.insert("engine".to_owned(), info.engine.into());
        let DiskStats { operations, errors, in_flight, delayed } = disk.stats();
        let kinds = OperationKind::ALL.map(OperationKind::name);
        let requests = operations.map(|operation| operation.requests);
        known.insert("requests".to_owned(), counts(kinds, requests));
        known.insert("bytes".to_owned(), counts(kinds, operations.map(|done| done.bytes)));
        known.insert("errors".to_owned(), counts(ErrorKind::ALL.map(ErrorKind::name), errors));
        known.insert("in-flight".to_owned(), in_flight.into());
        let limits = disk.limits();
        if !limits.is_none() {
            known.insert("limits".to_owned(), messages::limits(limits).into());
            known.insert("delayed".to_owned(), delayed.into());
        }
        if !info.backing.is_empty() {
            known.insert("backing".to_owned(), info.backing.into());
        }
        if let Some(reconnects) = info.reconnects {
            known.insert("reconnects".to_owned(), reconnects.into());
        }
    }
    known
}
