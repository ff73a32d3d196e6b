//! A vCPU goes on while the host's storage works: `resources/guests/test-guests/src/bin/cold.rs`. How much it loses is
//! for `benches/cold.rs`.

use std::time::Duration;

use cafevm::config::WrapStorage;
use cafevm_devices::testing::{LateStorage, SlowStorage};
use cafevm_guest_tests::{Failed, Guest, Outcome, Scratch, engine, ensure, tests};
use cafevm_resources::test_guests::COLD;

tests! {
    with_an_engine_that_finishes_later, with_an_engine_that_waits_and_another_thread,
    not_with_an_engine_that_waits_on_the_vcpu
}

/// How long a read takes.
const DELAY: Duration = Duration::from_millis(20);
const READS: usize = 10;

/// The number of reads during which the guest counted.
fn counted_during(keys: &str, storage: WrapStorage) -> Result<usize, Failed> {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", READS * 4096)?;
    let guest = Guest::new(COLD).cmdline(&format!("reads={READS}")).disk(&image, keys);
    let run = guest.storage(storage).run()?;
    run.passed(&["cold"])?;
    let during = run.text.lines().find_map(|line| line.strip_prefix("reads ")?.rsplit(' ').next());
    Ok(during.unwrap_or_default().parse()?)
}

fn late() -> WrapStorage {
    WrapStorage::new(|inner| Box::new(LateStorage::new(inner, DELAY)))
}

fn slow() -> WrapStorage {
    WrapStorage::new(|inner| Box::new(SlowStorage::new(inner, DELAY)))
}

fn with_an_engine_that_finishes_later() -> Outcome {
    let during = counted_during("doorbell=vcpu", late())?;
    ensure!(during == READS, "the guest went on during {during} of {READS} reads");
    Ok(())
}

fn with_an_engine_that_waits_and_another_thread() -> Outcome {
    for keys in ["doorbell=thread", "doorbell=spin"] {
        let during = counted_during(keys, slow())?;
        // The first ones may come before the doorbell is connected.
        ensure!(during > READS / 2, "{keys}: the guest went on during {during} of {READS} reads");
    }
    Ok(())
}

fn not_with_an_engine_that_waits_on_the_vcpu() -> Outcome {
    let during = counted_during("doorbell=vcpu", slow())?;
    ensure!(during == 0 || engine::is_rung_elsewhere(), "during {during} of {READS} reads");
    Ok(())
}
