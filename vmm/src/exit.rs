//! How a run of a machine ends, and the exit status for each end.
//!
//! Odd statuses belong to the guest, so all others are even.

use crate::x86::crash::Crash;

/// The guest powered off or reset itself, or the user ended it.
pub const DONE: u8 = 0;
/// Wrong usage of the command line.
pub const USAGE: u8 = 2;
/// The host or the configuration failed.
pub const FAILED: u8 = 4;
/// The guest crashed.
pub const CRASHED: u8 = 6;
/// The driver broke a rule, and the user denied that (--doctor=deny).
pub const DENIED: u8 = 8;
/// The time limit of --timeout passed.
pub const TIMED_OUT: u8 = 124;
/// A signal ended cafevm.
pub const INTERRUPTED: u8 = 130;

/// How a run of a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The guest wrote this code to the debug exit port.
    DebugExit(u32),
    /// The guest powered the machine off.
    PowerOff,
    /// The guest reset the machine. cafevm runs a machine once, so this ends it.
    Reset,
    /// The user ended it with Ctrl-A X.
    Quit,
    /// The guest crashed.
    Crash(Box<Crash>),
    /// The time limit passed.
    TimedOut,
    /// This signal arrived.
    Interrupted(&'static str),
}

impl Verdict {
    /// The process's exit status.
    pub fn status(&self) -> u8 {
        match self {
            // As QEMU's isa-debug-exit computes it.
            Self::DebugExit(code) => (code << 1).to_le_bytes()[0] | 1,
            Self::PowerOff | Self::Reset | Self::Quit => DONE,
            Self::Crash(_) => CRASHED,
            Self::TimedOut => TIMED_OUT,
            Self::Interrupted(_) => INTERRUPTED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_statuses_are_odd_and_ours_are_even() {
        for (code, status) in
            [(0, 1), (1, 3), (0x2a, 85), (0x7f, 255), (0x80, 1), (0xffff_ffff, 255)]
        {
            assert_eq!(Verdict::DebugExit(code).status(), status, "{code:#x}");
        }
        for status in [DONE, USAGE, FAILED, CRASHED, DENIED, TIMED_OUT, INTERRUPTED] {
            assert_eq!(status % 2, 0);
        }
    }
}
