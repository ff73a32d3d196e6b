//! A virtio driver as xv6-riscv has it: `resources/guests/test-guests/src/bin/xv6.rs`.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, sectors, tests};
use cafevm_resources::test_guests::XV6;

tests! { alone, beside_other_disks }

const SCENARIOS: [&str; 7] = [
    "init",
    "read",
    "write-and-read-back",
    "two-at-once",
    "often-around-the-rings",
    "an-interrupt-for-each-request",
    "init-again",
];

fn written(wanted: &mut [u8]) {
    for (sector, byte) in [(10, 0x55), (12, 0x66), (14, 0x77)] {
        wanted[sectors(sector..sector + 2)].fill(byte);
    }
}

fn alone() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 32 * SECTOR)?;
    Guest::new(XV6).virtio(&image).run()?.passed(&SCENARIOS)?;
    image.holds(written)
}

/// What is done to one disk reaches no other.
fn beside_other_disks() -> Outcome {
    let scratch = Scratch::new()?;
    let first = scratch.image("first.img", 64 * SECTOR)?;
    let others =
        [scratch.seeded("2.img", 2, 64 * SECTOR)?, scratch.seeded("3.img", 3, 64 * SECTOR)?];
    let [second, svirtb] = &others;
    let run = Guest::new(XV6).svirtb(svirtb).virtio(&first).virtio(second).run()?;
    run.passed(&SCENARIOS)?;
    first.holds(written)?;
    others.iter().try_for_each(|other| other.is_untouched())
}
