//! Two vCPUs at once on two queues of a disk, or on two disks:
//! `resources/guests/test-guests/src/bin/parallel/main.rs`. How fast is for `benches/parallel.rs`.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, ensure, tests};
use cafevm_resources::test_guests::PARALLEL;

tests! { two_queues_of_one_disk, a_disk_each, registers_while_a_queue_is_busy }

/// Doorbells of each vCPU in each slice; one before the first and one for the comparison are left out.
const BATCHES: usize = 3;
const SLICES: usize = 2;
/// Reads that a doorbell is for.
const BATCH: usize = 64;
/// Places for the reads of both vCPUs.
const SECTORS: usize = 2 * BATCH * 4096 / SECTOR;

fn guest(mode: &str) -> Guest {
    let words = format!("mode={mode} slices={SLICES} batches={BATCHES} check=1 samples=1000");
    Guest::new(PARALLEL).cmdline(&words).with(|config| config.cpus = 2)
}

/// Each vCPU has read what its queue was asked for, and all of it.
fn two_queues_of_one_disk() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", SECTORS * SECTOR)?;
    let run = guest("queues").disk(&image, "queues=2").run()?;
    run.passed(&["parallel"])?;
    requests(&run.text)?;
    image.is_untouched()
}

/// The disks hold different patterns, so that the one is not taken for the other.
fn a_disk_each() -> Outcome {
    let scratch = Scratch::new()?;
    let first = scratch.seeded("first.img", 1, SECTORS * SECTOR)?;
    let second = scratch.seeded("second.img", 2, SECTORS * SECTOR)?;
    let run = guest("disks").virtio(&first).virtio(&second).run()?;
    run.passed(&["parallel"])?;
    requests(&run.text)?;
    first.is_untouched()?;
    second.is_untouched()
}

/// Writes to InterruptACK and QueueSel of a device that is busy return, and disturb no request.
fn registers_while_a_queue_is_busy() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 16384 * SECTOR)?;
    let run = guest("ack").virtio(&image).run()?;
    run.passed(&["parallel"])?;
    for series in ["idle-ack", "ack", "select"] {
        let line = format!("series {series} samples 1000 max ");
        ensure!(run.text.lines().any(|seen| seen.starts_with(&line)), "no '{line}': {run}");
    }
    Ok(())
}

/// Fails unless the guest counted as many requests as requested make.
fn requests(text: &str) -> Outcome {
    let slice = BATCHES * BATCH;
    for (start, requests, lines) in
        [("lane 0", SLICES * slice, 1), ("lane 1", SLICES * slice, 1), ("slice", 2 * slice, SLICES)]
    {
        let start = format!("{start} requests {requests} cycles ");
        let seen = text.lines().filter(|line| line.starts_with(&start)).count();
        ensure!(seen == lines, "{seen} lines '{start}', not {lines}: {text}");
    }
    Ok(())
}
