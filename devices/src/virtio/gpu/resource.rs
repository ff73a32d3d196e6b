//! The resources that the driver creates: pictures in the host's memory, and the guest RAM that they are filled from.

use std::collections::HashMap;

use super::error::GpuError;
use super::format::Format;
use crate::display::{Rect, SIDE_MAX};
use crate::memory::{GuestRam, Scattered};
use crate::virtio::spec::gpu::{MEM_ENTRY_SIZE, PIXEL_SIZE};

/// The most resources.
const RESOURCES_MAX: usize = 4096;
/// The most entries of one backing: 256 MiB in pages.
pub(super) const ENTRIES_MAX: u32 = 1 << 16;
/// The most entries of all backings, in ranges that do not continue each other.
const ALL_ENTRIES_MAX: usize = 1 << 18;

/// A picture.
#[derive(Debug)]
pub(super) struct Resource {
    format: Format,
    width: u32,
    height: u32,
    /// Rows of pixels, as the driver has written them.
    bytes: Vec<u8>,
    /// The guest RAM that transfers read.
    backing: Option<Scattered>,
}

impl Resource {
    /// The bytes of a row.
    fn stride(&self) -> u64 {
        u64::from(self.width) * u64::from(PIXEL_SIZE)
    }

    /// The picture's width and height.
    pub(super) const fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The format of the pixels.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Checks that a rectangle is within the picture.
    pub(super) fn check(&self, rect: Rect) -> Result<(), GpuError> {
        let (width, height) = self.size();
        let fits = |at: u32, len: u32, most: u32| u64::from(at) + u64::from(len) <= most.into();
        if fits(rect.x, rect.width, width) && fits(rect.y, rect.height, height) {
            Ok(())
        } else {
            Err(GpuError::Outside { rect, width, height })
        }
    }

    /// The bytes of `width` pixels from `x` on in row `y`. Fewer, or none, outside the picture.
    pub(super) fn row(&self, x: u32, y: u32, width: u32) -> &[u8] {
        self.bytes.get(self.span(x, y, width)).unwrap_or_default()
    }

    /// The place of pixels in `bytes`; empty outside the picture.
    fn span(&self, x: u32, y: u32, width: u32) -> std::ops::Range<usize> {
        let row = Rect { x, y, width, height: 1 }.within(self.width, self.height);
        if row.is_empty() {
            return 0..0;
        }
        // Below 2^28.
        let at = |x: u32| 4 * (row.y as usize * self.width as usize + x as usize);
        at(row.x)..at(row.x + row.width)
    }

    /// Copies a rectangle from the backing. `offset` is that of its first pixel in the backing, in bytes; the rows are
    /// as far apart as in the picture. Returns the bytes copied.
    pub(super) fn transfer(&mut self, rect: Rect, offset: u64, id: u32) -> Result<u64, GpuError> {
        self.check(rect)?;
        let backing = self.backing.as_ref().ok_or(GpuError::NoBacking(id))?;
        if rect.is_empty() {
            return Ok(0);
        }
        let (stride, row) = (self.stride(), u64::from(rect.width) * u64::from(PIXEL_SIZE));
        let end = (u64::from(rect.height) - 1)
            .checked_mul(stride)
            .and_then(|rows| rows.checked_add(row)?.checked_add(offset));
        let len = backing.len();
        let end = end.filter(|end| *end <= len);
        if end.is_none() {
            let end = offset.saturating_add(u64::from(rect.height).saturating_mul(stride));
            return Err(GpuError::BackingTooShort { end, len });
        }
        // Whole rows follow each other.
        let (rows, height) = if row == stride { (1, rect.height) } else { (rect.height, 1) };
        for n in 0..rows {
            let span = self.span(rect.x, rect.y + n, rect.width);
            let span = span.start..span.start + span.len() * height as usize;
            let to = self.bytes.get_mut(span).unwrap_or_default();
            backing.read_at(offset + u64::from(n) * stride, to);
        }
        Ok(row * u64::from(rect.height))
    }
}

/// All resources, within their limits.
#[derive(Debug)]
pub(super) struct Resources {
    all: HashMap<u32, Resource>,
    /// The bytes of all pictures.
    memory: u64,
    /// The most bytes of all pictures.
    memory_max: u64,
    /// The entries of all backings.
    entries: usize,
}

