//! State that the threads of a machine share: wake-ups, pauses, the end.
//!
//! | question | file |
//! |---|---|
//! | How does one thread wake another's loop? | `wake.rs` |
//! | How does it send a message to it? | `mailbox.rs` |
//! | How do vCPUs stop for a pause? | `gate.rs` |
//! | When may requests of a limited disk begin? | `pacer.rs` |
//! | How do all threads learn that the machine has ended? | `ending.rs` |
//! | Which threads still run? | `roll.rs` |

pub(crate) mod ending;
pub(crate) mod gate;
pub(crate) mod mailbox;
pub(crate) mod pacer;
pub(crate) mod roll;
pub(crate) mod wake;
