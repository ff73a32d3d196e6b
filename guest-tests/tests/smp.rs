//! Two vCPUs at work at once: `resources/guests/test-guests/src/bin/smp.rs`.

use cafevm_guest_tests::{Guest, Image, Outcome, SECTOR, Scratch, engine, ensure, sectors, tests};
use cafevm_resources::test_guests::SMP;

tests! { a_virtio_disk_each, virtio_and_svirtb, one_disk_between_them }

const ROUNDS: usize = 32;
const SCENARIOS: [&str; 4] =
    ["first-disk", "start-the-second-processor", "first-processor", "second-processor"];

fn guest(set: &str) -> Guest {
    Guest::new(SMP).cmdline(&format!("t={set} rounds={ROUNDS}")).with(|config| config.cpus = 2)
}

fn image(scratch: &Scratch, name: &str) -> std::io::Result<Image> {
    scratch.image(name, (2 * ROUNDS + 32) * SECTOR)
}

/// What one of the processors writes: from this sector on every second one, this byte and its 15 successors in turn.
fn rounds(wanted: &mut [u8], first: usize, mark: u8) {
    for (n, sector) in (first..).step_by(2).take(ROUNDS).enumerate() {
        let turn = u8::try_from(n % 16).unwrap_or(0);
        wanted[sectors(sector..sector + 1)].fill(mark + turn);
    }
}

fn a_virtio_disk_each() -> Outcome {
    let scratch = Scratch::new()?;
    let (first, second) = (image(&scratch, "first.img")?, image(&scratch, "second.img")?);
    let run = guest("disks").virtio(&first).virtio(&second).run()?;
    run.passed(&SCENARIOS)?;
    // A write and a read a round, one after the other; fewer where the used ring was looked at before the interrupt
    // came, and the next request's was the same.
    let interrupts = (1..=2 * ROUNDS).rev().map(|n| format!("interrupts {n} of line 5"));
    let told = run.text.lines().last().unwrap_or_default();
    ensure!(interrupts.into_iter().any(|line| line == told), "not that many interrupts: {run}");
    first.holds(|wanted| rounds(wanted, 32, 0xb0))?;
    second.holds(|wanted| rounds(wanted, 33, 0xa0))
}

fn virtio_and_svirtb() -> Outcome {
    let scratch = Scratch::new()?;
    let (first, second) = (image(&scratch, "first.img")?, image(&scratch, "second.img")?);
    guest("disks").virtio(&first).svirtb(&second).run()?.passed(&SCENARIOS)?;
    first.holds(|wanted| rounds(wanted, 32, 0xb0))?;
    second.holds(|wanted| rounds(wanted, 33, 0xa0))
}

fn one_disk_between_them() -> Outcome {
    let scratch = Scratch::new()?;
    let shared = image(&scratch, "shared.img")?;
    let run = guest("shared").virtio(&shared).run()?;
    run.passed(&SCENARIOS)?;
    let rung = engine::is_rung_elsewhere() || run.exits.mmio_write >= 4 * ROUNDS as u64;
    ensure!(rung, "fewer doorbells than requests: {run}");
    shared.holds(|wanted| {
        rounds(wanted, 32, 0xb0);
        rounds(wanted, 33, 0xa0);
    })
}
