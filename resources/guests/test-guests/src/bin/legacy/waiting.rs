//! How a driver learns that its requests are done: by looking, or by an interrupt and by nothing else.

use core::sync::atomic::{AtomicU32, Ordering};

use rt::mmio::Mmio;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, interrupts};
use scenario::{Outcome, ensure, fail};

use crate::queue::Queue;
use crate::registers::{INTERRUPT_ACK, INTERRUPT_STATUS};

/// How long to wait for a request, in milliseconds: `limit=N` on the command line, for a device that answers none.
fn limit() -> u32 {
    command_line::number("limit").and_then(|ms| u32::try_from(ms).ok()).unwrap_or(DEVICE_LIMIT)
}

/// How many interrupts came.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// Looks at the used ring until all is done.
pub(crate) fn poll(queue: &mut Queue) -> Outcome {
    let mut outcome = Ok(());
    let in_time = Wait::Poll.until(limit(), || is_done(queue, &mut outcome));
    outcome?;
    ensure!(in_time, "no answer");
    Ok(())
}

fn is_done(queue: &mut Queue, outcome: &mut Outcome) -> bool {
    match queue.take() {
        Ok(under_way) => under_way == 0,
        Err(failure) => {
            *outcome = Err(failure);
            true
        }
    }
}

/// A driver that waits for interrupts.
pub(crate) struct Waiter {
    registers: Mmio,
    /// The interrupts after which it has looked at the used ring.
    seen: u32,
}

impl Waiter {
    /// Counts the interrupts of `line`; acknowledges them if `acknowledge` is set.
    pub(crate) fn new(registers: Mmio, line: u8, acknowledge: bool) -> Waiter {
        let handler = if acknowledge { acknowledged } else { ignored };
        interrupts::handle(line, handler, registers.base());
        Waiter { registers, seen: 0 }
    }

    /// Sleeps until all is done. Looks at the used ring once for each interrupt, never without.
    pub(crate) fn sleep(&mut self, queue: &mut Queue) -> Outcome {
        let mut outcome = Ok(());
        let mut done = false;
        let seen = &mut self.seen;
        let in_time = Wait::Interrupt.until(limit(), || {
            let interrupts = INTERRUPTS.load(Ordering::Acquire);
            if core::mem::replace(seen, interrupts) != interrupts {
                done = is_done(queue, &mut outcome);
            }
            done
        });
        outcome?;
        if in_time {
            return Ok(());
        }
        let reasons = self.registers.read32(INTERRUPT_STATUS);
        let under_way = queue.take()?;
        fail!(
            "no interrupt: InterruptStatus {reasons:#x}, {under_way} requests not in the used ring"
        )
    }
}

fn acknowledged(base: u64) {
    if let Some(r) = Mmio::outside_ram(base, 0x100) {
        r.write32(INTERRUPT_ACK, r.read32(INTERRUPT_STATUS) & 3);
    }
    INTERRUPTS.fetch_add(1, Ordering::AcqRel);
}

fn ignored(_base: u64) {
    INTERRUPTS.fetch_add(1, Ordering::AcqRel);
}
