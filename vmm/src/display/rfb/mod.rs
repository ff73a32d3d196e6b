//! A server of RFB, the protocol of VNC: RFC 6143, and the community's specification of RFB (rfbproto) for extensions.
//!
//! ```text
//!  client's bytes ──▶ wire ──▶ Session ──▶ Guest: keys, pointer, size
//!                                 │
//!                    screen ──▶ encode ──▶ bytes to the client
//! ```
//!
//! Versions 3.3, 3.7 and 3.8. Security: None; so a server listens where only this user, or this host, connects.
//! Encodings: Raw and ZRLE. Extensions: Cursor, DesktopSize, ExtendedDesktopSize, QEMU Extended Key Event.
//!
//! | question | file |
//! |---|---|
//! | Which messages are there, as bytes? | `wire.rs` |
//! | What does a client want? | `session.rs` |
//! | What does it get, and when? | `session/updates.rs` |
//! | Which bits has a pixel? | `pixel.rs` |
//! | How are pixels encoded, and the cursor? | `encode/` |

pub(crate) mod encode;
mod pixel;
mod session;
mod wire;

pub use encode::Scratch;
pub use pixel::FormatError;
pub use session::{Guest, OUTPUT_ENOUGH, Session, SessionError};
pub use wire::WireError;
