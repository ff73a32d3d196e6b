//! A hostile guest: nothing that it does may crash, stop or flood the host, or access other memory or disks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::memory::Buffers;

const READY: u32 = 1;
const RESET: u32 = 2;

/// Counts the lines that would be logged.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicU64>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_million_breaches_are_a_few_lines() {
    let lines = Lines::default();
    // With one subscriber, tracing asks the thread of the first log line, possibly of another test, whether it is
    // enabled. With two it asks each thread.
    let _second = tracing::Dispatch::new(Lines::default());
    tracing::subscriber::with_default(lines.clone(), || {
        let mut m = Machine::off(&numbered(2)[..600], false, EntrySize::Auto, RING);
        let recorder = m.recorder.clone();
        for n in 0..1_000_000u32 {
            m.driver.set(Register::QueueHead, n);
            if n % 1000 == 0 {
                recorder.take();
            }
        }
        // Every other kind of line, many times: handshakes with either stride, bad and straddling entries,
        // bad statuses, bad rings, bad accesses.
        for n in 0..2000 {
            let stride = if n % 2 == 0 { 28 } else { 32 };
            m.driver.restart(SvirtbRing { stride, ..RING }).unwrap();
            let good = SvirtbEntry::read(0, BUFFER, 512);
            m.batch(&[good, good, SvirtbEntry::write(1, BUFFER, 512)]);
            m.batch(&[SvirtbEntry { cmd: 1 + n % 3, sector: u64::from(n), ..good }]);
            m.driver.set(Register::Status, n);
            m.driver.set(Register::QueueTail, n);
            m.driver.set(Register::QueueSize, n);
            m.driver.device().write(u64::from(n % 0xfff), &[0; 3]);
            let _ = m.driver.restart(SvirtbRing { size: 0, ..RING });
            m.events();
        }
    });
    let lines = lines.0.load(Ordering::Relaxed);
    assert!((10..=50).contains(&lines), "{lines} lines");
}

#[test]
fn extreme_values_in_every_register_and_field() {
    let extremes = [0, 1, 27, 28, 0x7fff_ffff, 0x8000_0000, 0xcafe_0000, u32::MAX - 1, u32::MAX];
    for size in extremes {
        for lo in extremes {
            for hi in [0, 1, u32::MAX] {
                let mut m = Machine::off(&numbered(2), false, EntrySize::Auto, RING);
                m.bring_to(Status::DriverOk);
                m.driver.set(Register::QueueAddrHi, hi);
                m.driver.set(Register::QueueAddrLo, lo);
                m.driver.set(Register::QueueSize, size);
                m.driver.set(Register::Status, READY);
                m.driver.set(Register::QueueHead, size.wrapping_sub(1));
                m.driver.set(Register::QueueHead, size);
                m.driver.set(Register::QueueHead, u32::MAX);
            }
        }
    }
    let wide = [0, 1, 512, 0xcafe_0000, 1 << 32, u64::MAX / 512, u64::MAX - 511, u64::MAX];
    let mut m = Machine::ready(&numbered(2));
    for addr in wide {
        for size in wide {
            for sector in wide {
                for cmd in [0, 1, u32::MAX] {
                    m.driver.restart(RING).unwrap();
                    // Where the ring is not overwritten, it is to stay a ring.
                    let entry = SvirtbEntry { addr, size, sector, cmd };
                    m.driver.queue(SvirtbEntry { size: 0, cmd: 0, ..entry }).unwrap();
                    m.driver.queue(entry).unwrap();
                    m.driver.ring();
                    let (status, tail) = (m.driver.status(), m.driver.tail());
                    assert!((status, tail) == (READY, 2) || (status, tail) == (RESET, 1));
                }
            }
        }
    }
    assert_eq!(m.image.bytes().len(), 1024);
}

#[test]
fn a_buffer_may_be_the_ring_itself() {
    // A read that overwrites the ring while it is served: the entry that was read before it counts, and the
    // entries behind it are those that the disk held.
    let mut image = vec![0; 2048];
    let second = SvirtbEntry::write(3, BUFFER, 512);
    image[32..60].copy_from_slice(&second.to_bytes());
    let mut m = Machine::ready(&image);
    m.fill(BUFFER, 512, 0xee);
    let end = m.batch(&[SvirtbEntry::read(0, RING.base, 512), SvirtbEntry::write(0, BUFFER, 512)]);
    assert_eq!(end, (READY, 2));
    assert_eq!(m.image.log(), ["read 512 at 0", "write 512 at 1536", "flush"]);
    // And the ring can be stored as well as any other bytes.
    assert_eq!(m.batch(&[SvirtbEntry::write(1, RING.base, 512)]), (READY, 3));
    assert_eq!(m.image.bytes()[512..1024], m.bytes(RING.base, 512));
}

