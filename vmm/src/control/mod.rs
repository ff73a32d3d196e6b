//! The control socket: what a running machine can be told, one JSON object a line, each answered by one.
//!
//! | message | does |
//! |---|---|
//! | `{"resize":{"id":"ID","size":SIZE}}` | makes a virtio disk larger, image and all; SIZE in bytes, or a text such as "64M" |
//! | `{"pause":{}}` | stops all vCPUs |
//! | `{"resume":{}}` | lets them go on |
//! | `{"status":{}}` | tells whether the machine is paused, and its disks |
//!
//! The answer is `{"result":...}` or `{"error":"..."}`. A disk is named by its id or, as in the log, by
//! `virtio0`, `virtio1`, ... The socket belongs to the user who started the machine, and to nobody else.

mod socket;

use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::Duration;

use cafevm_devices::virtio::mmio::Mmio;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pause::Pause;
use crate::register_pages::RegisterPages;
use crate::size;

pub(crate) use socket::ControlSocket;

/// How soon to try a disk again that a vCPU holds.
const BUSY: Duration = Duration::from_millis(1);

/// A virtio disk of a running machine.
pub(crate) struct Handle {
    /// As in the log.
    pub(crate) name: String,
    /// As GET_ID tells the guest.
    pub(crate) id: String,
    pub(crate) device: Arc<Mutex<Mmio>>,
}

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

/// What the control socket speaks for.
pub(crate) struct Controlled {
    pub(crate) disks: Vec<Handle>,
    pub(crate) pages: RegisterPages,
    pub(crate) pause: Arc<Pause>,
}

impl Controlled {
    /// Does what one line says; the line to answer.
    pub(crate) fn answer(&mut self, line: &[u8]) -> String {
        let done = match serde_json::from_slice(line) {
            Ok(message) => self.perform(message),
            Err(error) => Err(format!(
                "not a message ({error}); the messages are resize, pause, resume and status, as in \
                 {{\"resize\":{{\"id\":\"virtio0\",\"size\":\"64M\"}}}}"
            )),
        };
        match done {
            Ok(result) => json!({ "result": result }),
            Err(error) => json!({ "error": error }),
        }
        .to_string()
    }

    fn perform(&mut self, message: Message) -> Result<Value, String> {
        match message {
            Message::Resize { id, size } => self.resize(&id, size.bytes()?),
            Message::Pause {} => {
                self.pause.pause();
                Ok(json!({}))
            }
            Message::Resume {} => {
                self.pause.resume();
                Ok(json!({}))
            }
            Message::Status {} => {
                let disk = |d: &Handle| json!({ "name": d.name, "id": d.id });
                let disks: Vec<_> = self.disks.iter().map(disk).collect();
                Ok(json!({ "paused": self.pause.is_paused(), "disks": disks }))
            }
        }
    }

    fn resize(&mut self, id: &str, size: u64) -> Result<Value, String> {
        let named = |d: &&Handle| d.id == id || d.name == id;
        let Some(disk) = self.disks.iter().find(named) else {
            let known: Vec<_> =
                self.disks.iter().map(|d| format!("{} ({})", d.id, d.name)).collect();
            return Err(format!(
                "no virtio disk has the id {id:?}; there are: {}",
                known.join(", ")
            ));
        };
        // A vCPU holds it for as long as a full disk keeps the machine paused, which only we can end: so no waiting
        // for the lock itself.
        let mut device = loop {
            match disk.device.try_lock() {
                Ok(device) => break device,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if self.pause.is_paused() => {
                    return Err(format!(
                        "{id} waits for room on the host; resume the machine first"
                    ));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(BUSY),
            }
        };
        self.pages
            .hidden(|| device.resize(size))
            .map_err(|error| format!("{id}: KVM does not hide its registers: {error}"))?
            .map_err(|error| format!("{id}: {error}"))?;
        Ok(json!({ "id": id, "size": size }))
    }
}

#[cfg(test)]
mod tests;
