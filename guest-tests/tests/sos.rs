//! A virtio driver as SOS has it: `resources/guests/test-guests/src/bin/sos.rs`.

use cafevm::config::VirtioBank;
use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, tests};
use cafevm_resources::test_guests::SOS;

tests! { the_bank_as_it_is, the_bank_where_sos_looks }

/// Where SOS looks for its disks, and in how many places.
const SOS_BANK: u64 = 0x0a00_0000;

fn sos(guest: Guest) -> Outcome {
    let scratch = Scratch::new()?;
    let first = scratch.image("first.img", 48 * SECTOR)?;
    let second = scratch.seeded("second.img", 2, 32 * SECTOR)?;
    let run = guest.virtio(&first).virtio(&second).run()?;
    run.passed(&[
        "scan",
        "init",
        "128-requests-with-an-index-that-is-not-taken-modulo",
        "300-requests-modulo-128",
        "blkwrite-and-blkread",
    ])?;
    run.printed("slots 32 disks 2")?;
    run.printed("capacity 48 sectors")?;
    first.holds(|wanted| {
        const TEXT: &[u8] = b"this_is_a_test";
        let sector = &mut wanted[3 * SECTOR..4 * SECTOR];
        sector.fill(0);
        sector[..TEXT.len()].copy_from_slice(TEXT);
    })?;
    second.is_untouched()
}

fn the_bank_as_it_is() -> Outcome {
    sos(Guest::new(SOS))
}

fn the_bank_where_sos_looks() -> Outcome {
    sos(Guest::new(SOS).cmdline(&format!("bank={SOS_BANK:#x}")).with(|config| {
        config.virtio = VirtioBank { base: SOS_BANK, ..VirtioBank::default() };
    }))
}
