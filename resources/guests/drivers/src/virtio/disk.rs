//! A virtio block device: one request at a time.

use rt::command_line::VirtioSlot;
use rt::dma::Dma;
use rt::interrupts;
use rt::mmio::Mmio;
use rt::wait::{DEVICE_LIMIT, Wait};

use super::config::{self, Config};
use super::error::Error;
use super::handshake;
use super::interrupt::{self, Events};
use super::queue::{Descriptor, Queue};
use super::spec::{self, descriptor, interrupt as cause, request, status};
use crate::register::{Story, Talk, low_half};

/// A sector has 512 bytes, whatever the block size (5.2.4).
pub const SECTOR_SIZE: u64 = 512;
/// Our queue: a power of two with room for the three descriptors of one request.
const QUEUE_SIZE: u16 = 8;
/// Descriptors of the request: header, data, status byte (5.2.6).
const HEADER: u16 = 0;
const DATA: u16 = 1;
const STATUS: u16 = 2;
const HEADER_SIZE: u32 = 16;

/// A virtio block device behind a virtio-mmio window.
#[derive(Debug)]
pub struct Disk {
    window: Mmio,
    line: u8,
    events: Option<Events>,
    wait: Wait,
    queue: Queue,
    header: Dma,
    status: Dma,
    config: Config,
    live: bool,
    requests: u32,
}

impl Disk {
    /// A driver for the device of `slot`, which is not accessed yet. `wait` is how it waits for requests to end; by
    /// interrupt, this processor takes them. `None` where RAM is in the slot's window.
    pub fn new(slot: VirtioSlot, wait: Wait) -> Option<Disk> {
        let window = Mmio::outside_ram(slot.base, slot.size)?;
        // Without a line there is no choice but to poll.
        let events =
            if wait == Wait::Interrupt { interrupt::watch(slot.line, window) } else { None };
        Some(Disk {
            window,
            line: slot.line,
            events,
            wait: if events.is_some() { Wait::Interrupt } else { Wait::Poll },
            queue: Queue::new(QUEUE_SIZE),
            header: Dma::new(HEADER_SIZE as usize, 16),
            status: Dma::new(1, 1),
            config: Config::default(),
            live: false,
            requests: 0,
        })
    }

    /// The steps of 3.1.1 and 4.2.3.1, from a reset to a live device.
    ///
    /// # Errors
    ///
    /// If there is no block device, or it and the driver do not agree. The driver then sets FAILED.
    pub fn handshake(&mut self, story: &mut dyn Story) -> Result<(), Error> {
        self.live = false;
        let mut talk = Talk::new(self.window, story);
        match config::handshake(&mut talk, &mut self.queue, self.wait) {
            Ok(config) => {
                if let Some(events) = self.events {
                    // What the device meant before its reset means nothing now.
                    events.take();
                }
                self.config = config;
                self.live = true;
                Ok(())
            }
            Err(error) => {
                handshake::give_up(&mut talk, &error);
                Err(error)
            }
        }
    }

    /// Whether the handshake is done and the device has answered since.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The registers' window.
    pub fn window(&self) -> Mmio {
        self.window
    }

    /// The device ID: that of a block device, if the handshake has succeeded.
    pub fn device_id(&self) -> u32 {
        spec::DEVICE_ID.read(self.window)
    }

    /// The interrupt line.
    pub fn line(&self) -> u8 {
        self.line
    }

    /// How it waits.
    pub fn wait(&self) -> Wait {
        self.wait
    }

    /// What the handshake found.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Entries in the queue that the driver uses.
    pub fn queue_size(&self) -> u16 {
        self.queue.size()
    }

    /// Requests begun since the driver was made.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Interrupts taken on its line.
    pub fn interrupts(&self) -> u32 {
        interrupts::count(self.line)
    }

    /// Reads from `sector` on into all of `buffer`, whole sectors.
    ///
    /// # Errors
    ///
    /// If the request does not lie on the disk, or fails.
    pub fn read(&mut self, sector: u64, buffer: Dma) -> Result<(), Error> {
        self.begin_read(sector, buffer)?;
        self.finish()
    }

    /// Writes all of `buffer`, whole sectors, from `sector` on.
    ///
    /// # Errors
    ///
    /// As for [`Disk::read`], and where the disk is read-only.
    pub fn write(&mut self, sector: u64, buffer: Dma) -> Result<(), Error> {
        self.begin_write(sector, buffer)?;
        self.finish()
    }

