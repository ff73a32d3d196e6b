//! The same commands with each engine, on either bus and on a snapshot.

use cafevm_devices::block::EngineKind;
use cafevm_guest_tests::{Guest, Outcome, SECTOR, SEED, Scratch, ensure, pattern, sectors};

use crate::expect::crc32;

pub(crate) fn every_engine() -> Outcome {
    let change = |bytes: &mut [u8]| {
        bytes[sectors(1..2)].fill(0);
        bytes[SECTOR..SECTOR + 4].copy_from_slice(b"text");
        bytes[sectors(20..60)].fill(0x5a);
    };
    let mut after = pattern(SEED, 0..64 * SECTOR);
    change(&mut after);
    let sum = format!("crc32 {:08x} of 32768 bytes", crc32(&after));
    for (engine, _) in EngineKind::ALL {
        for keys in ["bus=virtio", "bus=virtio,queues=2", "bus=svirtb", "snapshot=on"] {
            let scratch = Scratch::new()?;
            let image = scratch.image("d.img", 64 * SECTOR)?;
            let keys = format!("{keys},engine={engine}");
            let run = Guest::shell("write 1 text; fill 20 0x5a 40; flush; sum 0 64; exit")
                .disk(&image, &keys)
                .run()?;
            run.powered_off()?;
            ensure!(run.text.contains(&sum), "{keys}: the shell must print '{sum}': {run}");
            if keys.contains("snapshot") {
                image.is_untouched()?;
            } else {
                image.holds(change)?;
            }
        }
    }
    Ok(())
}
