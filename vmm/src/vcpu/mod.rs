//! A vCPU: the loop around KVM_RUN, and the handling of exits.
//!
//! | question | file |
//! |---|---|
//! | How do vCPUs run and stop? | `thread.rs`, `kick.rs` |
//! | How is an exit of the guest handled? | `dispatch.rs` |
//! | Which exits are counted? | `exits.rs` |
//! | What does the log show of an access without a device? | `unclaimed.rs` |
//! | Which vCPU does this thread run, and where is its guest? | `place.rs` |
//! | How does a debugger stop vCPUs and read their registers? | `debugger.rs` |
//! | Where is a vCPU, and can an interrupt reach it? | `snapshot.rs` |

pub(crate) mod debugger;
pub mod dispatch;
pub mod exits;
mod kick;
pub(crate) mod place;
pub(crate) mod snapshot;
pub(crate) mod thread;
pub mod unclaimed;
