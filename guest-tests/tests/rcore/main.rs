//! rCore's published driver crate, polled and by interrupt: `resources/guests/test-guests/src/bin/rcore`.

use cafevm::config::OtherDevice;
use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, sectors, tests};
use cafevm_resources::test_guests::RCORE;

mod desk;

use desk::{every_event_and_every_pixel, legacy};

tests! { rw, readonly, random_bytes, every_event_and_every_pixel, legacy }

fn rw() -> Outcome {
    let scratch = Scratch::new()?;
    // Bytes after the last whole sector are not part of a virtio disk, and do not change.
    let image = scratch.image("d.img", 64 * SECTOR + 200)?;
    let run = Guest::new(RCORE).cmdline("t=rw").disk(&image, "id=root").run()?;
    run.passed(&[
        "init",
        "polled-reads",
        "polled-writes",
        "past-the-end",
        "by-interrupt",
        "init-again",
    ])?;
    run.printed("capacity 64 sectors")?;
    run.printed("readonly false")?;
    run.printed("id root")?;
    image.holds(|wanted| {
        wanted[sectors(20..24)].fill(0x20);
        wanted[sectors(24..25)].fill(0x24);
    })
}

fn readonly() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 80 * SECTOR)?;
    let run = Guest::new(RCORE).cmdline("t=readonly").disk(&image, "readonly=on").run()?;
    run.passed(&[
        "init",
        "polled-reads",
        "a-write-is-refused",
        "past-the-end",
        "by-interrupt",
        "init-again",
    ])?;
    run.printed("capacity 80 sectors")?;
    run.printed("readonly true")?;
    image.is_untouched()
}

fn random_bytes() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let guest = Guest::new(RCORE).cmdline("t=rng").disk(&image, "id=root");
    guest.with(|config| config.others.push(OtherDevice::Rng)).run()?.passed(&["random-bytes"])?;
    image.is_untouched()
}
