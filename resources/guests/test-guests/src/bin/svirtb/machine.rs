//! A svirtb driver for any sequence, right or wrong.

use drivers::svirtb::{
    DRIVER_OK, Entry, MAGIC, QUEUE_ADDR_HI, QUEUE_ADDR_LO, QUEUE_HEAD, QUEUE_SIZE, QUEUE_TAIL,
    READ, READY, RESET, Ring, STATUS, Stride, WRITE, window,
};
use rt::boot_info;
use rt::dma::Dma;
use scenario::{Outcome, ensure_eq};

/// The byte that buffers hold before a read.
pub(crate) const BLANK: u8 = 0xee;
/// Bytes in a sector.
pub(crate) const SECTOR: usize = 512;

pub(crate) fn status() -> u32 {
    STATUS.read(window())
}

pub(crate) fn set_status(value: u32) {
    STATUS.write(window(), value);
}

pub(crate) fn head() -> u32 {
    QUEUE_HEAD.read(window())
}

pub(crate) fn tail() -> u32 {
    QUEUE_TAIL.read(window())
}

/// The doorbell.
pub(crate) fn ring_doorbell(head: u32) {
    QUEUE_HEAD.write(window(), head);
}

/// Fresh, whatever was before.
pub(crate) fn reset() -> Outcome {
    set_status(RESET);
    ensure_eq!(status(), MAGIC, "status after RESET was written");
    Ok(())
}

/// Says where a ring is, in the state that is for this.
pub(crate) fn describe(address: u64, entries: u32) {
    QUEUE_ADDR_HI.write(window(), (address >> 32) as u32);
    QUEUE_ADDR_LO.write(window(), (address & 0xffff_ffff) as u32);
    QUEUE_SIZE.write(window(), entries);
}

/// Fresh, then live with `ring`.
pub(crate) fn open(ring: Ring) -> Outcome {
    reset()?;
    set_status(DRIVER_OK);
    ensure_eq!(status(), DRIVER_OK, "status after DRIVER_OK was written");
    describe(ring.address(), ring.entries());
    set_status(READY);
    ensure_eq!(status(), READY, "status after READY was written");
    ensure_eq!(head(), 0, "queue_head after READY");
    ensure_eq!(tail(), 0, "queue_tail after READY");
    Ok(())
}

/// Rings the doorbell, which must succeed.
pub(crate) fn submit(head: u32) -> Outcome {
    ring_doorbell(head);
    ensure_eq!(tail(), head, "queue_tail after the doorbell");
    ensure_eq!(status(), READY, "status after the doorbell");
    Ok(())
}

/// Rings the doorbell, which is to stop the device at `bad`.
pub(crate) fn submit_bad(head: u32, bad: u32) -> Outcome {
    ring_doorbell(head);
    ensure_eq!(status(), RESET, "status after a bad entry");
    ensure_eq!(tail(), bad, "queue_tail after a bad entry");
    Ok(())
}

/// An entry that reads `buffer.len()` bytes from `sector` on.
pub(crate) fn read(sector: u64, buffer: Dma) -> Entry {
    Entry { addr: buffer.address(), size: buffer.len() as u64, sector, cmd: READ }
}

/// An entry that writes `buffer.len()` bytes from `sector` on.
pub(crate) fn write(sector: u64, buffer: Dma) -> Entry {
    Entry { addr: buffer.address(), size: buffer.len() as u64, sector, cmd: WRITE }
}

/// A ring of 16 entries of 28 bytes, in memory for as many of 32.
pub(crate) fn new_ring() -> Ring {
    Ring::new(16, Stride::Padded).reshaped(16, Stride::Packed)
}

/// The first address above the RAM that lies below 4 GiB.
pub(crate) fn end_of_ram() -> u64 {
    const RAM: u32 = 1;
    let map = boot_info::get().memory_map().iter();
    map.filter(|region| region.kind == RAM && region.address < 1 << 32)
        .map(|region| region.address + region.size)
        .max()
        .unwrap_or(0)
}
