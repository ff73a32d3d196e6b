//! The two ends of the guest's serial port on the host.

pub use crate::output::Output;

/// Where the guest's input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nowhere.
    None,
    /// From standard input. Where that is a terminal, it is made raw and has the keys of [`crate::keys`].
    Stdin,
    /// These bytes, as fast as the guest takes them.
    Bytes(Vec<u8>),
}
