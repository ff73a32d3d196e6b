//! svirtb, the simple virtio block protocol: six registers and a ring of requests.
//!
//! The driver fills entries of the ring, writes the index after the last one to `queue_head`, and when that write is
//! over the device has done them: `queue_tail` is there too. No interrupt, no capacity, and one error channel: the
//! status becomes RESET and the device does nothing more until it is reset.

mod ring;

use core::fmt;

use rt::dma::Dma;
use rt::mmio::Mmio;

use crate::register::{Register, Story, Talk, low_half};
pub use ring::{Entry, READ, Ring, Stride, WRITE};

/// Guest-physical address of the registers (specification, section 4).
pub const BASE: u64 = 0xcafe_0000;
/// One page is the device's.
pub const WINDOW_SIZE: u64 = 0x1000;
/// A sector has 512 bytes.
pub const SECTOR_SIZE: usize = 512;

/// Device status (section 2.1).
pub const STATUS: Register = Register::new(0x00, "status");
/// Entries in the ring.
pub const QUEUE_SIZE: Register = Register::new(0x04, "queue_size");
/// Guest-physical address of the ring, bits 63..32.
pub const QUEUE_ADDR_HI: Register = Register::new(0x08, "queue_addr_hi");
/// Bits 31..0.
pub const QUEUE_ADDR_LO: Register = Register::new(0x0c, "queue_addr_lo");
/// The doorbell: index after the last entry that the driver has filled.
pub const QUEUE_HEAD: Register = Register::new(0x10, "queue_head");
/// Index after the last entry that the device has done.
pub const QUEUE_TAIL: Register = Register::new(0x14, "queue_tail");
/// All of them, in order.
pub const REGISTERS: [Register; 6] =
    [STATUS, QUEUE_SIZE, QUEUE_ADDR_HI, QUEUE_ADDR_LO, QUEUE_HEAD, QUEUE_TAIL];

/// Values of [`STATUS`] (section 2.1): a fresh device. "virt" in little-endian order.
pub const MAGIC: u32 = 0x7472_6976;
/// The driver is about to give the address of the ring.
pub const DRIVER_OK: u32 = 0;
/// The device is live.
pub const READY: u32 = 1;
/// Written: start over. Read: the device is in its error state.
pub const RESET: u32 = 2;

/// The registers' window.
pub fn window() -> Mmio {
    const WINDOW: Option<Mmio> = Mmio::new(BASE, WINDOW_SIZE);
    const { WINDOW.expect("svirtb lies in the hole below 4 GiB") }
}

/// Whether a fresh svirtb device is on this machine.
pub fn present() -> bool {
    STATUS.read(window()) == MAGIC
}

/// Why the device could not be used, or a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// After a reset the status reads this, not [`MAGIC`].
    NotThere(u32),
    /// The status reads this after the driver wrote DRIVER_OK.
    NoDriverOk(u32),
    /// The device did not take the ring: the status reads this after the driver wrote READY.
    NotReady(u32),
    /// No handshake has been done, or the last one failed.
    Closed,
    /// The device stopped at this entry of the ring, and the status reads RESET.
    Stopped(u32),
    /// The doorbell returned, the status reads READY, but the tail is at the first number and not at the second.
    Unfinished(u32, u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotThere(status) => {
                write!(
                    f,
                    "its status reads {status:#x}, not the magic {MAGIC:#x}: no fresh svirtb device"
                )
            }
            Error::NoDriverOk(status) => {
                write!(f, "its status reads {status} after DRIVER_OK (0) was written")
            }
            Error::NotReady(status) => {
                write!(
                    f,
                    "it did not take the ring: its status reads {status} after READY (1) was written"
                )
            }
            Error::Closed => f.write_str("it is not set up: the handshake was not done, or failed"),
            Error::Stopped(entry) => {
                write!(
                    f,
                    "it stopped at ring entry {entry} with status RESET, its error state (the host's log has the reason)"
                )
            }
            Error::Unfinished(tail, head) => {
                write!(f, "the doorbell returned with the tail at {tail}, not at {head}")
            }
        }
    }
}

/// The svirtb device, and a ring to talk to it.
#[derive(Debug)]
pub struct Device {
    window: Mmio,
    ring: Ring,
    /// Where the next entry goes.
    head: u32,
    live: bool,
}

impl Device {
    /// A driver with a ring of `entries` entries; the device is not accessed yet.
    pub fn new(entries: u32, stride: Stride) -> Device {
        Device { window: window(), ring: Ring::new(entries, stride), head: 0, live: false }
    }

    /// Writes RESET: the device forgets everything.
    pub fn reset(&mut self, story: &mut dyn Story) {
        self.live = false;
        Talk::new(self.window, story).write(
            STATUS,
            RESET,
            "start over: the device forgets everything",
        );
    }

