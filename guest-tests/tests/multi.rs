//! Several disks of both kinds at once: `resources/guests/test-guests/src/bin/multi.rs`.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, sectors, tests};
use cafevm_resources::test_guests::MULTI;

tests! { three_virtio_disks_and_svirtb, as_many_as_there_can_be }

const SCENARIOS: [&str; 7] = [
    "every-handshake",
    "each-has-its-own-contents",
    "requests-on-all-at-once",
    "a-mark-on-each",
    "no-mark-on-another",
    "an-interrupt-line-each",
    "a-name-each",
];

/// `count` virtio disks; the svirtb disk stands among them, as it takes no slot.
fn multi(count: u8, change: impl FnOnce(Guest) -> Guest) -> Outcome {
    let scratch = Scratch::new()?;
    let svirtb = scratch.seeded("svirtb.img", 0x5b, 32 * SECTOR + 77)?;
    let mut guest = Guest::new(MULTI);
    let mut images = Vec::new();
    for n in 0..count {
        // Each of another size, so that one is not taken for another.
        let sectors = 32 + usize::from(n);
        let image = scratch.seeded(&format!("{n}.img"), u64::from(n) + 1, sectors * SECTOR)?;
        if n == 1 {
            guest = guest.svirtb(&svirtb);
        }
        let named =
            if n == 2 { "id=a name of 20 letters".to_owned() } else { "bus=virtio".to_owned() };
        guest = guest.disk(&image, &named);
        images.push(image);
    }
    let run = change(guest).run()?;
    run.passed(&SCENARIOS)?;
    run.printed(&format!("virtio {count} svirtb 1"))?;
    for n in 0..count {
        let id = if n == 2 { "a name of 20 letters".to_owned() } else { format!("cafevm-disk{n}") };
        run.printed(&format!("id {n}: {id}"))?;
    }
    for (mark, image) in (0xd0..).zip(&images) {
        image.holds(|wanted| wanted[sectors(7..8)].fill(mark))?;
    }
    svirtb.holds(|wanted| wanted[sectors(7..8)].fill(0x5b))
}

fn three_virtio_disks_and_svirtb() -> Outcome {
    multi(3, |guest| guest)
}

fn as_many_as_there_can_be() -> Outcome {
    // Every interrupt line is taken.
    multi(19, Guest::alone)
}
