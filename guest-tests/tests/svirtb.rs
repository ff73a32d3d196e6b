//! svirtb, right and wrong: `resources/guests/test-guests/src/bin/svirtb`.

use cafevm_guest_tests::{
    Failed, Guest, Image, Outcome, Run, SECTOR, Scratch, ensure, sectors, tests,
};
use cafevm_resources::test_guests::SVIRTB;

tests! {
    rules_on_whole_sectors,
    rules_on_a_ragged_image,
    rules_on_an_image_that_ends_in_a_word,
    readonly,
    packed,
    padded,
}

/// Entry sizes are found out: `entry-size=auto`, also by default.
fn rules(bytes: usize, keys: &str) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", bytes)?;
    let guest = Guest::new(SVIRTB).cmdline(&format!("bytes={bytes}")).disk(&image, keys);
    // Reads of other widths reach the device also after READY.
    let run = guest.with(|config| config.register_pages = false).run()?;
    all_passed(&run, 43)?;
    image.holds(|wanted| {
        wanted[sectors(8..9)].fill(0x82);
        wanted[9 * SECTOR] = 0x91;
        wanted[9 * SECTOR + 1..9 * SECTOR + 100].fill(0x92);
        wanted[sectors(10..12)].fill(0xa1);
        wanted[12 * SECTOR] = 0xa1;
        for (n, sector) in (0..15).zip(16..) {
            wanted[sectors(sector..sector + 1)].fill(n);
        }
        wanted[(bytes - 1) / SECTOR * SECTOR..].fill(0xfe);
    })
}

/// The guest's exit code shows whether one failed, but not how many ran.
fn all_passed(run: &Run, scenarios: usize) -> Outcome {
    run.ended(0)?;
    let seen = run.scenarios().len();
    ensure!(seen == scenarios, "{seen} scenarios passed, not {scenarios}: {run}");
    Ok(())
}

fn rules_on_whole_sectors() -> Outcome {
    rules(64 * SECTOR, "bus=svirtb")
}

fn rules_on_a_ragged_image() -> Outcome {
    rules(77 * SECTOR + 1, "bus=svirtb,entry-size=auto")
}

fn rules_on_an_image_that_ends_in_a_word() -> Outcome {
    rules(65 * SECTOR - 3, "bus=svirtb")
}

/// One of the sets of scenarios that leave the image alone.
fn untouched(set: &str, keys: &str) -> Result<(Run, Image, Scratch), Failed> {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR + 9)?;
    let run = Guest::new(SVIRTB).cmdline(&format!("t={set}")).disk(&image, keys).run()?;
    Ok((run, image, scratch))
}

fn readonly() -> Outcome {
    let (run, image, _scratch) = untouched("readonly", "bus=svirtb,readonly=on")?;
    run.passed(&["a-read-only-disk-reads", "a-write-to-a-read-only-disk"])?;
    image.is_untouched()
}

fn packed() -> Outcome {
    let (run, image, _scratch) = untouched("packed", "bus=svirtb,entry-size=28")?;
    run.passed(&["entries-of-28-bytes", "entries-of-32-bytes-are-refused"])?;
    image.is_untouched()
}

fn padded() -> Outcome {
    let (run, image, _scratch) = untouched("padded", "bus=svirtb,entry-size=32")?;
    run.passed(&["entries-of-32-bytes", "entries-of-28-bytes-are-refused"])?;
    image.is_untouched()
}
