//! Interrupts that come while one is in service, however the IOAPIC's pin is programmed:
//! `resources/guests/test-guests/src/bin/level.rs`.
//!
//! KVM PVM ends an interrupt as it delivers it, so that none is in service there and none is lost. With KVM on SVM (Linux
//! 6.1) and an irqfd without resampling, `level_triggered` fails in its first round: the second interrupt never comes.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, tests};
use cafevm_resources::test_guests::LEVEL;

tests! { edge_triggered, level_triggered }

fn level(trigger: &str) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 8 * SECTOR)?;
    let run = Guest::new(LEVEL).cmdline(&format!("t={trigger}")).virtio(&image).run()?;
    run.passed(&["find-a-disk", "one-at-a-time", "one-while-in-service"])
}

fn edge_triggered() -> Outcome {
    level("edge")
}

fn level_triggered() -> Outcome {
    level("level")
}
