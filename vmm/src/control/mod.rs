//! The control socket: one JSON object in each line controls the running machine, and is answered with one line.
//!
//! | message | does |
//! |---|---|
//! | `{"resize":{"id":"ID","size":SIZE}}` | enlarges a virtio disk and its image; SIZE in bytes, or a text such as "64M" |
//! | `{"limit":{"id":"ID","bps":SIZE,"iops":N}}` | limits the bytes and requests a second of a disk; also `"bps-burst"` and `"iops-burst"`; what is left out, null or 0 is not limited |
//! | `{"pause":{}}` | stops all vCPUs, and waits until no disk has a request in flight |
//! | `{"resume":{}}` | retries requests that found the host's disk full, then resumes the vCPUs |
//! | `{"backup":{"id":"ID","to":"FILE"}}` | copies the disk, as it is when the message arrives, to a new raw file; the guest goes on |
//! | `{"commit":{"id":"ID"}}` | writes an overlay into its raw base; the guest goes on, and the overlay stays as it is |
//! | `{"explain":{}}` | reports what the guest waits for |
//! | `{"status":{}}` | reports the machine's state and its disks |
//! | `{"quit":{}}` | ends the machine, with status 0 |
//! | `{"screenshot":{"to":"x.png"}}` | writes what the screen shows as a PNG file; with `"cursor":true`, the cursor, too |
//! | `{"keys":["ctrl","alt","delete"]}` | presses keys in this order, then releases them in the reverse order |
//! | `{"type":"text"}` | types a text on the keyboard, as a US keyboard does |
//! | `{"pointer":{"x":10,"y":20,"buttons":["left"]}}` | moves the pointer, and holds these buttons from now on |
//!
//! The answer is `{"result":...}` or `{"error":"..."}`. A message names a disk by its id or by its name in the log:
//! `virtio0`, `virtio1`, ..., for `backup` and `commit` also `svirtb`. Only the user who started the machine can use the socket.
//!
//! `backup` and `commit` are answered when they are finished, however long they take, with `"bytes"`, the size of the disk
//! or what was written, `"written"` for a backup, without zeros, and `"seconds"`. If a backup fails there is no file. If
//! a commit fails, the base may have a part of the overlay's content; the overlay has all of it.
//!
//! A screenshot replaces a PNG file, an empty one, or none; the answer comes when the file is complete. Keys have the names
//! of Linux's `input-event-codes.h` without `KEY_`, or those of QEMU's monitor: `a`, `enter`, `leftctrl` or `ctrl`. In a
//! text, a newline is Enter; a text with a character that has no key is refused as a whole. The pointer has `x` and `y`, a
//! pixel of the screen, for a tablet, or `dx` and `dy`, steps, for a mouse; `buttons` (left, middle, right, side, extra)
//! stay as they are without a list; `wheel` has the steps of the wheel, up if positive. The answers to keys, texts and
//! pointers come when the guest's driver has taken the events, or with the reason if it takes none for 5 s.
//!
//! `status` reports `"state"`: running, pausing, paused or resuming; `"paused"`: true only in the state paused;
//! `"reason"`, if the machine does not run: a client's message, or the full disk with the host's error; and `"disks"`:
//! for each the name, bus, image path, size in bytes, whether it is read-only, format and engine; on virtio also its id;
//! with layers the backing images, over a network the number of reconnects; the finished `"requests"`, their `"bytes"`
//! and `"errors"` by kind, and the requests `"in-flight"`; of a limited disk the `"limits"`, and the requests that they have
//! `"delayed"`.
//!
//! | question | file |
//! |---|---|
//! | Which messages are there? | `message.rs` |
//! | What does a message do, and what is the answer? | `operator.rs` |
//! | How are backups and commits made? | `copies.rs` |
//! | What of it concerns the screen, the keyboard and the pointer? | `seat.rs` |
//! | How does a client's input become lines? | `client.rs` |
//! | How are connections accepted and watched? | `socket.rs` |

mod client;
mod copies;
mod message;
mod operator;
mod seat;
mod socket;

use std::path::Path;
use std::time::Duration;

use crate::error::HostError;
use crate::runtime::listener::Listener;
use crate::runtime::unix_socket;

pub(crate) use operator::Operator;
pub(crate) use seat::Seat;
pub(crate) use socket::ControlSocket;

/// How long a client waits for an answer, unless it is known to take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens at `path`.
///
/// # Errors
///
/// If another file is there, or the host cannot create a socket.
pub(crate) fn listen(path: &Path) -> Result<Listener, HostError> {
    unix_socket::Listener::at(path)
        .map(Listener::Unix)
        .map_err(|source| HostError::Control { path: path.to_owned(), source })
}
