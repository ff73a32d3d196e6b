//! What a chain means, as the specification has it (virtio 1.4, 2.7.5, 5.2.6): the slow and obvious way. The bytes
//! of a buffer are a list of addresses, one for each.

use super::memory::Memory;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// The ring cannot be understood, or there is no place for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// What the chain asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestKind {
    Read {
        sector: u64,
        into: Vec<u64>,
    },
    Write {
        sector: u64,
        from: Vec<u64>,
    },
    Flush,
    GetId {
        into: Vec<u64>,
    },
    /// (sector, sectors) each.
    Discard(Vec<(u64, u64)>),
    Zero(Vec<(u64, u64)>),
    /// Nothing that can be done: the status byte it is answered with.
    Refused(u8),
}

const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// A buffer of the chain: (address, bytes, whether the device writes it).
type Buffer = (u64, u64, bool);

/// The buffers of the chain at `head` of a table of `size` entries at `table`; through a table of its own it may have
/// `longest`.
pub(super) fn buffers(
    memory: &mut Memory,
    table: u64,
    size: u16,
    longest: u16,
    head: u16,
    indirect: bool,
) -> Result<Vec<Buffer>, Broken> {
    let (mut table, mut entries, mut index) = (table, u64::from(size), u64::from(head));
    let mut inside = false;
    let mut found = Vec::new();
    loop {
        let most = usize::from(if inside { longest } else { size });
        if index >= entries || found.len() > most {
            return Err(Broken);
        }
        let at = table + 16 * index;
        let (addr, len) = (memory.number(at, 8), memory.number(at + 8, 4));
        let (flags, next) = (memory.u16(at + 12), memory.u16(at + 14));
        if flags & INDIRECT != 0 {
            let is_table = len > 0 && len.is_multiple_of(16) && memory.has(addr, len);
            if inside || !indirect || flags & NEXT != 0 || !is_table {
                return Err(Broken);
            }
            (table, entries, index, inside) = (addr, len / 16, 0, true);
            continue;
        }
        found.push((addr, len, flags & WRITE != 0));
        if flags & NEXT == 0 {
            return if found.len() > most { Err(Broken) } else { Ok(found) };
        }
        index = next.into();
    }
}

/// Where the status byte goes, and what is asked for.
pub(super) fn parse(memory: &mut Memory, chain: &[Buffer]) -> Result<(u64, RequestKind), Broken> {
    let last = chain.iter().rfind(|(_, len, write)| *write && *len > 0).ok_or(Broken)?;
    let status = last.0.checked_add(last.1 - 1).ok_or(Broken)?;
    if !memory.has(status, 1) {
        return Err(Broken);
    }
    let mut sides = [Vec::new(), Vec::new()];
    for &(addr, len, write) in chain {
        let misplaced = !write && !sides[1].is_empty();
        if misplaced || !memory.has(addr, len) {
            return Ok((status, RequestKind::Refused(IOERR)));
        }
        sides[usize::from(write)].extend((0..len).map(|n| addr + n));
    }
    let [from, mut into] = sides;
    into.pop();
    Ok((status, ask(memory, &from, into)))
}

fn ask(memory: &mut Memory, from: &[u64], into: Vec<u64>) -> RequestKind {
    if from.len() < 16 {
        return RequestKind::Refused(IOERR);
    }
    let (header, data) = from.split_at(16);
    let header = fetch(memory, header);
    let (kind, sector) = (number(&header[..4]), number(&header[8..]));
    let whole = |bytes: &[u64]| bytes.len().is_multiple_of(512);
    match kind {
        0 if data.is_empty() && whole(&into) => RequestKind::Read { sector, into },
        1 if into.is_empty() && whole(data) => RequestKind::Write { sector, from: data.to_vec() },
        0 | 1 => RequestKind::Refused(IOERR),
        4 => RequestKind::Flush,
        8 => RequestKind::GetId { into },
        11 => ranges(&fetch(memory, data), 32, 1 << 22, 0)
            .map_or_else(RequestKind::Refused, RequestKind::Discard),
        13 => ranges(&fetch(memory, data), 4, 1 << 16, 1)
            .map_or_else(RequestKind::Refused, RequestKind::Zero),
        _ => RequestKind::Refused(UNSUPP),
    }
}

fn ranges(bytes: &[u8], most: usize, longest: u64, allowed: u64) -> Result<Vec<(u64, u64)>, u8> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(16) || bytes.len() > most * 16 {
        return Err(IOERR);
    }
    let mut ranges = Vec::new();
    for range in bytes.chunks(16) {
        if number(&range[12..]) & !allowed != 0 {
            return Err(UNSUPP);
        }
        if number(&range[8..12]) > longest {
            return Err(IOERR);
        }
        ranges.push((number(&range[..8]), number(&range[8..12])));
    }
    Ok(ranges)
}

/// The bytes at these addresses, which are RAM.
pub(super) fn fetch(memory: &mut Memory, addrs: &[u64]) -> Vec<u8> {
    addrs.iter().map(|addr| memory.number(*addr, 1) as u8).collect()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
