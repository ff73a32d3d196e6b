//! The same guests on the other transports: the legacy registers, and a device that bears no broken rule.

use cafevm_devices::virtio::mmio::{Policy, Version};
use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, ensure, sectors, tests};
use cafevm_resources::test_guests::{EVENTS, RCORE, SMP, SOS, XV6};

tests! {
    rcore_on_legacy,
    rcore_readonly_on_legacy,
    the_shell_tells_legacy_from_modern,
    who_keeps_the_rules_is_served_by_strict,
    who_does_not_is_refused_by_strict,
}

fn legacy(guest: Guest) -> Guest {
    guest.with(|config| config.virtio.version = Version::Legacy)
}

fn strict(guest: Guest) -> Guest {
    guest.with(|config| config.virtio.policy = Policy::Strict)
}

fn rcore_on_legacy() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let run = legacy(Guest::new(RCORE)).cmdline("t=rw").virtio(&image).run()?;
    run.passed(&[
        "init",
        "polled-reads",
        "polled-writes",
        "past-the-end",
        "by-interrupt",
        "init-again",
    ])?;
    run.printed("capacity 64 sectors")?;
    image.holds(|wanted| {
        wanted[sectors(20..24)].fill(0x20);
        wanted[sectors(24..25)].fill(0x24);
    })
}

fn rcore_readonly_on_legacy() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let run = legacy(Guest::new(RCORE)).cmdline("t=readonly").disk(&image, "ro").run()?;
    run.passed(&[
        "init",
        "polled-reads",
        "a-write-is-refused",
        "past-the-end",
        "by-interrupt",
        "init-again",
    ])?;
    image.is_untouched()
}

/// A driver for modern devices finds its disk, reports why it cannot use it, and continues.
fn the_shell_tells_legacy_from_modern() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let run = legacy(Guest::shell("reset; read 1; dev svirtb; exit 4")).virtio(&image).run()?;
    run.ended(4)?;
    run.printed("  virtio 0 at 0xfeb00000, interrupt line 5: its handshake failed; 'reset' tries again and shows it")?;
    run.printed(
        "reset: virtio 0: it speaks version 1 of virtio-mmio; this driver speaks version 2",
    )?;
    run.printed("read: virtio 0: it is not set up: the handshake or a request failed")?;
    image.is_untouched()
}

fn who_keeps_the_rules_is_served_by_strict() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let second = scratch.image("e.img", 64 * SECTOR)?;
    strict(Guest::shell("read 1; flush; sum 0 64; exit 6")).virtio(&image).run()?.ended(6)?;
    strict(Guest::new(EVENTS)).cmdline("rounds=5 around=0").virtio(&image).run()?.ended(0)?;
    image.is_untouched()?;
    strict(Guest::new(RCORE)).cmdline("t=rw").virtio(&image).run()?.ended(0)?;
    let two = strict(Guest::new(SMP)).cmdline("rounds=4").with(|config| config.cpus = 2);
    two.virtio(&second).virtio(&image).run()?.ended(0)?;
    image.has(sectors(20..24), 0x20)?;
    image.has(sectors(33..34), 0xa0)?;
    second.has(sectors(32..33), 0xb0)
}

/// xv6 and SOS leave VERSION_1 out, which a strict device does not take; it takes no request then, either.
fn who_does_not_is_refused_by_strict() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    for elf in [XV6, SOS] {
        let run = strict(Guest::new(elf)).virtio(&image).run()?;
        run.ended(1)?;
        ensure!(run.text.contains("FAIL init: FEATURES_OK was taken back"), "{run}");
        image.is_untouched()?;
    }
    Ok(())
}
