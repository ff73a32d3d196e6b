//! A vCPU: the loop around KVM_RUN, and what each exit means.
//!
//! | question | file |
//! |---|---|
//! | How do vCPUs run and stop? | `thread.rs`, `kick.rs` |
//! | What does an exit of the guest mean? | `dispatch.rs` |
//! | What does the log show of an access that no device owns? | `unclaimed.rs` |

pub mod dispatch;
mod kick;
pub(crate) mod thread;
pub mod unclaimed;
