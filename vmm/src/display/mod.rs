//! The guest's screen on the host, and keys and pointer from the host to the guest.
//!
//! | question | file |
//! |---|---|
//! | How does a VNC client see the screen? | `rfb/` |
//! | How do VNC clients connect, and when does each get its turn? | `server.rs`, `connection.rs` |
//! | What does a VNC client do to the guest? | `desk.rs` |
//! | Which key is meant? | `keys/` |
//! | How do keys and motions become events of the guest's devices? | `hands.rs` |
//! | How is a text typed without losing a key? | `typing.rs` |
//! | How is a screenshot written? | `screenshot.rs` |

mod connection;
pub(crate) mod desk;
pub(crate) mod hands;
pub(crate) mod keys;
pub mod rfb;
pub(crate) mod screenshot;
pub(crate) mod server;
#[cfg(test)]
#[path = "../../tests/rfb/client.rs"]
pub(crate) mod test_client;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod typing;
