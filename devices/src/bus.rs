//! The bus: finds the device at an address, for memory-mapped registers and for ports.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::{Direction, Event, Tap};

/// A device at a range of guest-physical addresses or ports.
///
/// `offset` counts bytes from the start of the range. The bus ensures that the access is completely within the range.
/// `data` has 1 to 8 bytes, in the guest's (little-endian) order.
///
/// The bus has no lock: several vCPUs access a device at the same time. A device locks its own state, and never makes a
/// register access wait for I/O of another one.
pub trait BusDevice: Send + Sync {
    /// Fills `data` with the value that the guest reads at `offset`. All of `data` must be written.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Handles the guest's write at `offset`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// The first `N` bytes of an access, filled up with zeros: the input of `from_le_bytes`.
pub fn first_bytes<const N: usize>(data: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = *from;
    }
    bytes
}

/// A device on the bus, shared between the vCPUs.
pub type SharedDevice = Arc<dyn BusDevice>;

/// Why a device could not be added to the bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BusError {
    /// The range is empty, or exceeds the address space.
    #[error("{name}: {len:#x} bytes at {base:#x} are not a valid range of addresses")]
    NoRange {
        /// The new device.
        name: String,
        /// Its first address.
        base: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// The range overlaps another device.
    #[error("{name} at {base:#x} would overlap {other} at {other_base:#x}")]
    Taken {
        /// The new device.
        name: String,
        /// Its first address.
        base: u64,
        /// The other device.
        other: String,
        /// The first address of the other device.
        other_base: u64,
    },
}

struct Entry {
    base: u64,
    /// The last address, so that a range can end at the top of the address space.
    last: u64,
    name: String,
    device: SharedDevice,
}

/// A device's name and addresses, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour<'a> {
    /// Its name in the log.
    pub name: &'a str,
    /// Its first and its last address.
    pub range: RangeInclusive<u64>,
}

/// An address space with its devices.
///
/// An access that is not completely within one device reads ones, writes nothing, and is counted.
#[derive(Default)]
pub struct Bus {
    /// Sorted by base, never overlapping.
    entries: Vec<Entry>,
    unclaimed: AtomicU64,
    /// The name of the bus for observers, and the tap.
    tap: Option<(Arc<str>, Tap)>,
}

impl Bus {
    /// An address space without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// An address space with observers at `tap`, under a name such as "memory".
    pub fn observed(name: &str, tap: Tap) -> Self {
        Self { tap: Some((name.into(), tap)), ..Self::default() }
    }

    /// Adds `device` at `base`, with `len` bytes.
    ///
    /// # Errors
    ///
    /// If the range is empty, exceeds the address space, or overlaps another device.
    pub fn insert(
        &mut self,
        base: u64,
        len: u64,
        name: &str,
        device: SharedDevice,
    ) -> Result<(), BusError> {
        let last = len
            .checked_sub(1)
            .and_then(|n| base.checked_add(n))
            .ok_or_else(|| BusError::NoRange { name: name.to_owned(), base, len })?;
        if let Some(other) = self.entries.iter().find(|e| base <= e.last && e.base <= last) {
            return Err(BusError::Taken {
                name: name.to_owned(),
                base,
                other: other.name.clone(),
                other_base: other.base,
            });
        }
        let at = self.entries.partition_point(|e| e.base < base);
        self.entries.insert(at, Entry { base, last, name: name.to_owned(), device });
        Ok(())
    }

    /// Reads for the guest. Returns whether a device answered; `data` is ones if none did.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        let found = self.find(addr, data.len());
        match found {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
        self.seen(addr, Direction::Read, data, found.is_some());
        found.is_some()
    }

