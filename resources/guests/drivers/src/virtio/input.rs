//! A virtio input device: a keyboard, a mouse or a tablet. Its events are those of Linux's input layer.

use rt::command_line::VirtioSlot;
use rt::dma::Dma;
use rt::mmio::Mmio;
use rt::text::Text;

use super::error::Error;
use super::handshake;
use super::queue::{Descriptor, Queue};
use super::spec::input::{self, EVENT_SIZE};
use super::spec::{self, descriptor};
use crate::register::{Story, Talk};

/// Buffers for events: what comes while all are full is lost.
const EVENTS: u16 = 64;
/// Entries in the queue to the device.
const STATUS: u16 = 4;

const INPUT: handshake::Kind = handshake::Kind {
    id: spec::INPUT_DEVICE,
    which: "which kind of device? 18 is an input device",
    features: 0,
    takes: "what it takes of them: nothing, for there are none",
};

/// What an input device is, by the events that it can send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It has keys only.
    #[default]
    Keyboard,
    /// It tells how far it has moved.
    Mouse,
    /// It tells where it is.
    Tablet,
}

/// One thing that has happened (5.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type, such as [`input::EV_KEY`].
    pub kind: u16,
    /// Which key, axis or light.
    pub code: u16,
    /// Its state, or how far it has moved: then a signed number.
    pub value: u32,
}

/// The values of an axis, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// The least: left, or the top.
    pub min: u32,
    /// The most.
    pub max: u32,
}

/// A virtio input device behind a virtio-mmio window.
#[derive(Debug)]
pub struct Input {
    window: Mmio,
    line: u8,
    events: Queue,
    buffers: Dma,
    status: Queue,
    light: Dma,
    kind: Kind,
    axes: [Axis; 2],
    received: u32,
}

impl Input {
    /// A driver for the device of `slot`, which is not accessed yet. `None` where RAM is in the slot's window.
    pub fn new(slot: VirtioSlot) -> Option<Input> {
        Some(Input {
            window: Mmio::outside_ram(slot.base, slot.size)?,
            line: slot.line,
            events: Queue::new(EVENTS),
            buffers: Dma::new(usize::from(EVENTS) * EVENT_SIZE, 8),
            status: Queue::new(STATUS),
            light: Dma::new(usize::from(STATUS) * EVENT_SIZE, 8),
            kind: Kind::Keyboard,
            axes: [Axis::default(); 2],
            received: 0,
        })
    }

    /// From a reset to a live device that may send events.
    ///
    /// # Errors
    ///
    /// If there is no input device, or it and the driver do not agree. The driver then sets FAILED.
    pub fn handshake(&mut self, story: &mut dyn Story) -> Result<(), Error> {
        let mut talk = Talk::new(self.window, story);
        let result = self.agree(&mut talk);
        if let Err(error) = &result {
            handshake::give_up(&mut talk, error);
        }
        result
    }

    fn agree(&mut self, talk: &mut Talk<'_>) -> Result<(), Error> {
        handshake::negotiate(talk, &INPUT)?;
        self.events.clear();
        for n in 0..EVENTS {
            let buffer = self.buffers.part(usize::from(n) * EVENT_SIZE, EVENT_SIZE);
            let (addr, len) = (buffer.address(), EVENT_SIZE as u32);
            self.events.describe(n, Descriptor { addr, len, flags: descriptor::WRITE, next: 0 });
            self.events.give(n);
        }
        self.status.clear();
        self.status.want_interrupts(false);
        let (events, status) = (input::EVENT_QUEUE.into(), input::STATUS_QUEUE.into());
        handshake::set_up_queue(talk, events, "queue 0, an input device's events", &self.events)?;
        handshake::set_up_queue(talk, status, "queue 1, for its lights", &self.status)?;
        self.kind = self.ask_kind();
        if self.kind == Kind::Tablet {
            self.axes = [input::AXIS_X, input::AXIS_Y].map(|axis| self.ask_range(axis));
        }
        handshake::go_live(talk);
        // There are buffers.
        talk.write(spec::QUEUE_NOTIFY, events, "there are buffers for events");
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

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The ranges of a tablet's axes, from left to right and from the top down.
    pub fn axes(&self) -> [Axis; 2] {
        self.axes
    }

    /// Events received since the driver was made.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Its name.
    pub fn name(&self) -> Text<{ input::DATA_MAX }> {
        let len = self.select(input::ID_NAME, 0);
        let mut bytes = [0; input::DATA_MAX];
        for (at, byte) in (input::DATA.offset..).zip(&mut bytes[..len]) {
            *byte = self.window.read8(at);
        }
        // Some devices count a zero at its end.
        let name = bytes[..len].strip_suffix(&[0]).unwrap_or(&bytes[..len]);
        Text::format(format_args!("{}", name.escape_ascii()))
    }

    /// Acknowledges its interrupt, and gives each new event to `take`.
    pub fn receive(&mut self, mut take: impl FnMut(&mut Input, Event)) {
        // Acknowledged first: what the device does from here on interrupts anew (4.2.3.4).
        let causes = spec::INTERRUPT_STATUS.read(self.window);
        spec::INTERRUPT_ACK.write(self.window, causes);
        let mut notify = false;
        while let Some(used) = self.events.take() {
            let Some(head) = u16::try_from(used.id).ok().filter(|id| *id < EVENTS) else {
                continue;
            };
            let at = usize::from(head) * EVENT_SIZE;
            let event = Event {
                kind: self.buffers.read(at),
                code: self.buffers.read(at + 2),
                value: self.buffers.read(at + 4),
            };
            notify |= self.events.give(head);
            self.received = self.received.wrapping_add(1);
            if used.len as usize == EVENT_SIZE {
                take(self, event);
            }
        }
        if notify {
            spec::QUEUE_NOTIFY.write(self.window, input::EVENT_QUEUE.into());
        }
    }

    /// Switches a light on or off. A device that is far behind is not told.
    pub fn light(&mut self, code: u16, on: bool) {
        while self.status.take().is_some() {}
        let Some(entry) = self.status.next_entry() else { return };
        let event = self.light.part(usize::from(entry) * EVENT_SIZE, EVENT_SIZE);
        event.write(0, input::EV_LED);
        event.write(2, code);
        event.write(4, u32::from(on));
        let (addr, len) = (event.address(), EVENT_SIZE as u32);
        self.status.describe(entry, Descriptor { addr, len, flags: 0, next: 0 });
        if self.status.give(entry) {
            spec::QUEUE_NOTIFY.write(self.window, input::STATUS_QUEUE.into());
        }
    }

    /// Has the configuration show something, and returns how many bytes that has.
    fn select(&self, what: u8, which: u16) -> usize {
        self.window.write8(input::SELECT.offset, what);
        self.window.write8(input::SUBSEL.offset, which as u8);
        usize::from(self.window.read8(input::SIZE.offset)).min(input::DATA_MAX)
    }

    fn ask_kind(&self) -> Kind {
        if self.select(input::EV_BITS, input::EV_ABS) > 0 {
            Kind::Tablet
        } else if self.select(input::EV_BITS, input::EV_REL) > 0 {
            Kind::Mouse
        } else {
            Kind::Keyboard
        }
    }

    fn ask_range(&self, axis: u16) -> Axis {
        self.select(input::ABS_INFO, axis);
        let number = |at| self.window.read32(input::DATA.offset + at);
        Axis { min: number(0), max: number(4) }
    }
}
