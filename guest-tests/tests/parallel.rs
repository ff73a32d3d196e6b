//! Two vCPUs at two queues of one disk, and at two disks: `resources/guests/test-guests/src/bin/parallel.rs`. How fast
//! that is, the benchmark of the same name measures; here it is only right.

use cafevm_guest_tests::{Guest, Outcome, Scratch, ensure, tests};
use cafevm_resources::test_guests::PARALLEL;

tests! { two_queues_of_one_disk, two_disks, register_writes_beside_a_busy_queue }

/// What the guest reads of a disk: 64 requests of 64 KiB on each of two queues.
const BYTES: usize = 2 * 64 * (64 << 10);

fn parallel(mode: &str, keys: &str) -> Outcome {
    let scratch = Scratch::new()?;
    let images = [scratch.image("a.img", BYTES)?, scratch.image("b.img", BYTES)?];
    let guest = Guest::new(PARALLEL).cmdline(&format!("mode={mode} rounds=20"));
    let guest = images.iter().fold(guest, |guest, image| guest.disk(image, keys));
    let run = guest.with(|config| config.cpus = 2).run()?;
    run.passed(&[mode])?;
    ensure!(run.text.lines().count() >= 3, "it measured nothing: {run}");
    images.iter().try_for_each(|image| image.holds(|_| ()))
}

fn two_queues_of_one_disk() -> Outcome {
    parallel("queues", "queues=2")
}

fn two_disks() -> Outcome {
    parallel("disks", "queues=1")
}

fn register_writes_beside_a_busy_queue() -> Outcome {
    parallel("ack", "queues=2")
}
