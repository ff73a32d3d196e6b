//! Every error of the ring: the device stops at the bad entry, and nothing of it reaches the disk.

use drivers::svirtb::{BASE, Entry, READ, RESET, Ring, WRITE};
use rt::dma::Dma;
use scenario::pattern::{self, SEED};
use scenario::{Outcome, Report, ensure_eq};

use crate::machine::{
    BLANK, SECTOR, end_of_ram, head, new_ring, open, read, ring_doorbell, status, submit,
    submit_bad, tail, write,
};

/// Where a bad entry stands: behind two good ones, so that the size of entries is settled.
const BAD: u32 = 2;

pub(crate) fn run(report: &mut Report, bytes: u64) {
    let ring = new_ring();
    let buffer = Dma::new(8 * SECTOR, SECTOR);
    let len = SECTOR as u64;
    let here = buffer.address();
    let top = end_of_ram();
    let end = bytes.div_ceil(len);
    let entry = |addr, size, sector, cmd| Entry { addr, size, sector, cmd };
    let bad = [
        ("an-unknown-command", entry(here, len, 4, 2)),
        ("another-unknown-command", entry(here, len, 4, 0xffff_ffff)),
        ("a-buffer-in-the-devices-page", entry(BASE, len, 4, READ)),
        ("a-buffer-in-the-hole", entry(0xd000_0000, len, 4, READ)),
        ("a-buffer-right-above-ram", entry(top, len, 4, READ)),
        ("a-buffer-over-the-end-of-ram", entry(top - len + 1, len, 4, READ)),
        ("a-buffer-that-wraps", entry(u64::MAX - 255, len, 4, READ)),
        ("a-buffer-of-all-bytes-there-are", entry(here, u64::MAX, 4, READ)),
        ("a-write-from-the-devices-page", entry(BASE, len, 4, WRITE)),
        ("a-write-from-over-the-end-of-ram", entry(top - len + 1, len, 4, WRITE)),
        ("a-write-from-a-buffer-that-wraps", entry(u64::MAX - 255, len, 4, WRITE)),
        ("a-read-of-a-sector-past-64-bits-of-bytes", entry(here, len, 1 << 55, READ)),
        ("a-write-of-a-sector-past-64-bits-of-bytes", entry(here, len, 1 << 55, WRITE)),
        ("a-write-of-the-last-sector-number", entry(here, len, u64::MAX, WRITE)),
        ("a-write-at-the-end", entry(here, len, end, WRITE)),
        ("a-write-past-the-end", entry(here, 1, end + 1000, WRITE)),
    ];
    for (name, entry) in bad {
        report.run(name, || stops_at(ring, buffer, entry));
    }
    report.run("a-head-past-the-ring", || {
        for head_value in [ring.entries(), ring.entries() + 1, u32::MAX] {
            open(ring)?;
            buffer.fill(BLANK);
            ring.put(0, read(0, buffer.part(0, SECTOR)));
            ring.put(1, read(0, buffer.part(0, SECTOR)));
            submit(1)?;
            buffer.fill(BLANK);
            submit_bad(head_value, 1)?;
            pattern::check_all(buffer, BLANK)?;
        }
        Ok(())
    });
    report.run("a-stopped-device-does-nothing", || {
        stop(ring, buffer, Entry { addr: here, size: len, sector: 4, cmd: 9 })?;
        let (head_before, tail_before) = (head(), tail());
        buffer.fill(BLANK);
        ring.put(BAD, read(0, buffer.part(0, SECTOR)));
        ring_doorbell(BAD + 2);
        ensure_eq!(status(), RESET, "status after the doorbell of a stopped device");
        ensure_eq!(head(), head_before, "queue_head after the doorbell of a stopped device");
        ensure_eq!(tail(), tail_before, "queue_tail after the doorbell of a stopped device");
        pattern::check_all(buffer, BLANK)
    });
}

/// The one error that needs another disk.
pub(crate) fn run_read_only(report: &mut Report) {
    let ring = new_ring();
    let buffer = Dma::new(8 * SECTOR, SECTOR);
    report.run("a-read-only-disk-reads", || {
        open(ring)?;
        let part = buffer.part(0, 2 * SECTOR);
        ring.put(0, read(5, part));
        submit(1)?;
        pattern::check(part, SEED, 5 * SECTOR as u64)
    });
    report.run("a-write-to-a-read-only-disk", || {
        stops_at(ring, buffer, write(4, buffer.part(0, SECTOR)))
    });
}

/// Two good entries, a bad one, and another good one behind it, in one doorbell.
fn stop(ring: Ring, buffer: Dma, bad: Entry) -> Outcome {
    open(ring)?;
    buffer.fill(BLANK);
    let part = |index: usize| buffer.part(index * SECTOR, SECTOR);
    ring.put(0, read(0, part(1)));
    ring.put(1, read(1, part(2)));
    ring.put(BAD, bad);
    ring.put(BAD + 1, read(3, part(3)));
    submit_bad(BAD + 2, BAD)
}

/// What went before the bad entry is done, the bad entry and what came after it are not, and the device can be used
/// again.
fn stops_at(ring: Ring, buffer: Dma, bad: Entry) -> Outcome {
    stop(ring, buffer, bad)?;
    let part = |index: usize| buffer.part(index * SECTOR, SECTOR);
    pattern::check_all(part(0), BLANK)?;
    pattern::check(part(1), SEED, 0)?;
    pattern::check(part(2), SEED, SECTOR as u64)?;
    pattern::check_all(part(3), BLANK)?;
    open(ring)?;
    ring.put(0, read(4, part(4)));
    submit(1)?;
    pattern::check(part(4), SEED, 4 * SECTOR as u64)
}
