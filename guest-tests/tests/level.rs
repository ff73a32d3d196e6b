//! Interrupts by an IOAPIC pin that the guest programs level- or edge-triggered, none lost while one is in service or
//! the pin is masked: `resources/guests/test-guests/src/bin/level.rs`.

use cafevm_devices::virtio::mmio::Policy;
use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, ensure, tests};
use cafevm_resources::test_guests::LEVEL;

tests! { a_level_triggered_pin, an_edge_triggered_pin, a_level_triggered_pin_of_a_strict_device }

const ROUNDS: usize = 200;

fn boot(trigger: &str, policy: Policy) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", ROUNDS * SECTOR)?;
    let words = format!("trigger={trigger} rounds={ROUNDS}");
    let guest = Guest::new(LEVEL).cmdline(&words).virtio(&image);
    let run = guest.with(|config| config.virtio.policy = policy).run()?;
    let few = ROUNDS / 10;
    // How many interrupts have a cause; the guest checks the number of the others.
    let mut scenarios = vec![
        ("one-a-round", ROUNDS),
        ("acknowledged-before-the-second-request", 2 * few),
        ("acknowledged-after-the-second-request", few),
    ];
    if trigger == "level" {
        scenarios.push(("done-with-the-pin-masked", few));
    }
    scenarios.push(("one-a-round-afterwards", ROUNDS));
    let names: Vec<&str> = scenarios.iter().map(|(name, _)| *name).collect();
    run.passed(&[["find-a-disk"].as_slice(), &names].concat())?;
    for (name, interrupts) in scenarios {
        let said = format!("{name}: interrupts with a cause {interrupts}, without ");
        ensure!(run.text.lines().any(|line| line.starts_with(&said)), "no '{said}': {run}");
    }
    image.is_untouched()
}

fn a_level_triggered_pin() -> Outcome {
    boot("level", Policy::Lenient)
}

fn an_edge_triggered_pin() -> Outcome {
    boot("edge", Policy::Lenient)
}

/// A strict device sees every access, also the handler's read of InterruptStatus.
fn a_level_triggered_pin_of_a_strict_device() -> Outcome {
    boot("level", Policy::Strict)
}
