//! What the threads of a machine share: how they wake each other, stop together, and end.
//!
//! | question | file |
//! |---|---|
//! | How does one thread wake another's loop? | `wake.rs` |
//! | How does it send messages there? | `mailbox.rs` |
//! | How do vCPUs stop for a pause? | `gate.rs` |
//! | How do all threads learn of the machine's end? | `ending.rs` |
//! | Which threads still run? | `roll.rs` |

pub(crate) mod ending;
pub(crate) mod gate;
pub(crate) mod mailbox;
pub(crate) mod roll;
pub(crate) mod wake;