    /// Has everything written so far put on stable storage. Without the feature FLUSH there is nothing to do: such a
    /// device has no cache to lose (5.2.6.2).
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        if !self.config.has_flush() {
            return Ok(());
        }
        self.begin(request::FLUSH, 0, None)?;
        self.finish()
    }

    /// The disk's name, padded with zeros to 20 bytes.
    ///
    /// # Errors
    ///
    /// If the device fails, or has no such request.
    pub fn id(&mut self, buffer: Dma) -> Result<[u8; 20], Error> {
        let mut name = [0; 20];
        let part = buffer.part(0, name.len());
        self.begin(request::GET_ID, 0, Some((part, descriptor::WRITE)))?;
        self.finish()?;
        part.get(0, &mut name);
        Ok(name)
    }

    /// Hands over a read without waiting; [`Disk::finish`] waits. One request at a time.
    ///
    /// # Errors
    ///
    /// If the request does not lie on the disk.
    pub fn begin_read(&mut self, sector: u64, buffer: Dma) -> Result<(), Error> {
        self.check_range(sector, buffer)?;
        self.begin(request::IN, sector, Some((buffer, descriptor::WRITE)))
    }

    /// The same for a write.
    ///
    /// # Errors
    ///
    /// As for [`Disk::begin_read`], and where the disk is read-only.
    pub fn begin_write(&mut self, sector: u64, buffer: Dma) -> Result<(), Error> {
        if self.live && self.config.is_read_only() {
            return Err(Error::ReadOnly);
        }
        self.check_range(sector, buffer)?;
        self.begin(request::OUT, sector, Some((buffer, 0)))
    }

    fn check_range(&self, sector: u64, buffer: Dma) -> Result<(), Error> {
        if !self.live {
            return Err(Error::Closed);
        }
        let capacity = self.config.capacity;
        let count = buffer.len() as u64 / SECTOR_SIZE;
        match sector.checked_add(count) {
            Some(end) if end <= capacity => Ok(()),
            // The first sector that is not there.
            _ => Err(Error::OutOfRange { sector: sector.max(capacity), capacity }),
        }
    }

    /// Describes the request in memory, makes it available, and notifies the device.
    fn begin(&mut self, kind: u32, sector: u64, data: Option<(Dma, u16)>) -> Result<(), Error> {
        const NO_STATUS_YET: u8 = 0xff;
        if !self.live {
            return Err(Error::Closed);
        }
        self.header.write(0, kind);
        self.header.write(4, 0_u32);
        self.header.write(8, sector);
        self.status.write(0, NO_STATUS_YET);
        let next = if data.is_some() { DATA } else { STATUS };
        let header = self.header.address();
        self.queue.describe(
            HEADER,
            Descriptor { addr: header, len: HEADER_SIZE, flags: descriptor::NEXT, next },
        );
        if let Some((buffer, direction)) = data {
            self.queue.describe(
                DATA,
                Descriptor {
                    addr: buffer.address(),
                    len: low_half(buffer.len() as u64),
                    flags: descriptor::NEXT | direction,
                    next: STATUS,
                },
            );
        }
        let status = self.status.address();
        self.queue.describe(
            STATUS,
            Descriptor { addr: status, len: 1, flags: descriptor::WRITE, next: 0 },
        );
        self.requests += 1;
        if self.queue.give(HEADER) {
            spec::QUEUE_NOTIFY.write(self.window, 0);
        }
        Ok(())
    }

    /// Waits for the request under way, and returns its result.
    ///
    /// # Errors
    ///
    /// If it failed. After anything but a status byte the device has to be set up again.
    pub fn finish(&mut self) -> Result<(), Error> {
        let Disk { queue, events, window, .. } = self;
        let mut broken = false;
        self.wait.until(DEVICE_LIMIT, || {
            // A change of the configuration may be that the device has given up.
            if events.is_some_and(|events| events.take() & cause::CONFIG_CHANGE != 0) {
                broken = needs_reset(*window);
            }
            broken || queue.has_used()
        });
        let Some(used) = self.queue.take() else {
            // Its memory is the device's until a reset.
            self.live = false;
            let broken = needs_reset(self.window);
            return Err(if broken { Error::NeedsReset } else { Error::NoAnswer(DEVICE_LIMIT) });
        };
        if used.id != u32::from(HEADER) {
            self.live = false;
            return Err(Error::Confused(used.id));
        }
        match self.status.read::<u8>(0) {
            request::OK => Ok(()),
            other => Err(Error::Status(other)),
        }
    }
}

fn needs_reset(window: Mmio) -> bool {
    spec::STATUS.read(window) & status::NEEDS_RESET != 0
}
