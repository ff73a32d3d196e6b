//! All devices of the machine: the disks, and a screen with what moves and types on it.

use drivers::virtio::spec::{GPU_DEVICE, INPUT_DEVICE};
use rt::command_line::VirtioSlot;
use rt::{print, println};

use crate::disks::Disks;
use crate::{inputs, pointer, screen};

/// As many as there are interrupt lines, and then some.
const OTHERS_MAX: usize = 32;

/// The virtio devices that are no disks, with their device IDs.
pub(crate) struct Others {
    found: [Option<(VirtioSlot, u32)>; OTHERS_MAX],
    count: usize,
}

impl Others {
    /// None yet.
    pub(crate) const fn new() -> Others {
        Others { found: [None; OTHERS_MAX], count: 0 }
    }

    /// Adds the device of `slot`.
    pub(crate) fn add(&mut self, slot: VirtioSlot, id: u32) {
        if let Some(place) = self.found.get_mut(self.count) {
            *place = Some((slot, id));
            self.count += 1;
        }
    }

    /// Sets up those that have a driver here. `before` is what the console has printed so far, for the screen.
    pub(crate) fn set_up(&self, before: &str) {
        let of = |kind| self.found.iter().flatten().filter(move |(_, id)| *id == kind);
        let mut cursor = None;
        for (slot, _) in of(GPU_DEVICE) {
            cursor = cursor.or(screen::open(*slot, before));
        }
        // The pointer first, then what moves it.
        if let Some(cursor) = cursor.filter(|_| of(INPUT_DEVICE).next().is_some()) {
            pointer::set_up(cursor);
        }
        for (slot, _) in of(INPUT_DEVICE) {
            inputs::open(*slot);
        }
    }
}

/// Prints what there is, a line for each.
pub(crate) fn list(disks: &Disks) {
    disks.list();
    if let Some(screen) = screen::summary() {
        print!("  gpu at {:#x}, interrupt line {}: ", screen.base, screen.line);
        let ((columns, rows), (width, height)) = (screen.cells, screen::size());
        match screen.error {
            None => println!("{width}x{height} pixels, {columns} columns, {rows} rows"),
            Some(error) => println!("{error}"),
        }
    }
    inputs::list();
}
