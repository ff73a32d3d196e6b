//! Entries of 28 bytes and of 32.

use drivers::svirtb::{Entry, READ, Ring, Stride};
use rt::dma::Dma;
use scenario::pattern::{self, SEED};
use scenario::{Outcome, Report};

use crate::machine::{BLANK, SECTOR, new_ring, open, read, submit, submit_bad};

/// An entry that does nothing, all zeros: it fits both sizes, so it does not show which size the driver uses.
const NOTHING: Entry = Entry { addr: 0, size: 0, sector: 0, cmd: READ };

pub(crate) fn run(report: &mut Report) {
    let ring = new_ring();
    let buffer = Dma::new(4 * SECTOR, SECTOR);
    for (name, stride) in
        [("entries-of-28-bytes", Stride::Packed), ("entries-of-32-bytes", Stride::Padded)]
    {
        report.run(name, || {
            open(ring)?;
            batch(ring.reshaped(16, stride), buffer)
        });
    }
    report.run("the-entry-size-is-found-anew-after-each-ready", || {
        for stride in [Stride::Padded, Stride::Packed, Stride::Padded] {
            open(ring)?;
            batch(ring.reshaped(16, stride), buffer)?;
        }
        Ok(())
    });
    report.run("where-both-sizes-fit-it-is-32", || {
        open(ring)?;
        undecided(ring.reshaped(16, Stride::Padded), buffer)
    });
}

/// With `entry-size=28`.
pub(crate) fn run_packed_only(report: &mut Report) {
    let ring = new_ring();
    let buffer = Dma::new(4 * SECTOR, SECTOR);
    report.run("entries-of-28-bytes", || {
        open(ring)?;
        batch(ring, buffer)?;
        open(ring)?;
        undecided(ring, buffer)
    });
    report.run("entries-of-32-bytes-are-refused", || {
        open(ring)?;
        refused(ring.reshaped(16, Stride::Padded), buffer)
    });
}

/// With `entry-size=32`.
pub(crate) fn run_padded_only(report: &mut Report) {
    let ring = new_ring();
    let buffer = Dma::new(4 * SECTOR, SECTOR);
    report.run("entries-of-32-bytes", || {
        open(ring)?;
        batch(ring.reshaped(16, Stride::Padded), buffer)?;
        open(ring)?;
        undecided(ring.reshaped(16, Stride::Padded), buffer)
    });
    report.run("entries-of-28-bytes-are-refused", || {
        open(ring)?;
        refused(ring, buffer)
    });
}

/// Four sectors in one doorbell.
fn batch(ring: Ring, buffer: Dma) -> Outcome {
    buffer.fill(BLANK);
    for index in 0..4 {
        ring.put(index, read(u64::from(index) * 7, buffer.part(index as usize * SECTOR, SECTOR)));
    }
    submit(4)?;
    for index in 0..4 {
        let offset = index as u64 * 7 * SECTOR as u64;
        pattern::check(buffer.part(index * SECTOR, SECTOR), SEED, offset)?;
    }
    Ok(())
}

/// Entry 1 shows nothing about the size of entries; entry 2 is at the place that `ring` gives.
fn undecided(ring: Ring, buffer: Dma) -> Outcome {
    buffer.fill(BLANK);
    let part = buffer.part(0, SECTOR);
    ring.put(0, NOTHING);
    ring.put(1, NOTHING);
    ring.put(2, read(9, part));
    submit(3)?;
    pattern::check(part, SEED, 9 * SECTOR as u64)
}

/// Entry 0 is the same in both sizes, entry 1 is not.
fn refused(ring: Ring, buffer: Dma) -> Outcome {
    ring.put(0, read(0, buffer.part(0, SECTOR)));
    ring.put(1, read(1, buffer.part(0, SECTOR)));
    submit_bad(2, 1)
}
