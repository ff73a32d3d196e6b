//! A machine that does not run yet: KVM, memory, interrupts, devices.
//!
//! | question | file |
//! |---|---|
//! | In which order is a machine assembled? | `assembly.rs` |
//! | Which capabilities of KVM are required? | `host.rs` |
//! | Where is guest RAM, and which memory slots map it? | `memory.rs` |
//! | How are images opened and locked? | `images.rs` |
//! | How are devices attached to the buses? | `attach.rs` |
//! | How does a device's interrupt reach the guest? | `irq.rs` |
//! | Does an image have another format than raw? | `looks.rs` |
//! | Which reads of registers cause no exit? | `register_pages.rs` |
//! | Which devices do the threads use? | `devices.rs` |

pub(crate) mod assembly;
pub(crate) mod attach;
pub(crate) mod devices;
pub(crate) mod doorbells;
pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod irq;
mod looks;
mod memory;
pub(crate) mod register_pages;