    /// The six steps of section 3, after a reset where the device is not fresh.
    ///
    /// # Errors
    ///
    /// If the device is not there or does not agree.
    pub fn handshake(&mut self, story: &mut dyn Story) -> Result<(), Error> {
        self.live = false;
        let mut talk = Talk::new(self.window, story);
        let mut status =
            talk.read(STATUS, "is a fresh device there? its status is the magic, \"virt\"");
        if status != MAGIC {
            talk.write(STATUS, RESET, "it was in use: start over");
            status = talk.read(STATUS, "and now?");
        }
        if status != MAGIC {
            return Err(Error::NotThere(status));
        }
        talk.write(
            STATUS,
            DRIVER_OK,
            "DRIVER_OK: a driver is here and will give the address of its ring",
        );
        match talk.read(STATUS, "still DRIVER_OK? then the device listens") {
            DRIVER_OK => {}
            status => return Err(Error::NoDriverOk(status)),
        }
        let address = self.ring.address();
        talk.write(
            QUEUE_ADDR_HI,
            low_half(address >> 32),
            "where the ring is: bits 63..32 of its address",
        );
        talk.write(QUEUE_ADDR_LO, low_half(address), "bits 31..0");
        talk.write(QUEUE_SIZE, self.ring.entries(), "how many entries it has");
        talk.write(STATUS, READY, "READY: the ring is described");
        match talk.read(STATUS, "still READY? then the device has taken the ring and is live") {
            READY => {}
            status => return Err(Error::NotReady(status)),
        }
        self.head = 0;
        self.live = true;
        Ok(())
    }

    /// Whether the handshake is done and nothing has failed since.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Entries in the ring, and the distance between two in bytes.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Reads from `sector` on into all of `buffer`. What lies past the end of the image stays as it was.
    ///
    /// # Errors
    ///
    /// If the device stops. It then has to be set up again.
    pub fn read(&mut self, sector: u64, buffer: Dma) -> Result<(), Error> {
        self.run(Entry { addr: buffer.address(), size: buffer.len() as u64, sector, cmd: READ })
    }

    /// Writes all of `buffer` from `sector` on; done in the host's image file when this returns.
    ///
    /// # Errors
    ///
    /// As for [`Device::read`].
    pub fn write(&mut self, sector: u64, buffer: Dma) -> Result<(), Error> {
        self.run(Entry { addr: buffer.address(), size: buffer.len() as u64, sector, cmd: WRITE })
    }

    /// Reads from `sector` on into `buffer`. Returns how many bytes the image has there: svirtb has no capacity
    /// register, so the only way to know is to look which bytes of the buffer were left untouched.
    ///
    /// A byte that reads as the pattern the buffer was filled with may be one that the image has: only a byte that
    /// stays untouched over two patterns is past the end.
    ///
    /// # Errors
    ///
    /// As for [`Device::read`].
    pub fn read_what_exists(&mut self, sector: u64, buffer: Dma) -> Result<usize, Error> {
        const PATTERNS: [u8; 2] = [0xa5, 0x5a];
        let mut exist = 0;
        for pattern in PATTERNS {
            buffer.fill(pattern);
            self.read(sector, buffer)?;
            exist = exist.max(buffer.len() - trailing(buffer, pattern));
            if exist == buffer.len() {
                break;
            }
        }
        Ok(exist)
    }

    /// Puts one entry into the ring, rings the doorbell, and looks what came of it.
    fn run(&mut self, entry: Entry) -> Result<(), Error> {
        if !self.live {
            return Err(Error::Closed);
        }
        let at = self.head;
        self.ring.put(at, entry);
        self.head = (at + 1) % self.ring.entries();
        QUEUE_HEAD.write(self.window, self.head);
        // The device has done it all before that write was over: no wait.
        let tail = QUEUE_TAIL.read(self.window);
        if STATUS.read(self.window) != READY {
            self.live = false;
            return Err(Error::Stopped(tail));
        }
        if tail != self.head {
            self.live = false;
            return Err(Error::Unfinished(tail, self.head));
        }
        Ok(())
    }
}

/// How many bytes at the end of `buffer` are `byte`. Eight at a time: an instruction costs much under emulation.
fn trailing(buffer: Dma, byte: u8) -> usize {
    let word = u64::from(byte) * 0x0101_0101_0101_0101;
    let mut start = buffer.len();
    while start >= 8 && start.is_multiple_of(8) && buffer.read::<u64>(start - 8) == word {
        start -= 8;
    }
    while start > 0 && buffer.read::<u8>(start - 1) == byte {
        start -= 1;
    }
    buffer.len() - start
}
