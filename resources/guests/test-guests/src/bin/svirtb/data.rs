//! Data through the ring. Afterwards the image holds:
//!
//! | sector | bytes |
//! |---|---|
//! | 8 | all 0x82 |
//! | 9 | byte 0 is 0x91, bytes 1 to 99 are 0x92, the rest as before |
//! | 10 to 12 | all 0xa1; but of sector 12 only byte 0 |
//! | 16 to 30 | sector 16 + n: all n |
//! | the last one | all 0xfe, as far as there is one |
//!
//! and is as long as before.

use drivers::svirtb::{Entry, READ, Ring, WRITE};
use rt::dma::Dma;
use scenario::pattern::{self, SEED};
use scenario::{Outcome, Report, ensure_eq};

use crate::machine::{BLANK, SECTOR, head, new_ring, open, read, status, submit, tail, write};

pub(crate) fn run(report: &mut Report, bytes: u64) {
    let ring = new_ring();
    let buffer = Dma::new(32 * SECTOR, SECTOR);
    report.run("one-entry-at-a-time-around-the-ring", || {
        open(ring)?;
        let part = buffer.part(0, SECTOR);
        for request in 0..40 {
            let sector = u64::from(request) % 7;
            part.fill(BLANK);
            ring.put(request % 16, read(sector, part));
            submit((request + 1) % 16)?;
            pattern::check(part, SEED, sector * SECTOR as u64)?;
        }
        Ok(())
    });
    report.run("a-batch-around-the-end-of-the-ring", || around(ring, buffer));
    report.run("a-ring-of-one-entry-takes-nothing", || {
        // Head and tail cannot differ in it.
        open(ring.reshaped(1, ring.stride()))?;
        submit(0)
    });
    report.run("a-ring-of-two-entries", || {
        let ring = ring.reshaped(2, ring.stride());
        open(ring)?;
        let part = buffer.part(0, SECTOR);
        for request in 0..5 {
            part.fill(BLANK);
            ring.put(request % 2, read(3, part));
            submit((request + 1) % 2)?;
            pattern::check(part, SEED, 3 * SECTOR as u64)?;
        }
        Ok(())
    });
    report.run("head-at-the-tail-is-nothing", || {
        open(ring)?;
        let part = buffer.part(0, SECTOR);
        part.fill(BLANK);
        ring.put(0, read(0, part));
        submit(0)?;
        pattern::check_all(part, BLANK)
    });
    report.run("entries-take-effect-in-ring-order", || order(ring, buffer));
    report.run("any-number-of-bytes-anywhere", || sizes(ring, buffer));
    report.run("a-size-of-0-is-nothing", || {
        open(ring)?;
        buffer.part(0, SECTOR).fill(BLANK);
        for (index, cmd) in [READ, WRITE].into_iter().enumerate() {
            ring.put(index as u32, Entry { addr: buffer.address(), size: 0, sector: 2, cmd });
        }
        ring.put(2, read(2, buffer.part(SECTOR, SECTOR)));
        submit(3)?;
        pattern::check_all(buffer.part(0, SECTOR), BLANK)?;
        pattern::check(buffer.part(SECTOR, SECTOR), SEED, 2 * SECTOR as u64)
    });
    report.run("a-full-batch-of-writes", || writes(ring, buffer));
    report.run("a-read-past-the-end-leaves-the-buffer", || past_the_end(ring, buffer, bytes));
    report.run("a-write-over-the-end-stores-what-fits", || over_the_end(ring, buffer, bytes));
}

/// From entry 13 over entry 0 to entry 9.
fn around(ring: Ring, buffer: Dma) -> Outcome {
    open(ring)?;
    let part = |index: u32| buffer.part(index as usize * SECTOR, SECTOR);
    for index in 0..13 {
        ring.put(index, read(0, part(index)));
    }
    submit(13)?;
    buffer.fill(BLANK);
    for index in 0..13 {
        ring.put((13 + index) % 16, read(u64::from(index) + 20, part(index)));
    }
    submit(10)?;
    for index in 0..13 {
        pattern::check(part(index), SEED, (u64::from(index) + 20) * SECTOR as u64)?;
    }
    // What was not handed over was not done.
    pattern::check_all(buffer.part(13 * SECTOR, SECTOR), BLANK)
}

fn order(ring: Ring, buffer: Dma) -> Outcome {
    open(ring)?;
    let part = |index: usize| buffer.part(index * SECTOR, SECTOR);
    part(0).fill(0x81);
    part(1).fill(0x82);
    (2..5).for_each(|index| part(index).fill(BLANK));
    ring.put(0, read(8, part(2)));
    ring.put(1, write(8, part(0)));
    ring.put(2, read(8, part(3)));
    ring.put(3, write(8, part(1)));
    ring.put(4, read(8, part(4)));
    submit(5)?;
    pattern::check(part(2), SEED, 8 * SECTOR as u64)?;
    pattern::check_all(part(3), 0x81)?;
    pattern::check_all(part(4), 0x82)
}

