//! Mistakes in a svirtb ring that break no rule of the protocol.

use super::Report;
use crate::block::{SECTOR_SIZE, sector_hint};
use crate::catalogue::observed_rules as rules;
use crate::observe::{Event, Outcome};

/// What is remembered of svirtb.
#[derive(Debug, Default)]
pub(super) struct Svirtb {
    entries: u64,
}

impl Svirtb {
    pub(super) fn event(&mut self, event: &Event<'_>, report: Report<'_>) {
        match *event {
            Event::NothingAvailable { index, .. } => {
                let first =
                    if self.entries == 0 { " No entry was handed over before." } else { "" };
                report(
                    rules::SVIRTB_NOTHING_NEW,
                    format_args!(
                        "queue_head was written with {index}, and queue_tail is {index}, too.{first}"
                    ),
                );
            }
            Event::Entry { index, size, sector, .. } => {
                self.entries += 1;
                if size > 0
                    && size < SECTOR_SIZE
                    && sector > 0
                    && sector.is_multiple_of(SECTOR_SIZE)
                {
                    report(
                        rules::SVIRTB_SWAPPED,
                        format_args!("entry {index} has size {size} and sector {sector}"),
                    );
                }
            }
            Event::Finished { request, outcome: Outcome::Cut { done: 0, .. } }
                if request.operation == "read" =>
            {
                let (index, sector) = (request.index, request.sector);
                report(
                    rules::SVIRTB_READ_PAST_END,
                    format_args!(
                        "entry {index} reads at sector {sector}, past the end of the disk; the buffer does not change{}",
                        sector_hint(sector, u64::MAX)
                    ),
                );
            }
            Event::EntrySpacing { certain: false, why, .. } => {
                report(rules::SVIRTB_SPACING, format_args!("{why}"));
            }
            _ => {}
        }
    }
}
