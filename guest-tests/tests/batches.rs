//! 128 sectors a doorbell over each bus: `resources/guests/test-guests/src/bin/batches.rs`. How fast is for
//! `benches/batches.rs`.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, ensure, tests};
use cafevm_resources::test_guests::BATCHES;

tests! { reads_of_a_sector }

fn reads_of_a_sector() -> Outcome {
    let scratch = Scratch::new()?;
    let (first, second) =
        (scratch.image("v.img", 512 * SECTOR)?, scratch.image("s.img", 512 * SECTOR)?);
    let guest = Guest::new(BATCHES).cmdline("doorbells=6").virtio(&first).svirtb(&second);
    let run = guest.run()?;
    run.passed(&["over-svirtb", "over-virtio"])?;
    for series in ["svirtb in-a-row ", "svirtb apart ", "virtio in-a-row ", "virtio apart "] {
        ensure!(run.text.lines().any(|line| line.starts_with(series)), "no {series}: {run}");
    }
    first.is_untouched()?;
    second.is_untouched()
}
