//! A machine that does not run yet: KVM, memory, interrupts, devices.
//!
//! | question | file |
//! |---|---|
//! | In which order is a machine put together? | `assembly.rs` |
//! | What must the host's KVM be able to do? | `host.rs` |
//! | Where is guest RAM, and which memory slots show it? | `memory.rs` |
//! | How do devices get onto their buses? | `attach.rs` |
//! | How does a device's interrupt reach the guest? | `irq.rs` |
//! | Which reads of registers are no exits? | `register_pages.rs` |
//! | Which disks are there, for the threads that serve them? | `disks.rs` |

pub(crate) mod assembly;
pub(crate) mod attach;
pub(crate) mod disks;
pub(crate) mod host;
pub(crate) mod irq;
mod memory;
pub(crate) mod register_pages;
