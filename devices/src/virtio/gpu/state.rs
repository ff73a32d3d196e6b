//! Carries out commands: resources, the scanout, the cursor.

use std::sync::Arc;

use super::command::{ATTACH_SIZE, Command, CursorAt};
use super::edid::edid;
use super::error::GpuError;
use super::resource::Resources;
use crate::display::{CursorImage, Rect, Screen};
use crate::memory::{GuestRam, Ranges};
use crate::virtio::spec::gpu::{
    DISPLAY_ONE_SIZE, EDID_MAX, MAX_SCANOUTS, MEM_ENTRY_SIZE, PIXEL_SIZE, RESP_OK_DISPLAY_INFO,
    RESP_OK_EDID, RESP_OK_NODATA,
};

/// The answer to a command that succeeded.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The type of the response.
    pub(super) kind: u32,
    /// What follows the header.
    pub(super) data: Vec<u8>,
    /// The bytes moved, or more for other work.
    pub(super) work: u64,
}

impl Reply {
    const fn done(work: u64) -> Self {
        Self { kind: RESP_OK_NODATA, data: Vec::new(), work }
    }
}

/// What the driver has set up.
#[derive(Debug)]
pub(super) struct State {
    resources: Resources,
    scanout: Option<Scanout>,
    screen: Screen,
}

/// The part of a resource that is shown. It is within the resource.
#[derive(Debug, Clone, Copy)]
struct Scanout {
    id: u32,
    rect: Rect,
}

impl State {
    /// Nothing is set up, and the screen is black.
    pub(super) fn new(screen: Screen, memory_max: u64, size: (u32, u32)) -> Self {
        screen.set_size(size.0, size.1);
        Self { resources: Resources::new(memory_max), scanout: None, screen }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self, memory_max: u64, size: (u32, u32)) {
        let Self { resources, scanout, screen } = self;
        (*resources, *scanout) = (Resources::new(memory_max), None);
        screen.set_size(size.0, size.1);
        screen.set_cursor(None);
        screen.move_cursor(0, 0);
    }

    /// The display has another size. While nothing is shown, the screen has it, too.
    pub(super) fn display_changed(&self, (width, height): (u32, u32)) {
        if self.scanout.is_none() {
            self.screen.set_size(width, height);
        }
    }

    /// Carries out a command. `request` is the driver's buffers with it, `size` that of the display.
    ///
    /// # Errors
    ///
    /// If the command makes no sense; nothing has changed then.
    pub(super) fn carry_out(
        &mut self,
        command: Command,
        request: &Ranges,
        ram: &GuestRam,
        size: (u32, u32),
    ) -> Result<Reply, GpuError> {
        Ok(match command {
            Command::GetDisplayInfo => display_info(size),
            Command::GetEdid { scanout } => {
                check_scanout(scanout)?;
                edid_of(size)
            }
            Command::Create { id, format, width, height } => {
                Reply::done(self.resources.create(id, format, width, height)?)
            }
            Command::Unref { id } => {
                self.resources.remove(id)?;
                let was_shown = self.scanout.is_some_and(|scanout| scanout.id == id);
                if was_shown { self.show_nothing(size) } else { Reply::done(0) }
            }
            Command::SetScanout { scanout, id: 0, .. } => {
                check_scanout(scanout)?;
                self.show_nothing(size)
            }
            Command::SetScanout { rect, scanout, id } => {
                check_scanout(scanout)?;
                self.set_scanout(Scanout { id, rect })?
            }
            Command::Flush { rect, id } => {
                self.resources.get(id)?.check(rect)?;
                self.flush(rect, id)?
            }
            Command::Transfer { rect, offset, id } => {
                Reply::done(self.resources.get_mut(id)?.transfer(rect, offset, id)?)
            }
            Command::AttachBacking { id, entries } => {
                self.resources.check_backing(id, entries)?;
                let bytes = entries_of(command, entries, request, ram)?;
                self.resources.attach(id, &bytes, ram)?;
                Reply::done(2 * bytes.len() as u64)
            }
            Command::DetachBacking { id } => {
                self.resources.detach(id)?;
                Reply::done(0)
            }
            Command::UpdateCursor { at, id, hot_x, hot_y } => {
                check_scanout(at.scanout)?;
                let image = if id == 0 { None } else { Some(self.cursor(id, hot_x, hot_y)?) };
                self.screen.set_cursor(image.map(Arc::new));
                self.move_cursor(at)?
            }
            Command::MoveCursor { at } => self.move_cursor(at)?,
        })
    }

