//! What the disk counts: each entry once, whether it was transferred alone or with others.

use super::*;
use crate::block::{DiskStats, ErrorKind};

const SECTORS: u64 = 16;

/// Requests and bytes of reads, writes and flushes.
fn done(stats: &DiskStats) -> [(u64, u64); 3] {
    let [read, write, flush, ..] = stats.operations;
    [read, write, flush].map(|operation| (operation.requests, operation.bytes))
}

fn errors(stats: &DiskStats) -> [u64; 5] {
    ErrorKind::ALL.map(|kind| stats.errors[kind as usize])
}

#[test]
fn entries_count_alike_together_and_alone() {
    let mut m = Machine::unobserved(&[0; SECTORS as usize * 512], false, EntrySize::Padded, RING);
    m.driver.handshake().unwrap();
    // Four in a row, one apart, and two writes with a flush.
    let entries: Vec<_> = [0, 1, 2, 3, 9]
        .map(|sector| SvirtbEntry::read(sector, BUFFER, 512))
        .into_iter()
        .chain([5, 6].map(|sector| SvirtbEntry::write(sector, BUFFER, 512)))
        .collect();
    m.batch(&entries);
    assert_eq!(
        m.image.log(),
        ["read 2048 at 0", "read 512 at 4608", "write 1024 at 2560", "flush"]
    );
    let stats = m.disk.stats();
    assert_eq!(done(&stats), [(5, 2560), (2, 1024), (1, 0)]);
    assert_eq!(errors(&stats), [0; 5]);
}

#[test]
fn a_failure_counts_at_its_entry_only() {
    let mut m = Machine::unobserved(&[0; SECTORS as usize * 512], false, EntrySize::Padded, RING);
    m.driver.handshake().unwrap();
    // The transfer of all three fails, then the second alone.
    for fault in [Fault::After(0, libc::EIO), Fault::None, Fault::After(0, libc::EIO)] {
        m.faults.push(fault);
    }
    let reads: Vec<_> = (0..3).map(|n| SvirtbEntry::read(n, BUFFER, 512)).collect();
    assert_eq!(m.batch(&reads), (Status::Reset.value(), 1));
    let stats = m.disk.stats();
    assert_eq!((done(&stats)[0], errors(&stats)), ((2, 512), [0, 0, 1, 0, 0]));

    m.driver.restart(RING).unwrap();
    m.batch(&[SvirtbEntry::write(SECTORS, BUFFER, 512)]);
    let stats = m.disk.stats();
    assert_eq!((done(&stats)[1], errors(&stats)), ((1, 0), [1, 0, 1, 0, 0]));

    // A driver's mistake that never reaches the disk is no request to it.
    m.driver.restart(RING).unwrap();
    m.batch(&[SvirtbEntry::read(0, RAM_END, 512)]);
    assert_eq!(done(&m.disk.stats()), done(&stats));
}