impl Resources {
    /// Without resources, for pictures of at most `memory_max` bytes in all.
    pub(super) fn new(memory_max: u64) -> Self {
        Self { all: HashMap::new(), memory: 0, memory_max, entries: 0 }
    }

    /// Creates a black, transparent picture. Returns its bytes.
    pub(super) fn create(
        &mut self,
        id: u32,
        format: u32,
        width: u32,
        height: u32,
    ) -> Result<u64, GpuError> {
        if id == 0 {
            return Err(GpuError::ResourceZero);
        }
        if self.all.contains_key(&id) {
            return Err(GpuError::ResourceExists(id));
        }
        let format = Format::numbered(format).ok_or(GpuError::Format(format))?;
        let sides = 1..=SIDE_MAX;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(GpuError::ResourceSize { width, height });
        }
        if self.all.len() >= RESOURCES_MAX {
            return Err(GpuError::Resources(RESOURCES_MAX));
        }
        // At most 2^28.
        let len = u64::from(width) * u64::from(height) * u64::from(PIXEL_SIZE);
        let memory = self.memory.saturating_add(len);
        if memory > self.memory_max {
            return Err(GpuError::Memory { bytes: memory, most: self.memory_max });
        }
        let mut bytes = Vec::new();
        let count = usize::try_from(len).map_err(|_| GpuError::HostMemory(len))?;
        bytes.try_reserve_exact(count).map_err(|_| GpuError::HostMemory(len))?;
        bytes.resize(count, 0);
        self.all.insert(id, Resource { format, width, height, bytes, backing: None });
        self.memory = memory;
        Ok(len)
    }

    /// Removes a resource.
    pub(super) fn remove(&mut self, id: u32) -> Result<(), GpuError> {
        let resource = self.all.remove(&id).ok_or(GpuError::NoResource(id))?;
        self.memory -= resource.bytes.len() as u64;
        self.entries -= resource.backing.map_or(0, |backing| backing.ranges());
        Ok(())
    }

    /// A resource.
    pub(super) fn get(&self, id: u32) -> Result<&Resource, GpuError> {
        self.all.get(&id).ok_or(GpuError::NoResource(id))
    }

    /// A resource.
    pub(super) fn get_mut(&mut self, id: u32) -> Result<&mut Resource, GpuError> {
        self.all.get_mut(&id).ok_or(GpuError::NoResource(id))
    }

    /// Checks that a resource can get a backing of `entries` entries, before they are read.
    pub(super) fn check_backing(&self, id: u32, entries: u32) -> Result<(), GpuError> {
        if self.get(id)?.backing.is_some() {
            return Err(GpuError::BackingExists(id));
        }
        if entries > ENTRIES_MAX {
            return Err(GpuError::Entries { entries: entries.into(), most: ENTRIES_MAX.into() });
        }
        Ok(())
    }

    /// Gives a resource its backing: `entries` is a list of [`MEM_ENTRY_SIZE`] bytes each.
    pub(super) fn attach(
        &mut self,
        id: u32,
        entries: &[u8],
        ram: &GuestRam,
    ) -> Result<(), GpuError> {
        let mut backing = Scattered::new(ram.clone());
        for entry in entries.as_chunks::<MEM_ENTRY_SIZE>().0 {
            let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *entry;
            let addr = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let len = u32::from_le_bytes([i, j, k, l]);
            backing.push(addr, len.into()).map_err(GpuError::BackingNotInRam)?;
        }
        let all = self.entries + backing.ranges();
        if all > ALL_ENTRIES_MAX {
            return Err(GpuError::Entries { entries: all as u64, most: ALL_ENTRIES_MAX as u64 });
        }
        self.get_mut(id)?.backing = Some(backing);
        self.entries = all;
        Ok(())
    }

    /// Takes a resource's backing away.
    pub(super) fn detach(&mut self, id: u32) -> Result<(), GpuError> {
        let backing = self.get_mut(id)?.backing.take().ok_or(GpuError::NoBacking(id))?;
        self.entries -= backing.ranges();
        Ok(())
    }
}
