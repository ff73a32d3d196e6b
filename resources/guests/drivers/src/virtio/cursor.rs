//! The pointer on a GPU's screen, which has a queue of its own (5.7.6.10). No answer comes.

use rt::dma::Dma;
use rt::mmio::Mmio;

use super::error::Error;
use super::gpu::SCANOUT;
use super::handshake;
use super::queue::{Descriptor, Queue};
use super::spec::{self, gpu};
use crate::register::{Talk, low_half};

/// The width and height of a pointer's picture.
pub const SIDE: u32 = 64;
/// Commands under way at most.
const COMMANDS: u16 = 16;
/// Bytes in a command: header, place, resource, the point that points, padding.
const COMMAND_SIZE: usize = gpu::HEADER_SIZE + 32;

/// The pointer of a GPU.
#[derive(Debug)]
pub struct Cursor {
    window: Mmio,
    queue: Queue,
    commands: Dma,
}

impl Cursor {
    pub(super) fn new(window: Mmio) -> Cursor {
        Cursor {
            window,
            queue: Queue::new(COMMANDS),
            commands: Dma::new(usize::from(COMMANDS) * COMMAND_SIZE, 8),
        }
    }

    pub(super) fn set_up(&mut self, talk: &mut Talk<'_>) -> Result<(), Error> {
        self.queue.clear();
        self.queue.want_interrupts(false);
        let index = u32::from(gpu::CURSOR_QUEUE);
        handshake::set_up_queue(talk, index, "queue 1, the pointer's commands", &self.queue)
    }

    /// Gives the pointer the picture of `resource`, [`SIDE`] pixels wide and high, whose upper left pixel points; and
    /// moves it there. False where the device is too far behind to be told.
    pub fn show(&mut self, resource: u32, x: u32, y: u32) -> bool {
        self.send(gpu::UPDATE_CURSOR, resource, x, y)
    }

    /// Moves it. `resource` is its picture: with 0 some devices hide it.
    pub fn move_to(&mut self, resource: u32, x: u32, y: u32) -> bool {
        self.send(gpu::MOVE_CURSOR, resource, x, y)
    }

    fn send(&mut self, kind: u32, resource: u32, x: u32, y: u32) -> bool {
        while self.queue.take().is_some() {}
        let Some(entry) = self.queue.next_entry() else { return false };
        let command = self.commands.part(usize::from(entry) * COMMAND_SIZE, COMMAND_SIZE);
        command.fill(0);
        command.write(0, kind);
        for (at, value) in (gpu::HEADER_SIZE..).step_by(4).zip([SCANOUT, x, y, 0, resource]) {
            command.write(at, value);
        }
        let (addr, len) = (command.address(), low_half(command.len() as u64));
        self.queue.describe(entry, Descriptor { addr, len, flags: 0, next: 0 });
        if self.queue.give(entry) {
            spec::QUEUE_NOTIFY.write(self.window, gpu::CURSOR_QUEUE.into());
        }
        true
    }
}
