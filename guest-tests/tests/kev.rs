//! A svirtb driver as the KeV course has it: `resources/guests/test-guests/src/bin/kev.rs`.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, engine, ensure, sectors, tests};
use cafevm_resources::test_guests::KEV;

tests! {
    whole_sectors,
    one_byte_over,
    one_byte_short,
    in_the_middle_of_a_sector,
    entries_known_to_be_padded,
}

const SCENARIOS: [&str; 8] = [
    "start",
    "the-size-by-reading-past-the-end",
    "every-sector",
    "write-and-read-back",
    "the-last-sector",
    "finish-and-start-again",
    "around-the-ring-of-4096",
    "finish",
];

fn kev(bytes: usize, keys: &str) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", bytes)?;
    let run = Guest::new(KEV).disk(&image, keys).run()?;
    run.passed(&SCENARIOS)?;
    run.printed(&format!("size {bytes} bytes"))?;
    // Once around the ring is 4106 requests, each with one write exit for its doorbell; the rest is fewer than that.
    ensure!((4106..6000).contains(&run.exits.mmio_write), "a doorbell a request? {run}");
    // After the first handshake the driver reads status and tail as memory; a few reads come before the page is mapped.
    ensure!(engine::has_register_pages() == (run.exits.mmio_read < 1000), "reads are exits: {run}");
    image.holds(|wanted| {
        wanted[sectors(2..3)].fill(0x22);
        wanted[(bytes - 1) / SECTOR * SECTOR..].fill(0x99);
    })
}

fn whole_sectors() -> Outcome {
    kev(40 * SECTOR, "bus=svirtb")
}

fn one_byte_over() -> Outcome {
    kev(4 * SECTOR + 1, "bus=svirtb")
}

fn one_byte_short() -> Outcome {
    kev(61 * SECTOR - 1, "bus=svirtb")
}

fn in_the_middle_of_a_sector() -> Outcome {
    kev(25 * SECTOR + 300, "bus=svirtb")
}

fn entries_known_to_be_padded() -> Outcome {
    kev(4 * SECTOR, "bus=svirtb,entry-size=32")
}
