//! svirtb, the simple virtio block protocol: six registers and one ring.
//!
//! ```text
//!  guest ──register access──▶ Device ──▶ Protocol (state, registers) ──doorbell──▶ Server ──▶ block::Disk
//!                                │            refuses: a Breach                     │ stops at: an EntryError
//!                                └──────────▶ observe::Reporter ◀─────────────────┘
//! ```
//!
//! A doorbell is synchronous: all entries are finished, and on stable storage, before the guest's write returns. The
//! protocol reports errors only through the status RESET, so every change to it gives one line in the log, with the
//! entry or the register, the mistake, and the section.
//!
//! | question | file |
//! |---|---|
//! | Which registers are there, and which values has the status? | `registers.rs` |
//! | What does a write to a register do in each state? | `protocol.rs` |
//! | What are the texts for accesses and mistakes? | `words.rs` |
//! | Which rules are there, and how are they explained? | `rules.rs`, `catalogue.rs` |
//! | Where is the ring, where is an entry, 28 or 32 bytes apart? | `ring.rs` |
//! | How is an entry checked? | `entry.rs` |
//! | Which entries are transferred together? | `joined.rs` |
//! | How is a doorbell served, made durable, limited, stopped? | `server.rs` |
//! | How does the device work on the bus? | `device.rs` |
//!
//! Sections are those of the svirtb specification (KeOS); cafevm's own `svirtb.md` settles its gaps.

mod catalogue;
mod device;
mod entry;
mod joined;
mod protocol;
mod registers;
mod ring;
mod rules;
mod server;
mod waiting;
mod words;

pub(crate) use catalogue::RULES;
pub use device::{Device, NAME};
pub use registers::{AccessError, Register, Status};
pub use ring::EntrySize;

/// The guest-physical address of the registers (section 4).
pub const BASE: u64 = 0xcafe_0000;
/// The bytes of guest-physical address space that the device occupies: one page.
pub const LEN: u64 = 0x1000;

#[cfg(test)]
mod tests;