fn sizes(ring: Ring, buffer: Dma) -> Outcome {
    open(ring)?;
    // 99 bytes from an odd address, then one over the first of them.
    buffer.part(0, 4 * SECTOR).fill(0x92);
    ring.put(0, write(9, buffer.part(3, 100)));
    buffer.write(SECTOR, 0x91_u8);
    ring.put(1, write(9, buffer.part(SECTOR, 1)));
    submit(2)?;
    let back = buffer.part(2 * SECTOR + 1, SECTOR + 7);
    back.fill(BLANK);
    ring.put(2, read(9, back));
    submit(3)?;
    ensure_eq!(back.read::<u8>(0), 0x91, "byte 0 of sector 9");
    for at in 1..100 {
        ensure_eq!(back.read::<u8>(at), 0x92, "byte {at} of sector 9");
    }
    for at in 100..SECTOR + 7 {
        let offset = 9 * SECTOR as u64 + at as u64;
        let wanted = pattern::word(SEED, offset).to_le_bytes()[at % 8];
        ensure_eq!(back.read::<u8>(at), wanted, "byte {at} from sector 9 on");
    }
    // Two sectors and a byte.
    let long = buffer.part(8 * SECTOR, 2 * SECTOR + 1);
    long.fill(0xa1);
    ring.put(3, write(10, long));
    submit(4)?;
    let back = buffer.part(16 * SECTOR, 3 * SECTOR);
    ring.put(4, read(10, back));
    submit(5)?;
    pattern::check_all(back.part(0, 2 * SECTOR), 0xa1)?;
    ensure_eq!(back.read::<u8>(2 * SECTOR), 0xa1, "byte 0 of sector 12");
    pattern::check(back.part(2 * SECTOR + 8, SECTOR - 8), SEED, 12 * SECTOR as u64 + 8)
}

/// As many as a ring of 16 can hold: 15.
fn writes(ring: Ring, buffer: Dma) -> Outcome {
    open(ring)?;
    for index in 0..15_u8 {
        let part = buffer.part(usize::from(index) * SECTOR, SECTOR);
        part.fill(index);
        ring.put(u32::from(index), write(16 + u64::from(index), part));
    }
    submit(15)?;
    buffer.fill(BLANK);
    ring.put(15, read(16, buffer.part(0, 15 * SECTOR)));
    submit(0)?;
    for index in 0..15_u8 {
        pattern::check_all(buffer.part(usize::from(index) * SECTOR, SECTOR), index)?;
    }
    Ok(())
}

fn past_the_end(ring: Ring, buffer: Dma, bytes: u64) -> Outcome {
    open(ring)?;
    let sectors = bytes.div_ceil(SECTOR as u64);
    // A sector before the last full one, up to a sector after the end.
    let first = bytes / SECTOR as u64 - 1;
    let there = (bytes - first * SECTOR as u64) as usize;
    buffer.fill(BLANK);
    ring.put(0, read(first, buffer.part(0, 4 * SECTOR)));
    // Wholly past it: right after it, and as far as 64 bits of bytes go.
    ring.put(1, read(sectors, buffer.part(4 * SECTOR, SECTOR)));
    ring.put(2, read((1 << 55) - 2, buffer.part(5 * SECTOR, SECTOR)));
    submit(3)?;
    pattern::check(buffer.part(0, there), SEED, first * SECTOR as u64)?;
    for at in there..4 * SECTOR {
        ensure_eq!(
            buffer.read::<u8>(at),
            BLANK,
            "byte {at} of a read over the end, {there} bytes before it"
        );
    }
    pattern::check_all(buffer.part(4 * SECTOR, 2 * SECTOR), BLANK)
}

fn over_the_end(ring: Ring, buffer: Dma, bytes: u64) -> Outcome {
    open(ring)?;
    let last = (bytes - 1) / SECTOR as u64;
    let there = (bytes - last * SECTOR as u64) as usize;
    let part = buffer.part(0, 2 * SECTOR);
    part.fill(0xfe);
    ring.put(0, write(last, part));
    submit(1)?;
    part.fill(BLANK);
    ring.put(1, read(last, part));
    submit(2)?;
    ensure_eq!(head(), 2, "queue_head");
    ensure_eq!(tail(), 2, "queue_tail");
    ensure_eq!(status(), drivers::svirtb::READY, "status");
    for at in 0..2 * SECTOR {
        let wanted = if at < there { 0xfe } else { BLANK };
        ensure_eq!(
            part.read::<u8>(at),
            wanted,
            "byte {at} from the last sector on, which has {there}"
        );
    }
    Ok(())
}