    /// Writes for the guest. Returns whether there is a device; without one, the write has no effect.
    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        let found = self.find(addr, data.len());
        self.seen(addr, Direction::Write, data, found.is_some());
        if let Some((device, offset)) = found {
            device.write(offset, data);
        }
        found.is_some()
    }

    /// The number of accesses without a device.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Ordering::Relaxed)
    }

    /// The device at the address, or the nearest one; of two with the same distance, the lower one. None if there is no
    /// device.
    pub fn nearest(&self, addr: u64) -> Option<Neighbour<'_>> {
        // One of the two is 0; both are if the address is in the range.
        let distance = |e: &Entry| e.base.saturating_sub(addr).max(addr.saturating_sub(e.last));
        let entry = self.entries.iter().min_by_key(|e| distance(e))?;
        Some(Neighbour { name: &entry.name, range: entry.base..=entry.last })
    }

    fn seen(&self, address: u64, direction: Direction, data: &[u8], claimed: bool) {
        if let Some((name, tap)) = &self.tap {
            tap.emit(name, || {
                let (width, value) = (data.len(), u64::from_le_bytes(first_bytes(data)));
                Event::Access { address, width, direction, value, claimed }
            });
        }
    }

    fn find(&self, addr: u64, len: usize) -> Option<(&dyn BusDevice, u64)> {
        let before = self.entries.partition_point(|e| e.base <= addr);
        let found = before.checked_sub(1).and_then(|at| self.entries.get(at)).filter(|e| {
            u64::try_from(len)
                .ok()
                .and_then(|len| addr.checked_add(len.saturating_sub(1)))
                .is_some_and(|last| last <= e.last)
        });
        if found.is_none() {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
        found.map(|e| (&*e.device, addr - e.base))
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.entries.iter().map(|e| (format!("{:#x}..={:#x}", e.base, e.last), &e.name)),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::testing::{Recorded, Recorder};

    /// Stores the last write; reads as its offset.
    struct Probe(Seen);

    impl BusDevice for Probe {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&self, offset: u64, data: &[u8]) {
            *self.0.lock().unwrap() = Some((offset, data.to_vec()));
        }
    }

    type Seen = Arc<Mutex<Option<(u64, Vec<u8>)>>>;

    fn probe() -> (SharedDevice, Seen) {
        let seen = Seen::default();
        (Arc::new(Probe(seen.clone())), seen)
    }

    #[test]
    fn the_owner_answers_with_its_own_offset() {
        let mut bus = Bus::new();
        let (a, seen_a) = probe();
        let (b, seen_b) = probe();
        bus.insert(0x2000, 0x200, "b", b).unwrap();
        bus.insert(0x1000, 0x1000, "a", a).unwrap();
        let mut data = [0; 4];
        assert!(bus.read(0x2004, &mut data));
        assert_eq!(data, [4; 4]);
        assert!(bus.write(0x1ffc, &[1, 2, 3, 4]));
        assert_eq!(*seen_a.lock().unwrap(), Some((0xffc, vec![1, 2, 3, 4])));
        assert_eq!(*seen_b.lock().unwrap(), None);
        assert_eq!(bus.unclaimed(), 0);
    }

    #[test]
    fn what_nobody_owns_wholly_reads_as_ones_and_is_counted() {
        let mut bus = Bus::new();
        let (a, seen) = probe();
        bus.insert(0x1000, 0x10, "a", a).unwrap();
        for addr in [0, 0xfff, 0x100d, 0x1010, u64::MAX, u64::MAX - 3] {
            let mut data = [0; 4];
            assert!(!bus.read(addr, &mut data), "{addr:#x}");
            assert_eq!(data, [0xff; 4]);
            assert!(!bus.write(addr, &data));
        }
        assert_eq!(*seen.lock().unwrap(), None);
        assert_eq!(bus.unclaimed(), 12);
    }

    #[test]
    fn an_observer_sees_each_access_claimed_or_not() {
        let recorder = Arc::new(Recorder::default());
        let mut bus = Bus::observed("memory", Tap::to(recorder.clone()));
        bus.insert(0x1000, 0x10, "a", probe().0).unwrap();
        bus.write(0x1004, &[1, 2, 3, 4]);
        bus.read(0x1008, &mut [0; 2]);
        bus.read(0x2000, &mut [0; 8]);
        let seen = recorder.take();
        let seen: Vec<_> = seen.iter().filter_map(Recorded::other).collect();
        assert_eq!(
            seen,
            [
                "Access { address: 4100, width: 4, direction: Write, value: 67305985, claimed: true }",
                "Access { address: 4104, width: 2, direction: Read, value: 2056, claimed: true }",
                "Access { address: 8192, width: 8, direction: Read, value: 18446744073709551615, \
                 claimed: false }",
            ]
        );
    }

    #[test]
    fn the_nearest_device_is_named_with_its_range() {
        let mut bus = Bus::new();
        assert_eq!(bus.nearest(0), None);
        bus.insert(0x1000, 0x10, "a", probe().0).unwrap();
        bus.insert(0x2000, 0x10, "b", probe().0).unwrap();
        for (addr, name) in [
            (0, "a"),
            (0x100f, "a"),
            (0x1807, "a"), // 0x7f8 from a's last address, 0x7f9 from b's first
            (0x1808, "b"),
            (0x2008, "b"),
            (u64::MAX, "b"),
        ] {
            assert_eq!(bus.nearest(addr).unwrap().name, name, "{addr:#x}");
        }
        assert_eq!(bus.nearest(0).unwrap().range, 0x1000..=0x100f);
        bus.insert(0x1011, 1, "c", probe().0).unwrap();
        assert_eq!(bus.nearest(0x1010).unwrap().name, "a", "the lower of two as near");
    }

    #[test]
    fn ranges_never_overlap() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x10, "a", probe().0).unwrap();
        for (base, len) in [(0x1000, 0x10), (0xff8, 9), (0x100f, 1), (0, 0x10000)] {
            let error = bus.insert(base, len, "b", probe().0).unwrap_err();
            assert!(matches!(error, BusError::Taken { .. }), "{base:#x}+{len:#x}: {error}");
        }
        for (base, len) in [(0, 0), (u64::MAX, 2)] {
            let error = bus.insert(base, len, "b", probe().0).unwrap_err();
            assert!(matches!(error, BusError::NoRange { .. }), "{base:#x}+{len:#x}: {error}");
        }
        bus.insert(0x1010, 0x10, "b", probe().0).unwrap();
        bus.insert(u64::MAX, 1, "top", probe().0).unwrap();
        assert!(bus.read(u64::MAX, &mut [0]));
    }
}
