//! Why a guest waits: what the registers and rings of a device show at one moment.

/// What a guest may wait for at a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// What was found, a sentence each.
    pub lines: Vec<String>,
    /// Whether the driver or the device left something undone. Otherwise everything was answered.
    pub is_outstanding: bool,
    /// Whether the device interrupted the driver, which did not acknowledge it.
    pub is_unacknowledged: bool,
    /// Whether everything was answered, and the driver has suppressed interrupts for the next result.
    pub is_suppressed: bool,
}

impl Waiting {
    /// Adds what was left undone.
    pub(crate) fn outstanding(&mut self, line: String) {
        self.is_outstanding = true;
        self.lines.push(line);
    }
}
