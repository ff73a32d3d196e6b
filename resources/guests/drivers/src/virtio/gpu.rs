//! A virtio GPU: 2D commands, many at a time.
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

/// Commands under way at most, each with two descriptors.
const COMMANDS: u16 = 32;
/// What follows the header of a command, in words of eight bytes.
const BODY_WORDS: usize = 4;
/// Bytes in each: the longest command's, for a device passes over what it does not need.
const COMMAND_SIZE: usize = HEADER_SIZE + 8 * BODY_WORDS;
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

/// Two fields of a command in a word, the first in its low half.
const fn pair(first: u32, second: u32) -> u64 {
    second as u64 * (1 << 32) + first as u64
}

impl Area {
    const fn words(self) -> [u64; 2] {
        [pair(self.x, self.y), pair(self.width, self.height)]
    }
}

impl Command {
    /// Its type, and what follows the header.
    fn words(&self) -> (u32, [u64; BODY_WORDS]) {
        match *self {
            Command::Create { resource, format, width, height } => {
                let body = [pair(resource, format), pair(width, height), 0, 0];
                (gpu::RESOURCE_CREATE_2D, body)
            }
            Command::Unref(resource) => (gpu::RESOURCE_UNREF, [resource.into(), 0, 0, 0]),
            Command::Attach(resource, backing) => {
                // One stretch of memory.
                let body = [pair(resource, 1), backing.address(), backing.len() as u64, 0];
                (gpu::RESOURCE_ATTACH_BACKING, body)
            }
            Command::Scanout(resource, area) => {
                let [place, size] = area.words();
                (gpu::SET_SCANOUT, [place, size, pair(SCANOUT, resource), 0])
            }
            Command::Transfer(resource, area, offset) => {
                let [place, size] = area.words();
                (gpu::TRANSFER_TO_HOST_2D, [place, size, offset, resource.into()])
            }
            Command::Flush(resource, area) => {
                let [place, size] = area.words();
                (gpu::RESOURCE_FLUSH, [place, size, resource.into(), 0])
            }
        }
    }
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
    /// Commands in the queue that the device does not know of yet.
    pushed: u16,
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
            queue: Queue::new(2 * COMMANDS),
            commands: Dma::new(usize::from(COMMANDS) * COMMAND_SIZE, 8),
            answers: Dma::new(answer_at(COMMANDS), 8),
            pushed: 0,
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
        self.pushed = 0;
        for n in 0..COMMANDS {
            let command = self.commands.part(usize::from(n) * COMMAND_SIZE, COMMAND_SIZE);
            let answer = self.answers.part(answer_at(n), answer_at(n + 1) - answer_at(n));
            let describe = |memory: Dma, flags, next| Descriptor {
                addr: memory.address(),
                len: low_half(memory.len() as u64),
                flags,
                next,
            };
            let (head, next) = (2 * n, 2 * n + 1);
            self.queue.describe(head, describe(command, descriptor::NEXT, next));
            self.queue.describe(next, describe(answer, descriptor::WRITE, 0));
        }
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
        self.put(gpu::GET_DISPLAY_INFO, &[0; BODY_WORDS]);
        self.wait()?;
        self.check(0, gpu::OK_DISPLAY_INFO)?;
        let field = |at| self.answers.read::<u32>(HEADER_SIZE + at);
        let (width, height, enabled) = (field(8), field(12), field(16));
        Ok((enabled != 0 && width != 0 && height != 0).then_some((width, height)))
    }

    /// Runs the commands, and those that were pushed before them, and waits for all of them.
    ///
    /// # Errors
    ///
    /// If the device does not answer, or refuses one; the others may have been done.
    pub fn run(&mut self, commands: &[Command]) -> Result<(), Error> {
        commands.iter().try_for_each(|command| self.push(command))?;
        self.finish()
    }

    /// Adds a command to those that [`Gpu::finish`] waits for; runs them now where they have become too many.
    ///
    /// # Errors
    ///
    /// As for [`Gpu::run`].
    pub fn push(&mut self, command: &Command) -> Result<(), Error> {
        if self.pushed == COMMANDS {
            self.finish()?;
        }
        let (kind, body) = command.words();
        self.put(kind, &body);
        Ok(())
    }

    /// Runs the commands that were pushed, in their order, and waits for all of them.
    ///
    /// # Errors
    ///
    /// As for [`Gpu::run`].
    pub fn finish(&mut self) -> Result<(), Error> {
        let count = self.pushed;
        self.wait()?;
        (0..count).try_for_each(|n| self.check(n, gpu::OK_NODATA))
    }

    /// Writes a command, and puts it into the queue.
    fn put(&mut self, kind: u32, body: &[u64; BODY_WORDS]) {
        let at = usize::from(self.pushed) * COMMAND_SIZE;
        // The rest of the header stays zero: no fence, no context.
        self.commands.write(at, u64::from(kind));
        self.commands.put_rows(at + HEADER_SIZE, 0, [body].into_iter());
        self.queue.put(2 * self.pushed);
        self.pushed += 1;
    }

    /// Has the device do what is in the queue, and waits until it has.
    fn wait(&mut self) -> Result<(), Error> {
        self.pushed = 0;
        if !self.live {
            return Err(Error::Closed);
        }
        let queue = &mut self.queue;
        if queue.publish() {
            spec::QUEUE_NOTIFY.write(self.window, gpu::CONTROL_QUEUE.into());
        }
        if !Wait::Poll.until(DEVICE_LIMIT, || queue.take_all()) {
            // Its memory is the device's until a reset.
            self.live = false;
            let broken = spec::STATUS.read(self.window) & spec::status::NEEDS_RESET != 0;
            return Err(if broken { Error::NeedsReset } else { Error::NoAnswer(DEVICE_LIMIT) });
        }
        Ok(())
    }

    /// Looks at the answer to command `n` of those that were done.
    fn check(&self, n: u16, wanted: u32) -> Result<(), Error> {
        let answer = self.answers.read::<u32>(answer_at(n));
        if answer == wanted {
            return Ok(());
        }
        let command = self.commands.read(usize::from(n) * COMMAND_SIZE);
        Err(Error::Refused { command, answer })
    }
}

/// Where the answer to command `n` is: the first may be the longest.
const fn answer_at(n: u16) -> usize {
    if n == 0 { 0 } else { DISPLAY_INFO_SIZE + (n as usize - 1) * HEADER_SIZE }
}
