//! An interrupt line that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::irq::{IrqLine, Wake};

/// Counts how often it is raised. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct CountingLine(Arc<AtomicU64>);

impl CountingLine {
    /// How often the line was raised since the last call.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl IrqLine for CountingLine {
    fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for CountingLine {
    fn wake(&self) {
        self.raise();
    }
}
