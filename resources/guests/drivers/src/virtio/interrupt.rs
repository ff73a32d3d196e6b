//! A virtio-mmio device's interrupt: acknowledged where it arrives, stored for the code that waits.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rt::interrupts::{self, LINES};
use rt::mmio::Mmio;

use super::spec::{INTERRUPT_ACK, INTERRUPT_STATUS};

/// What is known of one line: its device's window, and the causes since the last query.
struct Line {
    base: AtomicU64,
    causes: AtomicU32,
}

static TABLE: [Line; LINES as usize] =
    [const { Line { base: AtomicU64::new(0), causes: AtomicU32::new(0) } }; LINES as usize];

/// What the interrupts of one line were for.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    line: u8,
}

impl Events {
    /// Causes ([`super::spec::interrupt`]) seen since the last call; looking at them makes them forgotten.
    pub fn take(self) -> u32 {
        TABLE[usize::from(self.line)].causes.swap(0, Ordering::AcqRel)
    }
}

/// From now on the interrupts of the device behind `window` are taken on this processor. `None` where the IOAPIC has
/// no such line.
pub fn watch(line: u8, window: Mmio) -> Option<Events> {
    let entry = TABLE.get(usize::from(line))?;
    entry.base.store(window.base(), Ordering::Release);
    interrupts::handle(line, interrupted, u64::from(line));
    Some(Events { line })
}

fn interrupted(line: u64) {
    let Some(entry) = usize::try_from(line).ok().and_then(|line| TABLE.get(line)) else { return };
    let Some(window) = Mmio::outside_ram(entry.base.load(Ordering::Acquire), super::spec::CONFIG)
    else {
        return;
    };
    // Acknowledged first: whatever the device does from here on interrupts anew (4.2.3.4).
    let causes = INTERRUPT_STATUS.read(window);
    INTERRUPT_ACK.write(window, causes);
    entry.causes.fetch_or(causes, Ordering::AcqRel);
}