#[test]
fn an_entry_changed_while_it_is_served_is_served_as_it_was() {
    let ram = [(0, 8 << 20)];
    let ring = SvirtbRing { base: 0x1000, size: 16, stride: 32 };
    let image = vec![0x11; 4 << 20];
    let mut m = Machine::with_ram(&ram, &image, false, EntrySize::Auto, ring);
    m.driver.handshake().unwrap();
    // The guest's other processor makes nonsense of the whole ring before each piece is moved.
    let guest = m.driver.ram().clone();
    m.image.before_each(move |_| {
        let entry = SvirtbEntry { addr: 4 << 20, size: u64::MAX, sector: 0, cmd: 7 };
        guest.write(0x1000, &entry.to_bytes()).unwrap();
    });
    m.fill(4 << 20, 3 << 20, 0xee);
    assert_eq!(m.batch(&[SvirtbEntry::write(1024, 4 << 20, 3 << 20)]), (READY, 1));
    let expected = [vec![0x11; 512 << 10], vec![0xee; 3 << 20], vec![0x11; 512 << 10]].concat();
    assert!(m.image.bytes() == expected);
    assert_eq!(m.outcomes(), ["0 write: ok"]);
}

#[test]
fn the_machines_owner_can_stop_a_doorbell_at_every_piece() {
    // 15 entries, each of all RAM: without a stop a hostile guest would keep the host busy for minutes.
    let ram = [(0, 8 << 20)];
    for after in 1..20 {
        let image = vec![0x11; 8 << 20];
        let mut m = Machine::with_ram(&ram, &image, false, EntrySize::Padded, RING);
        m.driver.handshake().unwrap();
        let stop = m.disk.stop_handle();
        let mut requests = 0;
        m.image.before_each(move |_| {
            requests += 1;
            if requests == after {
                stop.stop();
            }
        });
        let end = m.batch(&[SvirtbEntry::write(0, 0, 8 << 20); 15]);
        let whole = after / 8;
        assert_eq!(end, (RESET, whole));
        // Each entry is 8 requests; and what tail claims was flushed.
        let log = m.image.log();
        assert_eq!(log.iter().filter(|line| line.starts_with("write")).count(), after as usize);
        assert_eq!(log.last().is_some_and(|line| line == "flush"), whole > 0);
        assert!(m.complaint().contains("because the machine is being stopped"));
        // Nothing starts again.
        m.driver.restart(RING).unwrap();
        assert_eq!(m.batch(&[SvirtbEntry::read(0, BUFFER, 512)]), (RESET, 0));
        assert_eq!(m.image.log(), [""; 0]);
    }
}

#[test]
fn empty_entries_can_be_stopped_too() {
    // They move no bytes, but a ring may hold very many of them.
    let mut m = Machine::off(&numbered(1), false, EntrySize::Auto, RING);
    m.driver.handshake().unwrap();
    m.disk.stop_handle().stop();
    assert_eq!(m.batch(&[SvirtbEntry::read(0, 0, 0); 3]), (RESET, 0));
}

#[test]
fn a_real_image_never_grows_and_is_written_to_the_byte() {
    use crate::block::{Access, Image, Opening};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    std::fs::write(&path, &numbered(3)[..1300]).unwrap();
    let disk = Disk::from_image(Image::open(&path, Opening::cached(Access::ReadWrite)).unwrap());
    let ram = GuestRam::anonymous(&RAM).unwrap();
    let device = Device::new(&disk, ram.clone(), EntrySize::Auto, Tap::default()).unwrap();
    let mut driver = SvirtbDriver::new(device, ram.clone(), RING);
    driver.handshake().unwrap();
    Buffers::single(ram, BUFFER, 5).unwrap().copy_from(b"hello");
    assert!(driver.serve(SvirtbEntry::write(1, BUFFER, 5)).unwrap());
    assert!(driver.serve(SvirtbEntry::write(2, BUFFER, 0x4000)).unwrap());
    assert!(!driver.serve(SvirtbEntry::write(3, BUFFER, 1)).unwrap());
    let expected = [&[1; 512][..], b"hello", &[2; 507], b"hello", &[0; 271]].concat();
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}
