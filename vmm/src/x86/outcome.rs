//! What an exit of a vCPU comes to.

use crate::x86::access::Access;
use crate::x86::crash::Cause;

/// What becomes of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It runs on.
    Continue,
    /// It runs on, and no device owns what the guest accessed.
    Unclaimed(Access),
    /// The guest wrote this code to the debug exit port.
    DebugExit(u32),
    /// The guest powered off.
    PowerOff,
    /// The guest reset the machine.
    Reset,
    /// It cannot go on.
    Crash(Cause),
}
