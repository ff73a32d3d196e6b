//! Interrupts by index and without, none lost and none doubled: `resources/guests/test-guests/src/bin/events.rs`.

use cafevm_devices::virtio::mmio::Policy;
use cafevm_guest_tests::{Failed, Guest, Outcome, Run, SECTOR, Scratch, engine, ensure, tests};
use cafevm_resources::test_guests::EVENTS;

tests! { as_it_is, with_longer_queues, where_each_read_is_seen }

fn events(words: &str, keys: &str, policy: Policy) -> Result<Run, Failed> {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 8 * SECTOR)?;
    let guest = Guest::new(EVENTS).cmdline(words).disk(&image, keys);
    let run = guest.with(|config| config.virtio.policy = policy).run()?;
    run.passed(&[
        "find-a-disk",
        "one-where-it-was-asked-for",
        "none-where-it-was-asked-for-later",
        "one-over-several-batches",
        "one-a-doorbell-without-indices",
        "none-without-indices-and-unwanted",
    ])?;
    image.is_untouched()?;
    Ok(run)
}

/// Each interrupt is one read of InterruptStatus and one write of InterruptACK; only the writes, and the reads of the
/// first handshake, are exits.
fn as_it_is() -> Outcome {
    let run = events("rounds=200", "bus=virtio", Policy::Lenient)?;
    let (reads, writes) = (run.exits.mmio_read, run.exits.mmio_write);
    // Without register pages, each read is an exit.
    ensure!(reads < writes / 4 || !engine::has_register_pages(), "{run}");
    Ok(())
}

/// The driver's queue is shorter than the device's could be; the name is cut to what the driver has room for.
fn with_longer_queues() -> Outcome {
    let keys = "queue-size=1024,queues=2,id=a longer name";
    events("rounds=50 around=0", keys, Policy::Lenient).map(|_| ())
}

/// A strict device sees every access.
fn where_each_read_is_seen() -> Outcome {
    let run = events("rounds=50 around=0", "bus=virtio", Policy::Strict)?;
    let (reads, writes) = (run.exits.mmio_read, run.exits.mmio_write);
    ensure!(reads > writes / 4, "{run}");
    Ok(())
}
