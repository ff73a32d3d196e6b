//! The guest's requests: most are valid, with any legal layout; some are wrong.

use super::machine::{DATA_END, RAM, TABLES};
use super::model::INDIRECT_DESC;
use super::script::World;
use crate::testing::input::Input;

/// Addresses and lengths near these are unusual.
const PLACES: [u64; 7] = [0, 0x1_0000, 1 << 20, (1 << 20) + 0x8000, 1 << 32, 1 << 55, u64::MAX];

/// A descriptor that is not written yet: address, bytes, flags.
#[derive(Debug, Clone, Copy)]
struct Part {
    addr: u64,
    len: u32,
    flags: u16,
}

/// The mistake in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Sector,
    Ragged,
    Kind,
    Address,
    Length,
    WriteFlag,
    ShortHeader,
    NoStatus,
    Next,
    Head,
    IndirectFlag,
    TableLength,
    Range,
    Order,
    Ahead,
    Overlong,
}

const FLAWS: [Flaw; 16] = [
    Flaw::Sector,
    Flaw::Ragged,
    Flaw::Kind,
    Flaw::Address,
    Flaw::Length,
    Flaw::WriteFlag,
    Flaw::ShortHeader,
    Flaw::NoStatus,
    Flaw::Next,
    Flaw::Head,
    Flaw::IndirectFlag,
    Flaw::TableLength,
    Flaw::Range,
    Flaw::Order,
    Flaw::Ahead,
    Flaw::Overlong,
];

impl World {
    /// Adds a request to a queue. Returns its description for the history; none if there is no room, or no queue.
    pub(super) fn offer(&mut self, input: &mut Input<'_>, index: usize) -> Option<String> {
        let ring = self.rings[index]?;
        let taken = self.model.queues.get(index).and_then(Option::as_ref)?.taken;
        let flaw = input.one_in(14).then(|| input.pick(&FLAWS, Flaw::Sector));
        let has = |this| flaw == Some(this);
        if ring.idx.wrapping_sub(taken) >= ring.at.size && !has(Flaw::Ahead) {
            return None;
        }
        let (kind, sector, mut out, incoming) = self.ask(input, flaw);
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([input.byte(); 4]);
        header.extend(sector.to_le_bytes());
        if has(Flaw::ShortHeader) {
            header.truncate(input.below(16) as usize);
            out.clear();
        }
        header.append(&mut out);

        let room = u32::from(ring.at.size);
        let reads = self.scatter(input, header.len() as u32, room / 2, 0);
        let status = u32::from(!has(Flaw::NoStatus));
        let writes = self.scatter(input, incoming + status, room - room / 2, 2);
        let mut from = &header[..];
        for part in &reads {
            let (bytes, rest) = from.split_at(part.len as usize);
            self.poke(part.addr, bytes);
            from = rest;
        }
        let mut parts = [reads, writes].concat();
        while parts.len() < room as usize && input.one_in(12) {
            // An empty buffer is no mistake, if it is among its own kind.
            let at = input.below(parts.len() as u32 + 1) as usize;
            let flags = parts.get(at).or(parts.last()).map_or(0, |part| part.flags);
            let (addr, len) = (input.odd(&PLACES), 0);
            parts.insert(at, Part { addr, len, flags });
        }
        self.spoil(input, flaw, &mut parts);
        if parts.is_empty() {
            parts.push(Part { addr: 0, len: 16, flags: 0 });
        }
        self.lay_out(input, index, flaw, &parts)?;
        Some(format!("{kind} at {sector}, {incoming} in, {} out, {flaw:?}", header.len()))
    }

    /// Type, first sector, the bytes for the device to read, and the number of bytes for it to write.
    fn ask(&mut self, input: &mut Input<'_>, flaw: Option<Flaw>) -> (u32, u64, Vec<u8>, u32) {
        let has = |this| flaw == Some(this);
        let mut kind = input.pick(&[0, 1, 0, 1, 0, 1, 0, 1, 4, 8, 11, 13], 0);
        if has(Flaw::Range) {
            kind = 11 + 2 * input.below(2);
        }
        let count = input.below(6);
        let capacity = self.model.capacity as u32;
        let mut sector = u64::from(input.below(capacity + 1 - count.min(capacity)));
        let (mut out, mut incoming) = (Vec::new(), 0);
        match kind {
            0 => incoming = 512 * count,
            1 => {
                let seed = input.byte();
                out = (0..512 * count).map(|n| seed.wrapping_add((n / 3) as u8)).collect();
            }
            8 => incoming = input.pick(&[20, 19, 21, 1, 0, 60], 20),
            11 | 13 => {
                for _ in 0..=input.below(3) {
                    let sectors = input.below(12).min(capacity);
                    let from = input.below(capacity + 1 - sectors);
                    let mut fields = [from.into(), sectors.into(), u64::from(kind == 13) & 1];
                    if input.one_in(2) {
                        fields[2] = 0;
                    }
                    if has(Flaw::Range) && input.one_in(2) {
                        fields[input.below(3) as usize] = input.odd(&PLACES);
                    }
                    out.extend(fields[0].to_le_bytes());
                    out.extend((fields[1] as u32).to_le_bytes());
                    out.extend((fields[2] as u32).to_le_bytes());
                }
                // These have no sector; the field has no meaning.
                sector = input.byte().into();
            }
            _ => {}
        }
        if has(Flaw::Sector) {
            sector = input.odd(&[capacity.into(), 1 << 32, 1 << 55, u64::MAX]);
        }
        if has(Flaw::Ragged) {
            let more = 1 + input.below(600);
            if incoming > 0 || input.one_in(2) {
                incoming += more;
            } else {
                out.resize(out.len() + more as usize, 0x5a);
            }
        }
        if has(Flaw::Kind) {
            kind = input.odd(&[16, 1 << 31]) as u32;
        }
        (kind, sector, out, incoming)
    }

