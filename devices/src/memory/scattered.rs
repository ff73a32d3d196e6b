//! Guest RAM in many ranges, read at any offset.

use super::{GuestRam, OutOfRam};

/// Ranges of guest RAM, each checked when it was added, that together are one sequence of bytes.
///
/// A read at an offset finds its range in logarithmic time. [`Buffers`](super::Buffers) are for sequences that are moved
/// as a whole.
#[derive(Debug, Clone)]
pub struct Scattered {
    ram: GuestRam,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    /// The guest-physical address.
    addr: u64,
    /// The offset of its first byte in the sequence.
    start: u64,
    /// The offset behind its last byte.
    end: u64,
}

impl Scattered {
    /// Without ranges.
    pub const fn new(ram: GuestRam) -> Self {
        Self { ram, parts: Vec::new() }
    }

    /// Adds the `len` bytes at `addr`. A range that continues the last one becomes a part of it.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM, or the sum of all lengths exceeds 64 bits.
    pub fn push(&mut self, addr: u64, len: u64) -> Result<(), OutOfRam> {
        self.ram.check(addr, len)?;
        let start = self.len();
        let end = start.checked_add(len).ok_or(OutOfRam { addr, len })?;
        match self.parts.last_mut() {
            _ if len == 0 => {}
            // The last range is in RAM, so its end is no larger than an address.
            Some(last) if last.addr + (last.end - last.start) == addr => last.end = end,
            _ => self.parts.push(Part { addr, start, end }),
        }
        Ok(())
    }

    /// The sum of the lengths.
    pub fn len(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.end)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of ranges that do not continue each other.
    pub fn ranges(&self) -> usize {
        self.parts.len()
    }

    /// Copies the bytes at `offset` into `bytes`. Returns their number: fewer if the sequence ends before.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> usize {
        let first = self.parts.partition_point(|part| part.end <= offset);
        let mut done = 0;
        for part in self.parts.get(first..).unwrap_or_default() {
            // Only in the first part the offset is behind its start.
            let skip = (offset + done as u64).saturating_sub(part.start);
            let here = part.end - part.start - skip;
            let rest = bytes.get_mut(done..).unwrap_or_default();
            let here = usize::try_from(here).map_or(rest.len(), |here| here.min(rest.len()));
            let Some(rest) = rest.get_mut(..here).filter(|rest| !rest.is_empty()) else { break };
            if self.ram.read_into(part.addr + skip, rest).is_err() {
                // Each range was checked.
                break;
            }
            done += here;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_at_any_offset() {
        let ram = GuestRam::anonymous(&[(0, 4096), (4096, 4096)]).unwrap();
        let all: Vec<_> = (0..60).collect();
        let mut scattered = Scattered::new(ram.clone());
        // Out of order, across two regions, and two that are one.
        for (addr, bytes) in
            [(0x100, &all[..7]), (0x80, &all[7..8]), (4090, &all[8..30]), (4112, &all[30..60])]
        {
            ram.write(addr, bytes).unwrap();
            scattered.push(addr, bytes.len() as u64).unwrap();
            scattered.push(addr, 0).unwrap();
        }
        assert_eq!((scattered.len(), scattered.ranges(), scattered.is_empty()), (60, 3, false));
        for offset in 0..=61 {
            for len in 0..62 {
                let mut bytes = vec![0xee; len];
                let done = scattered.read_at(offset, &mut bytes);
                let expected = &all[all.len().min(offset as usize)..];
                let expected = &expected[..len.min(expected.len())];
                assert_eq!(bytes[..done], *expected, "{len} at {offset}");
            }
        }
        assert_eq!(scattered.read_at(u64::MAX, &mut [0]), 0);
    }

    #[test]
    fn only_ram_is_added() {
        let mut scattered = Scattered::new(GuestRam::anonymous(&[(0, 4096)]).unwrap());
        for (addr, len) in [(4095, 2), (u64::MAX, 1), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            assert_eq!(scattered.push(addr, len), Err(OutOfRam { addr, len }));
        }
        scattered.push(u64::MAX, 0).unwrap();
        assert_eq!((scattered.len(), scattered.ranges()), (0, 0));
        assert_eq!(scattered.read_at(0, &mut [0]), 0);
    }
}
