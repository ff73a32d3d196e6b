//! The two ends of the guest's serial port on the host.
//!
//! | question | file |
//! |---|---|
//! | How does the guest's output reach a file, a pipe or a terminal? | `output.rs` |
//! | How does the input reach the guest? | `input.rs` |
//! | When is a terminal raw, and which keys does cafevm take? | `terminal.rs`, `keys.rs` |
//! | How long does a guest need to start? | `milestones.rs` |

pub(crate) mod input;
pub mod keys;
pub(crate) mod milestones;
pub(crate) mod output;
pub(crate) mod terminal;

pub use crate::console::output::Output;

/// The source of the guest's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// No input.
    None,
    /// Standard input. A terminal is made raw and has the keys of [`crate::console::keys`].
    Stdin,
    /// These bytes, as fast as the guest reads them.
    Bytes(Vec<u8>),
}
