//! A virtio GPU: 2D commands, some at a time.
//!
//! A picture on the host, a resource, has memory in the guest, its backing. The driver draws into the backing, has the
//! pixels copied to the host (`Transfer`), and has them shown (`Flush`).

use rt::command_line::VirtioSlot;
use rt::dma::Dma;
use rt::mmio::Mmio;
use rt::wait::{DEVICE_LIMIT, Wait};

use super::cursor::Cursor;
use super::error::Error;
use super::handshake::{self, Kind};
use super::interrupt::{self, Events};
use super::queue::{Descriptor, Queue};
use super::spec::gpu::{self, DISPLAY_INFO_SIZE, HEADER_SIZE};
use super::spec::{self, descriptor, interrupt as cause};
use crate::register::{Story, Talk, low_half};

/// Commands under way at most.
const COMMANDS: usize = 4;
/// Bytes kept for each: no command is longer.
const COMMAND_SIZE: usize = 64;
/// The only display in use.
pub(super) const SCANOUT: u32 = 0;

const GPU: Kind = Kind {
    id: spec::GPU_DEVICE,
    which: "which kind of device? 16 is a GPU",
    features: 0,
    takes: "what it takes of them: nothing, for 2D needs none",
};

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Its left edge.
    pub x: u32,
    /// Its upper edge.
    pub y: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

/// A command whose answer is a yes or no (5.7.6.8). A resource has a number that the driver chooses, not 0.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    /// Make a resource of this size.
    Create {
        /// Its number.
        resource: u32,
        /// How a pixel looks: [`gpu::FORMAT_B8G8R8X8`] or [`gpu::FORMAT_B8G8R8A8`].
        format: u32,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
    },
    /// Drop a resource.
    Unref(u32),
    /// Use this memory as a resource's backing.
    Attach(u32, Dma),
    /// Show this area of a resource on the display.
    Scanout(u32, Area),
    /// Copy this area of a resource from its backing, where it begins at this byte. The rows there are as far apart as
    /// the resource is wide.
    Transfer(u32, Area, u64),
    /// This area of a resource is to be seen now.
    Flush(u32, Area),
}

/// Writes the fields of a command one after another.
struct Fields {
    memory: Dma,
    at: usize,
}

impl Fields {
    fn number(&mut self, value: u32) -> &mut Fields {
        self.memory.write(self.at, value);
        self.at += 4;
        self
    }

    fn long(&mut self, value: u64) -> &mut Fields {
        self.number(low_half(value)).number(low_half(value >> 32))
    }

    fn area(&mut self, area: Area) -> &mut Fields {
        self.number(area.x).number(area.y).number(area.width).number(area.height)
    }
}

impl Command {
    /// Its type.
    fn kind(&self) -> u32 {
        match self {
            Command::Create { .. } => gpu::RESOURCE_CREATE_2D,
            Command::Unref(_) => gpu::RESOURCE_UNREF,
            Command::Attach(..) => gpu::RESOURCE_ATTACH_BACKING,
            Command::Scanout(..) => gpu::SET_SCANOUT,
            Command::Transfer(..) => gpu::TRANSFER_TO_HOST_2D,
            Command::Flush(..) => gpu::RESOURCE_FLUSH,
        }
    }

    /// Writes it into `memory`, and returns how many bytes it has.
    fn write(&self, memory: Dma) -> usize {
        let mut fields = begin(memory, self.kind());
        match *self {
            Command::Create { resource, format, width, height } => {
                fields.number(resource).number(format).number(width).number(height)
            }
            Command::Unref(resource) => fields.number(resource).number(0),
            // One stretch of memory; it has an address, a length and four bytes without meaning.
            Command::Attach(resource, backing) => fields
                .number(resource)
                .number(1)
                .long(backing.address())
                .long(low_half(backing.len() as u64).into()),
            Command::Scanout(resource, area) => fields.area(area).number(SCANOUT).number(resource),
            Command::Transfer(resource, area, offset) => {
                fields.area(area).long(offset).number(resource).number(0)
            }
            Command::Flush(resource, area) => fields.area(area).number(resource).number(0),
        };
        fields.at
    }
}

/// Writes a header: no fence, no context.
fn begin(memory: Dma, kind: u32) -> Fields {
    memory.part(0, HEADER_SIZE).fill(0);
    memory.write(0, kind);
    Fields { memory, at: HEADER_SIZE }
}

/// A virtio GPU behind a virtio-mmio window.
///
/// It polls: a command takes the device a moment, and the next needs the memory of the one before.
#[derive(Debug)]
pub struct Gpu {
    window: Mmio,
    line: u8,
    events: Option<Events>,
    queue: Queue,
    commands: Dma,
    answers: Dma,
    live: bool,
}

impl Gpu {
    /// A driver for the device of `slot`, which is not accessed yet, and one for its pointer. This processor takes its
    /// interrupts. `None` where RAM is in the slot's window.
    pub fn new(slot: VirtioSlot) -> Option<(Gpu, Cursor)> {
        let window = Mmio::outside_ram(slot.base, slot.size)?;
        let gpu = Gpu {
            window,
            line: slot.line,
            events: interrupt::watch(slot.line, window),
            queue: Queue::new((2 * COMMANDS) as u16),
            commands: Dma::new(COMMANDS * COMMAND_SIZE, 8),
            answers: Dma::new(DISPLAY_INFO_SIZE, 8),
            live: false,
        };
        Some((gpu, Cursor::new(window)))
    }

