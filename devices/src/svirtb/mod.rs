//! svirtb, the simple virtio block protocol: six registers and one ring.
//!
//! ```text
//!  guest ──register access──▶ Device ──▶ Protocol (state, registers) ──doorbell──▶ Server ──▶ block::Disk
//!                                │            refuses: a Breach                     │ stops at: an EntryError
//!                                └──────────▶ observe::Reporter ◀─────────────────┘
//! ```
//!
//! A doorbell is synchronous: all entries handed over are finished, and on stable storage, before the guest's
//! write returns. The protocol's only error channel is the status RESET, so every step into it comes with one
//! line in the host's log that names the entry or the register, what was wrong, and the section.
//!
//! | question | file |
//! |---|---|
//! | Where is which register, which values has the status? | `registers.rs` |
//! | What becomes of a register write in which state? | `protocol.rs` |
//! | In which words is that told? | `words.rs` |
//! | Where does the ring lie, where an entry in it, 28 or 32 bytes apart? | `ring.rs` |
//! | What does an entry ask for, and what is wrong with it? | `entry.rs` |
//! | How is a doorbell served, made durable, bounded, stopped? | `server.rs` |
//! | How does all this become a device on the bus? | `device.rs` |
//!
//! Sections are those of the svirtb specification (KeOS); what it leaves open is settled in cafevm's own
//! `svirtb.md`.

mod device;
mod entry;
mod protocol;
mod registers;
mod ring;
mod server;
mod words;

pub use device::Device;
pub use registers::{AccessError, Register, Status};
pub use ring::EntrySize;

/// The guest-physical address of the registers (section 4).
pub const BASE: u64 = 0xcafe_0000;
/// The bytes of guest-physical address space the device answers in: one page.
pub const LEN: u64 = 0x1000;

#[cfg(test)]
mod tests;
