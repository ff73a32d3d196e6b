//! The outcome of an exit of a vCPU.

use crate::x86::access::Access;
use crate::x86::crash::Cause;
use crate::x86::debug::DebugExit;

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It continues.
    Continue,
    /// It continues, and the access was to an address without a device.
    Unclaimed(Access),
    /// The guest wrote this code to the debug exit port.
    DebugExit(u32),
    /// It stops for a debugger: a breakpoint, or the end of a step.
    Debug(DebugExit),
    /// The guest powered off.
    PowerOff,
    /// The guest reset the machine.
    Reset,
    /// It cannot continue.
    Crash(Cause),
}
