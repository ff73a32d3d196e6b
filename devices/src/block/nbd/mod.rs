//! A disk on an NBD server: `nbd://`, `nbds://`, `nbd+unix://`, `nbds+unix://`.
//!
//! ```text
//!  lane ──▶ NbdEngine ──┐                      ┌── Connection ──▶ socket, with TLS or without
//!  lane ──▶ NbdEngine ──┼──▶ Link { Session, ──┤
//!  NbdLink::run (VMM) ──┘    one lock }        └── Connection ──▶ socket
//! ```
//!
//! # A lost connection
//!
//! When the connection is lost, requests wait, and the link is established again. **No flush is answered while writes
//! that were acknowledged before it may have been lost.** The argument:
//!
//! 1. A server that ends may lose what it acknowledged and did not flush. The next server shows what is on its stable
//!    storage. The client cannot tell a new server from the old one, so it always expects the worst.
//! 2. So each change that was acknowledged is *kept*, with its bytes, until the server has answered a flush that was
//!    sent after the acknowledgement. Such a flush covers the change ("NBD_CMD_FLUSH": all writes whose replies were
//!    received before it is sent).
//! 3. After a loss, the kept changes are sent again before anything else, and nothing else is sent until all are
//!    acknowledged. A read therefore sees what reads saw before the loss, and a flush covers the repeated changes.
//! 4. The order is right: a change is not sent while one that overlaps it is unanswered, so overlapping changes are
//!    acknowledged in the order in which they were sent, kept in that order, and repeated in that order.
//! 5. Requests that were never answered are sent again after that. To carry out one of them twice changes nothing: they
//!    are reads, flushes, or changes to given bytes, and no overlapping change was sent after them.
//! 6. A change with FUA is on stable storage when it is answered. It is kept only where older changes are kept, which
//!    would otherwise be repeated over it.
//! 7. Several connections have one session: when one is lost, all are given up. So all changes and flushes between two
//!    losses went to servers that saw the same data (NBD_FLAG_CAN_MULTI_CONN).
//!
//! What is kept is bounded: above 16 MiB a flush is sent without being asked for, and above 32 MiB no change is sent
//! until it is answered. A server without FLUSH makes no promises, and nothing is kept for it. A flush that the server
//! answers with an error is final, as for every disk.
//!
//! The bytes to keep are copied when the answer arrives. A guest that changes a buffer while it is written gets old or
//! new bytes, as with every disk.
//!
//! | question | file |
//! |---|---|
//! | What is an NBD URI? | `uri.rs` |
//! | Which numbers and messages does the protocol have? | `wire.rs` |
//! | What is agreed on first, and what is refused then? | `handshake.rs` |
//! | How is a connection made, and when is an export unfit? | `open.rs`, `stream.rs`, `tls.rs` |
//! | Which messages does a request become, and what does a reply mean? | `session.rs`, `session/`, `piece.rs` |
//! | What is repeated after a loss? | `kept.rs` |
//! | How are many messages moved by one call? | `connection.rs` |
//! | Who looks after the connections, and what happens when they are lost? | `link.rs`, `link/watch.rs` |
//! | Which thread waits for an answer? | `engine.rs` |
//! | How is all this but the link played by bytes, for the fuzzer? | `play.rs` |

mod connection;
mod engine;
mod handshake;
mod kept;
mod link;
mod open;
mod piece;
#[cfg(any(test, feature = "testing"))]
pub mod play;
mod session;
mod stream;
mod tls;
mod uri;
mod wire;

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use self::engine::NbdEngine;
use self::link::Shared;
use self::open::Target;
use super::{Engine, Stop, Storage, StorageInfo};

pub use link::NbdLink;
pub use open::{NbdError, NbdOptions};
pub use tls::{TlsError, TlsFiles};
pub use uri::{NbdUri, Server, UriError};

/// An export of an NBD server as the storage of a disk.
#[derive(Debug)]
pub struct NbdStorage(Arc<Shared>);

impl NbdStorage {
    /// Connects to the server: within 10 s.
    ///
    /// # Errors
    ///
    /// Why the export cannot be used.
    pub fn open(options: NbdOptions) -> Result<Self, NbdError> {
        Shared::open(Target::new(options)?).map(|shared| Self(Arc::new(shared)))
    }

    /// The size in bytes: whole sectors.
    pub fn size(&self) -> u64 {
        self.0.lock().session.export().size
    }

    /// The URI.
    pub fn uri(&self) -> &NbdUri {
        &self.0.target.options.uri
    }

    /// What the VMM must run on a thread, from before the first request on.
    pub fn link(&self) -> NbdLink {
        NbdLink(self.0.clone())
    }

    /// What the server offers, in words.
    pub fn describe(&self) -> String {
        self.0.lock().session.export().describe()
    }
}

impl Drop for NbdStorage {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Storage for NbdStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        self.0.stopped_by(stop);
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let rouse = Arc::new(link::descriptor()?);
        Ok(Box::new(NbdEngine::new(self.0.clone(), wake, rouse)))
    }

    fn grow(&self, _size: u64) -> io::Result<()> {
        let why = "an export has the size that its server gives it; enlarge it there, and start the machine again";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    fn frees_space(&self) -> bool {
        self.0.lock().session.export().has(wire::export_flag::SEND_TRIM)
    }

    fn info(&self) -> StorageInfo {
        StorageInfo { reconnects: Some(self.0.reconnects()), ..StorageInfo::raw("nbd") }
    }
}

#[cfg(test)]
mod tests;
