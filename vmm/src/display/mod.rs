//! The guest's screen on the host, and keys and pointer from the host to the guest.
//!
//! | question | file |
//! |---|---|
//! | How does a VNC client see the screen? | `rfb/` |
//! | Which key is meant? | `keys/` |

pub(crate) mod keys;
pub mod rfb;