    /// Splits `len` bytes into up to `most` buffers, anywhere in RAM.
    fn scatter(&self, input: &mut Input<'_>, len: u32, most: u32, flags: u16) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut left = len;
        while left > 0 {
            let last = parts.len() as u32 + 1 >= most || !input.one_in(3);
            let here = if last { left } else { 1 + input.below(left.min(1024)) };
            let (_, upper) = RAM[1];
            let addr = if input.one_in(2) {
                RAM[1].0 + u64::from(input.below(upper as u32 + 1 - here))
            } else {
                u64::from(input.below(DATA_END - here))
            };
            parts.push(Part { addr, len: here, flags });
            left -= here;
        }
        parts
    }

    fn spoil(&self, input: &mut Input<'_>, flaw: Option<Flaw>, parts: &mut Vec<Part>) {
        let at = input.below(parts.len().max(1) as u32) as usize;
        let other = input.below(parts.len().max(1) as u32) as usize;
        match (flaw, parts.get_mut(at)) {
            (Some(Flaw::Address), Some(part)) => part.addr = input.odd(&PLACES),
            (Some(Flaw::Length), Some(part)) => part.len = input.odd(&PLACES) as u32,
            (Some(Flaw::WriteFlag), Some(part)) => part.flags ^= 2,
            (Some(Flaw::IndirectFlag), Some(part)) => part.flags |= 4,
            (Some(Flaw::Order), Some(_)) => parts.swap(at, other),
            (Some(Flaw::Overlong), Some(part)) => {
                // Longer than any queue, or only than this one; the device accepts the latter.
                let part = Part { len: 0, ..*part };
                let max = usize::from(self.model.machine.queue_max);
                let more =
                    if other.is_multiple_of(2) { max } else { max.saturating_sub(parts.len()) };
                parts.splice(at..at, vec![part; more]);
            }
            _ => {}
        }
    }

    /// Writes the descriptors, into the queue's table and possibly into an indirect one, and adds the chain to the
    /// available ring. None if the table has no room before the next doorbell.
    fn lay_out(
        &mut self,
        input: &mut Input<'_>,
        index: usize,
        flaw: Option<Flaw>,
        parts: &[Part],
    ) -> Option<()> {
        let has = |this| flaw == Some(this);
        let mut ring = self.rings[index]?;
        let size = ring.at.size;
        let negotiated = self.model.features & INDIRECT_DESC != 0 || has(Flaw::IndirectFlag);
        let overlong = has(Flaw::Overlong);
        let indirect = negotiated && (has(Flaw::TableLength) || overlong || input.one_in(2));
        // The number of descriptors before the indirect table.
        let plain =
            if indirect { input.below(parts.len().min(3) as u32) as usize } else { parts.len() };
        let needed = (plain + usize::from(indirect)).min(size.into()) as u16;
        if ring.in_use + needed > size {
            return None;
        }
        let slot = |n: u16| (ring.in_use.wrapping_add(n)).wrapping_mul(ring.step) % size;
        let odd_next = has(Flaw::Next).then(|| (input.below(needed.into()), input.odd(&PLACES)));
        let mut descriptors = Vec::new();
        for (n, part) in (0..).zip(&parts[..plain]) {
            let more = usize::from(n) + 1 < plain || indirect;
            descriptors.push((slot(n), *part, u16::from(more), slot(n + 1)));
        }
        if indirect {
            let table = TABLES + 0x100 * u64::from(input.below(8)) + u64::from(input.below(16));
            let inside = &parts[plain..];
            for (n, part) in (0..).zip(inside) {
                let more = usize::from(n) + 1 < inside.len();
                self.write(table + 16 * u64::from(n), *part, u16::from(more), n + 1);
            }
            let mut len = 16 * inside.len() as u32;
            if has(Flaw::TableLength) {
                len = input.pick(&[0, 1, 15, len.wrapping_sub(16), len + 8, len + 16, u32::MAX], 0);
            }
            let part = Part { addr: table, len, flags: 4 | u16::from(input.one_in(8)) << 1 };
            descriptors.push((slot(plain as u16), part, 0, input.byte().into()));
        }
        for (n, (at, part, more, mut next)) in (0..).zip(descriptors) {
            let mut more = more;
            if let Some((_, odd)) = odd_next.filter(|(which, _)| *which == n) {
                (more, next) = (1, odd as u16);
            }
            self.write(ring.at.desc + 16 * u64::from(at), part, more, next);
        }
        let head = if has(Flaw::Head) { input.odd(&PLACES) as u16 } else { slot(0) };
        let entry = ring.at.avail + 4 + 2 * u64::from(ring.idx % size);
        self.poke(entry, &head.to_le_bytes());
        ring.idx = ring.idx.wrapping_add(if has(Flaw::Ahead) { input.word() as u16 } else { 1 });
        self.poke(ring.at.avail + 2, &ring.idx.to_le_bytes());
        ring.in_use += needed;
        self.rings[index] = Some(ring);
        Some(())
    }

    fn write(&mut self, at: u64, part: Part, more: u16, next: u16) {
        let Part { addr, len, flags } = part;
        let mut bytes = addr.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend((flags | more).to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.poke(at, &bytes);
    }
}
