//! Keys: from what a client sends to the codes of Linux's evdev, which virtio-input carries.
//!
//! | question | file |
//! |---|---|
//! | Which keys are there, and what are their names? | `codes.rs` |
//! | Which key types a character on a US keyboard? | `us.rs` |
//! | Which key is meant by a keysym of X11? | `keysym.rs` |
//! | Which key is meant by a scan code of a PC? | `scancode.rs` |

pub(crate) mod codes;
pub(crate) mod keysym;
pub(crate) mod scancode;
pub(crate) mod us;
