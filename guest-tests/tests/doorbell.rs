//! Doorbells that a thread of the host serves (doorbell=thread, doorbell=spin): the same requests, without an exit for
//! each. How a reset meets such a thread: `reset.rs`. Guest: `resources/guests/test-guests/src/bin/parallel/main.rs`.

use std::sync::Arc;

use cafevm_devices::observe::Tap;
use cafevm_devices::testing::Recorder;
use cafevm_guest_tests::{Failed, Guest, Image, Outcome, Run, SECTOR, Scratch, ensure, tests};
use cafevm_resources::test_guests::PARALLEL;

tests! {
    the_io_thread_serves, a_thread_of_the_disk_serves, a_doorbell_is_an_exit_where_it_is_observed,
}

/// Doorbells of each vCPU, and reads of each.
const BATCHES: usize = 40;
const BATCH: usize = 64;
/// The vCPUs, with a queue each.
const VCPUS: usize = 2;
const SECTORS: usize = VCPUS * BATCH * 4096 / SECTOR;

/// Two vCPUs read by two queues of a disk with these keys, and check what they read.
fn reads(image: &Image, keys: &str, tap: Tap) -> Result<Run, Failed> {
    let words = format!("mode=queues slices=1 batches={BATCHES} check=1 samples=1");
    let guest = Guest::new(PARALLEL).cmdline(&words).disk(image, &format!("queues=2,{keys}"));
    let run = guest.with(|config| (config.cpus, config.tap) = (2, tap)).run()?;
    run.passed(&["parallel"])?;
    image.is_untouched()?;
    Ok(run)
}

fn without_exits(keys: &str) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", SECTORS * SECTOR)?;
    let run = reads(&image, keys, Tap::default())?;
    // Those of the handshake; the first doorbell may come before it is connected.
    ensure!(run.exits.mmio_write < BATCHES as u64, "an exit for each doorbell: {run}");
    Ok(())
}

fn the_io_thread_serves() -> Outcome {
    without_exits("doorbell=thread")
}

fn a_thread_of_the_disk_serves() -> Outcome {
    without_exits("doorbell=spin")
}

fn a_doorbell_is_an_exit_where_it_is_observed() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", SECTORS * SECTOR)?;
    let run = reads(&image, "doorbell=spin", Tap::to(Arc::new(Recorder::default())))?;
    ensure!(run.exits.mmio_write >= (VCPUS * BATCHES) as u64, "no exit for each doorbell: {run}");
    Ok(())
}
