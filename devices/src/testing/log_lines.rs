//! Counts log lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A count of log lines. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LogLines(Arc<AtomicU64>);

impl LogLines {
    /// The number of lines that `work` logs on this thread.
    pub fn of(work: impl FnOnce()) -> u64 {
        let lines = Self::default();
        tracing::subscriber::with_default(lines.clone(), work);
        lines.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for LogLines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