    /// Shows a part of a resource, with what is in it now.
    fn set_scanout(&mut self, scanout: Scanout) -> Result<Reply, GpuError> {
        let Scanout { id, rect } = scanout;
        self.resources.get(id)?.check(rect)?;
        if rect.is_empty() {
            return Err(GpuError::EmptyScanout(rect));
        }
        self.scanout = Some(scanout);
        // A page flip keeps the size: no viewer sees a black picture in between.
        if self.screen.look(|picture, _| (picture.width(), picture.height()))
            != (rect.width, rect.height)
        {
            self.screen.set_size(rect.width, rect.height);
        }
        self.flush(rect, id)
    }

    fn show_nothing(&mut self, (width, height): (u32, u32)) -> Reply {
        self.scanout = None;
        self.screen.set_size(width, height);
        Reply::done(pixels(width, height))
    }

    /// Draws the part of a rectangle of a resource that is shown.
    fn flush(&self, rect: Rect, id: u32) -> Result<Reply, GpuError> {
        let resource = self.resources.get(id)?;
        let Some(Scanout { rect: shown, .. }) = self.scanout.filter(|scanout| scanout.id == id)
        else {
            return Ok(Reply::done(0));
        };
        let part = intersection(rect, shown);
        let on_screen = Rect { x: part.x - shown.x, y: part.y - shown.y, ..part };
        let format = resource.format();
        self.screen.draw(on_screen, |n, pixels| {
            format.to_rgb(resource.row(part.x, part.y + n, part.width), pixels);
        });
        Ok(Reply::done(pixels(part.width, part.height)))
    }

    /// The picture of the cursor in a resource.
    fn cursor(&self, id: u32, hot_x: u32, hot_y: u32) -> Result<CursorImage, GpuError> {
        const SIDE: u32 = CursorImage::SIDE;
        let resource = self.resources.get(id)?;
        let (width, height) = resource.size();
        if (width, height) != (SIDE, SIDE) {
            return Err(GpuError::CursorSize { id, width, height });
        }
        let mut pixels = vec![0; (SIDE * SIDE) as usize];
        for (y, row) in (0..SIDE).zip(pixels.chunks_exact_mut(SIDE as usize)) {
            resource.format().to_argb(resource.row(0, y, SIDE), row);
        }
        Ok(CursorImage { pixels, hot_x: hot_x.min(SIDE - 1), hot_y: hot_y.min(SIDE - 1) })
    }

    fn move_cursor(&self, CursorAt { scanout, x, y }: CursorAt) -> Result<Reply, GpuError> {
        check_scanout(scanout)?;
        self.screen.move_cursor(x, y);
        Ok(Reply::done(0))
    }
}

const fn check_scanout(scanout: u32) -> Result<(), GpuError> {
    if scanout == 0 { Ok(()) } else { Err(GpuError::NoScanout(scanout)) }
}

/// The bytes of so many pixels.
fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height) * u64::from(PIXEL_SIZE)
}

/// The part that is in both. Both are within a picture, so no sum exceeds 32 bits.
fn intersection(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.max(b.x), a.y.max(b.y));
    let right = (a.x + a.width).min(b.x + b.width);
    let bottom = (a.y + a.height).min(b.y + b.height);
    if right <= x || bottom <= y {
        return Rect { x: b.x, y: b.y, width: 0, height: 0 };
    }
    Rect { x, y, width: right - x, height: bottom - y }
}

/// The response to GET_DISPLAY_INFO (5.7.6.8).
fn display_info((width, height): (u32, u32)) -> Reply {
    // The rectangle, whether it is enabled, flags.
    let first = [0, 0, width, height, 1, 0].map(u32::to_le_bytes).concat();
    let mut data = first;
    data.resize(MAX_SCANOUTS * DISPLAY_ONE_SIZE, 0);
    Reply { kind: RESP_OK_DISPLAY_INFO, data, work: 0 }
}

/// The response to GET_EDID.
fn edid_of((width, height): (u32, u32)) -> Reply {
    let edid = edid(width, height);
    let size = u32::try_from(edid.len()).unwrap_or(0);
    // The size, and padding.
    let mut data = [size, 0].map(u32::to_le_bytes).concat();
    let len = data.len() + EDID_MAX;
    data.extend(edid);
    data.resize(len, 0);
    Reply { kind: RESP_OK_EDID, data, work: 0 }
}

/// The entries of RESOURCE_ATTACH_BACKING. Their number was checked.
fn entries_of(
    command: Command,
    entries: u32,
    request: &Ranges,
    ram: &GuestRam,
) -> Result<Vec<u8>, GpuError> {
    let size = u64::from(entries) * MEM_ENTRY_SIZE as u64;
    let (len, needed) = (request.len(), ATTACH_SIZE + size);
    if len < needed {
        return Err(GpuError::TooShort { name: command.name(), len, needed });
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    request.part(ATTACH_SIZE, size).in_ram(ram.clone()).copy_to(&mut bytes);
    Ok(bytes)
}
