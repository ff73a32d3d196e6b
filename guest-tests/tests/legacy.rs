//! Five kinds of driver for the legacy register layout: `resources/guests/test-guests/src/bin/legacy`.

use cafevm_devices::virtio::mmio::{Policy, Version};
use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, ensure, sectors, tests};
use cafevm_resources::test_guests::LEGACY;

tests! {
    thousand_lines_old,
    thousand_lines_new,
    xv6_2020,
    osblog,
    every_feature,
    strict_serves_only_who_keeps_the_rules,
}

const SCENARIOS: [&str; 6] =
    ["init", "read", "write-and-read-back", "many-at-once", "around-the-ring", "init-again"];

fn guest(kind: &str, policy: Policy) -> Guest {
    Guest::new(LEGACY).cmdline(&format!("kind={kind}")).with(|config| {
        config.virtio.version = Version::Legacy;
        config.virtio.policy = policy;
    })
}

/// Runs a kind that has so many requests under way at the same time, and compares what the disk holds then.
fn serve(kind: &str, at_once: usize, policy: Policy) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let run = guest(kind, policy).virtio(&image).run()?;
    run.passed(&SCENARIOS)?;
    run.printed(&format!("at once {at_once}"))?;
    image.holds(|wanted| {
        wanted[sectors(10..12)].fill(0x55);
        for (n, byte) in (0..at_once).zip(0x60..) {
            wanted[sectors(32 + 2 * n..34 + 2 * n)].fill(byte);
        }
    })
}

fn thousand_lines_old() -> Outcome {
    serve("1000-lines-old", 1, Policy::Lenient)
}

fn thousand_lines_new() -> Outcome {
    serve("1000-lines-new", 1, Policy::Lenient)
}

fn xv6_2020() -> Outcome {
    serve("xv6-2020", 2, Policy::Lenient)
}

fn osblog() -> Outcome {
    serve("osblog", 8, Policy::Lenient)
}

fn every_feature() -> Outcome {
    serve("every-feature", 5, Policy::Lenient)
}

/// No request of a driver that bends the rules reaches the disk of a strict device.
fn strict_serves_only_who_keeps_the_rules() -> Outcome {
    serve("every-feature", 5, Policy::Strict)?;
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    for kind in ["1000-lines-old", "1000-lines-new", "xv6-2020", "osblog"] {
        let guest = guest(kind, Policy::Strict).cmdline("limit=500");
        let run = guest.virtio(&image).run()?;
        run.ended(1)?;
        ensure!(!run.scenarios().contains(&"read"), "{kind} was served: {run}");
        image.is_untouched()?;
    }
    Ok(())
}
