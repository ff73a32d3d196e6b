//! What a message means, and what is its answer.

use std::cell::RefCell;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::devices::{Devices, VirtioDisk};
use crate::runtime::messages::{Answer, Job, Ticket};
use crate::runtime::pausing::Pausing;
use crate::size;
use crate::threads::mailbox::Outbox;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Message {
    Resize { id: String, size: Size },
    Pause {},
    Resume {},
    Status {},
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

impl Size {
    fn bytes(&self) -> Result<u64, String> {
        match self {
            Self::Bytes(bytes) => Ok(*bytes),
            Self::Text(text) => {
                size::parse(text).map_err(|error| format!("size {text:?}: {error}"))
            }
        }
    }
}

/// Does what clients ask for, without ever waiting.
pub(crate) struct Operator<'a> {
    pub(crate) devices: Devices,
    pub(crate) jobs: Outbox<Job>,
    pub(crate) pausing: Rc<RefCell<Pausing<'a>>>,
    next: u64,
}

impl<'a> Operator<'a> {
    /// For a machine with these disks.
    pub(crate) const fn new(
        devices: Devices,
        jobs: Outbox<Job>,
        pausing: Rc<RefCell<Pausing<'a>>>,
    ) -> Self {
        Self { devices, jobs, pausing, next: 0 }
    }

    /// Does what one line says. The answer, or the ticket by which it comes later.
    pub(super) fn perform(&mut self, line: &[u8]) -> Result<Answer, Ticket> {
        let message = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                return Ok(Err(format!(
                    "not a message ({error}); the messages are resize, pause, resume and status, as in \
                     {{\"resize\":{{\"id\":\"virtio0\",\"size\":\"64M\"}}}}"
                )));
            }
        };
        self.next += 1;
        let ticket = Ticket(self.next);
        match message {
            Message::Status {} => return Ok(Ok(self.status())),
            Message::Pause {} => self.pausing.borrow_mut().pause(ticket),
            Message::Resume {} => self.pausing.borrow_mut().resume(ticket),
            Message::Resize { id, size } => {
                match self.find(&id).and_then(|n| Ok((n, size.bytes()?))) {
                    Ok((disk, bytes)) => self.jobs.send(Job::Resize { ticket, disk, id, bytes }),
                    Err(why) => return Ok(Err(why)),
                }
            }
        }
        Err(ticket)
    }

    /// Why an answer takes long, as far as it is known.
    pub(super) fn delay(&self) -> String {
        let (state, _) = self.pausing.borrow().status();
        let why = self.devices.unfinished().map(|unfinished| format!(": {unfinished}"));
        format!("the machine is {state}{}", why.unwrap_or_default())
    }

    fn status(&self) -> Value {
        let disk = |d: &VirtioDisk| json!({ "name": d.blk.name(), "id": d.blk.id() });
        let disks: Vec<_> = self.devices.disks.iter().map(disk).collect();
        let (state, reason) = self.pausing.borrow().status();
        let mut status = json!({ "state": state, "paused": state == "paused", "disks": disks });
        if let (Some(reason), Some(status)) = (reason, status.as_object_mut()) {
            status.insert("reason".to_owned(), reason.into());
        }
        status
    }

    /// A virtio disk's number.
    fn find(&self, id: &str) -> Result<usize, String> {
        let disks = &self.devices.disks;
        disks.iter().position(|d| d.blk.id() == id || d.blk.name() == id).ok_or_else(|| {
            let known: Vec<_> =
                disks.iter().map(|d| format!("{} ({})", d.blk.id(), d.blk.name())).collect();
            format!("no virtio disk has the id {id:?}; there are: {}", known.join(", "))
        })
    }
}
