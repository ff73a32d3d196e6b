//! The control socket: what a running machine can be told, one JSON object a line, each answered by one.
//!
//! | message | does |
//! |---|---|
//! | `{"resize":{"id":"ID","size":SIZE}}` | makes a virtio disk larger, image and all; SIZE in bytes, or a text such as "64M" |
//! | `{"pause":{}}` | stops all vCPUs, and waits until no disk has a request in flight |
//! | `{"resume":{}}` | tries again what found the host full, then lets the vCPUs go on |
//! | `{"status":{}}` | gives the machine's state, and its disks |
//! | `{"quit":{}}` | ends the machine, with status 0 |
//!
//! The answer is `{"result":...}` or `{"error":"..."}`. A disk is named by its id or, as in the log, by
//! `virtio0`, `virtio1`, ... The socket belongs to the user who started the machine, and to nobody else.
//!
//! `status` gives `"state"`, one of running, pausing, paused and resuming; `"paused"`, which is true in the state
//! paused only; where the machine is not running, `"reason"`: a client's message, or the full disk and the host's error;
//! and `"disks"`: of each the name, bus, image path, size in bytes and whether it is read-only, on virtio also its id.
//!
//! | question | file |
//! |---|---|
//! | Which messages are there? | `message.rs` |
//! | What does a message do, and what is its answer? | `operator.rs` |
//! | How are a client's bytes lines, and when is it its turn? | `client.rs` |
//! | Who connects, and who is waited for? | `socket.rs` |

mod client;
mod message;
mod operator;
mod socket;

pub(crate) use operator::Operator;
pub(crate) use socket::{ControlSocket, Listener};
