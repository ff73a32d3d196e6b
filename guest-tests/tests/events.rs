//! Interrupts by index and without, none lost and none doubled: `resources/guests/test-guests/src/bin/events.rs`.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, tests};
use cafevm_resources::test_guests::EVENTS;

tests! { as_it_is, with_longer_queues }

fn events(words: &str, keys: &str) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 8 * SECTOR)?;
    let run = Guest::new(EVENTS).cmdline(words).disk(&image, keys).run()?;
    run.passed(&[
        "find-a-disk",
        "one-where-it-was-asked-for",
        "none-where-it-was-asked-for-later",
        "one-over-several-batches",
        "one-a-doorbell-without-indices",
        "none-without-indices-and-unwanted",
    ])?;
    image.is_untouched()
}

fn as_it_is() -> Outcome {
    events("rounds=200", "bus=virtio")
}

/// The driver's queue is shorter than the device's could be; the name is cut to what the driver has room for.
fn with_longer_queues() -> Outcome {
    events("rounds=50 around=0", "queue-size=1024,queues=2,id=a longer name")
}