    /// From a reset to a live device.
    ///
    /// # Errors
    ///
    /// If there is no GPU, or it and the driver do not agree. The driver then sets FAILED.
    pub fn handshake(&mut self, cursor: &mut Cursor, story: &mut dyn Story) -> Result<(), Error> {
        self.live = false;
        let mut talk = Talk::new(self.window, story);
        let result = self.agree(cursor, &mut talk);
        match &result {
            Ok(()) => self.live = true,
            Err(error) => handshake::give_up(&mut talk, error),
        }
        result
    }

    fn agree(&mut self, cursor: &mut Cursor, talk: &mut Talk<'_>) -> Result<(), Error> {
        handshake::negotiate(talk, &GPU)?;
        self.queue.clear();
        self.queue.want_interrupts(false);
        let control = u32::from(gpu::CONTROL_QUEUE);
        handshake::set_up_queue(talk, control, "queue 0, a GPU's commands", &self.queue)?;
        cursor.set_up(talk)?;
        handshake::go_live(talk);
        Ok(())
    }

    /// The registers' window.
    pub fn window(&self) -> Mmio {
        self.window
    }

    /// The interrupt line.
    pub fn line(&self) -> u8 {
        self.line
    }

    /// Whether the device has interrupted since the last call because its configuration has changed.
    pub fn has_changed(&self) -> bool {
        self.events.is_some_and(|events| events.take() & cause::CONFIG_CHANGE != 0)
    }

    /// The size of the display, in pixels; `None` where none is on. The device's note that it has changed is taken back
    /// first.
    ///
    /// # Errors
    ///
    /// If the device does not answer, or with something else.
    pub fn display(&mut self) -> Result<Option<(u32, u32)>, Error> {
        gpu::EVENTS_CLEAR.write(self.window, gpu::EVENT_DISPLAY);
        let len = begin(self.commands, gpu::GET_DISPLAY_INFO).at;
        self.answers.fill(0);
        self.give(0, len, self.answers);
        self.finish(1)?;
        match self.answers.read(0) {
            gpu::OK_DISPLAY_INFO => {}
            answer => return Err(Error::Refused { command: gpu::GET_DISPLAY_INFO, answer }),
        }
        let field = |at| self.answers.read::<u32>(HEADER_SIZE + at);
        let (width, height, enabled) = (field(8), field(12), field(16));
        Ok((enabled != 0 && width != 0 && height != 0).then_some((width, height)))
    }

    /// Runs the commands, in their order, and waits for all of them.
    ///
    /// # Errors
    ///
    /// If the device does not answer, or refuses one; the others may have been done.
    pub fn run(&mut self, commands: &[Command]) -> Result<(), Error> {
        for some in commands.chunks(COMMANDS) {
            for (n, command) in some.iter().enumerate() {
                let len = command.write(self.commands.part(n * COMMAND_SIZE, COMMAND_SIZE));
                self.answers.write(n * HEADER_SIZE, 0_u32);
                self.give(n, len, self.answers.part(n * HEADER_SIZE, HEADER_SIZE));
            }
            self.finish(some.len())?;
            for (n, command) in some.iter().enumerate() {
                let answer = self.answers.read(n * HEADER_SIZE);
                if answer != gpu::OK_NODATA {
                    return Err(Error::Refused { command: command.kind(), answer });
                }
            }
        }
        Ok(())
    }

    /// Makes command `n`, of `len` bytes, available, and `answer` with it.
    fn give(&mut self, n: usize, len: usize, answer: Dma) {
        let (head, next) = (2 * n as u16, 2 * n as u16 + 1);
        let command = self.commands.part(n * COMMAND_SIZE, len);
        let describe = |memory: Dma, flags, next| Descriptor {
            addr: memory.address(),
            len: low_half(memory.len() as u64),
            flags,
            next,
        };
        self.queue.describe(head, describe(command, descriptor::NEXT, next));
        self.queue.describe(next, describe(answer, descriptor::WRITE, 0));
        self.queue.give(head);
    }

    /// Notifies the device of what was given, and waits until it has done `count` commands.
    fn finish(&mut self, count: usize) -> Result<(), Error> {
        if !self.live {
            return Err(Error::Closed);
        }
        if self.queue.wants_notification() {
            spec::QUEUE_NOTIFY.write(self.window, gpu::CONTROL_QUEUE.into());
        }
        for _ in 0..count {
            let queue = &self.queue;
            if !queue.has_used() && !Wait::Poll.until(DEVICE_LIMIT, || queue.has_used()) {
                // Its memory is the device's until a reset.
                self.live = false;
                let bits = spec::STATUS.read(self.window);
                let broken = bits & spec::status::NEEDS_RESET != 0;
                return Err(if broken { Error::NeedsReset } else { Error::NoAnswer(DEVICE_LIMIT) });
            }
            self.queue.take();
        }
        Ok(())
    }
}
