//! A machine that does not run yet: KVM, memory, interrupts, devices.
//!
//! | question | file |
//! |---|---|
//! | In which order is a machine put together? | `assembly.rs` |
//! | What must the host's KVM be able to do? | `host.rs` |
//! | Where is guest RAM, and which memory slots show it? | `memory.rs` |
//! | How are images opened and locked? | `images.rs` |
//! | How do devices get onto their buses? | `attach.rs` |
//! | How does a device's interrupt reach the guest? | `irq.rs` |
//! | Does an image look like another format than raw? | `looks.rs` |
//! | Which reads of registers are no exits? | `register_pages.rs` |
//! | Which devices do the threads serve? | `devices.rs` |

pub(crate) mod assembly;
pub(crate) mod attach;
pub(crate) mod devices;
pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod irq;
mod looks;
mod memory;
pub(crate) mod register_pages;
