//! The disks of the machine, and the one in use.

use core::fmt;

use drivers::svirtb::{self, Stride};
use drivers::virtio::spec::BLOCK_DEVICE;
use drivers::{Quiet, Story, virtio};
use rt::dma::Dma;
use rt::wait::Wait;
use rt::{command_line, print, println};

use crate::arguments::{Complaint, complain, complaint};
use crate::devices::Others;

/// As many as there are interrupt lines, and then some.
const VIRTIO_MAX: usize = 32;
/// Entries in the svirtb ring.
const SVIRTB_RING: u32 = 64;
/// Bytes that one request moves at most.
const BUFFER_SIZE: usize = 64 * 1024;
/// Bytes in a sector, on either kind of disk.
pub(crate) const SECTOR: u64 = 512;

/// Names a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The virtio disk of this number: the order of the kernel command line.
    Virtio(usize),
    /// The svirtb disk.
    Svirtb,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Virtio(number) => write!(f, "virtio {number}"),
            Name::Svirtb => f.write_str("svirtb"),
        }
    }
}

/// The disk in use.
pub(crate) enum Disk<'a> {
    /// Over virtio.
    Virtio(&'a mut virtio::Disk),
    /// Over svirtb.
    Svirtb(&'a mut svirtb::Device),
}

/// The disks of the machine.
pub(crate) struct Disks {
    virtio: [Option<virtio::Disk>; VIRTIO_MAX],
    svirtb: Option<svirtb::Device>,
    current: Option<Name>,
    buffer: Dma,
}

impl Disks {
    /// Looks for disks, goes through the handshake of each virtio disk, and chooses one: the first over virtio, or
    /// else the one over svirtb.
    /// What else is there is added to `others`.
    pub(crate) fn find(others: &mut Others) -> Disks {
        let wait =
            if command_line::number("poll") == Some(1) { Wait::Poll } else { Wait::Interrupt };
        let mut virtio = [const { None }; VIRTIO_MAX];
        let mut found = command_line::virtio_slots().filter_map(|slot| {
            let mut disk = virtio::Disk::new(slot, wait)?;
            match disk.handshake(&mut Quiet) {
                Err(virtio::Error::NotVirtio(_)) => None,
                Err(virtio::Error::OtherKind { id, .. }) => {
                    others.add(slot, id);
                    None
                }
                // A legacy device of another kind.
                Err(virtio::Error::Version(_)) if disk.device_id() != BLOCK_DEVICE => None,
                // `status` and `reset` show what is wrong with it.
                Ok(()) | Err(_) => Some(disk),
            }
        });
        for place in &mut virtio {
            *place = found.next();
        }
        let stride =
            if command_line::number("entry") == Some(32) { Stride::Padded } else { Stride::Packed };
        let svirtb = svirtb::present().then(|| svirtb::Device::new(SVIRTB_RING, stride));
        let mut disks =
            Disks { virtio, svirtb, current: None, buffer: Dma::new(BUFFER_SIZE, 4096) };
        disks.current = match (&disks.virtio[0], &disks.svirtb) {
            (Some(_), _) => Some(Name::Virtio(0)),
            (None, Some(_)) => Some(Name::Svirtb),
            (None, None) => None,
        };
        if let Some(svirtb) = disks.svirtb.as_mut().filter(|_| disks.current == Some(Name::Svirtb))
        {
            // If it fails, the first command reports it.
            let _ = svirtb.handshake(&mut Quiet);
        }
        disks
    }

    /// Prints the disks, a line for each.
    pub(crate) fn list(&self) {
        for (number, disk) in self.virtio.iter().flatten().enumerate() {
            let config = disk.config();
            print!(
                "  virtio {number} at {:#x}, interrupt line {}: ",
                disk.window().base(),
                disk.line()
            );
            if disk.is_live() {
                println!(
                    "{}{}",
                    Size(config.capacity),
                    if config.is_read_only() { ", read-only" } else { "" }
                );
            } else {
                println!("its handshake failed; 'reset' tries again and shows it");
            }
        }
        if self.svirtb.is_some() {
            println!("  svirtb at {:#x}: a disk that does not report its size", svirtb::BASE);
        }
    }

    /// Prints which disk is in use.
    pub(crate) fn introduce(&self) {
        match self.current {
            Some(name) => println!("in use: {name}"),
            None => println!("no disk on this machine; the monitor attaches one with --disk FILE"),
        }
    }

    /// How many virtio disks there are.
    fn virtio_count(&self) -> usize {
        self.virtio.iter().flatten().count()
    }

    /// The name of the disk in use.
    pub(crate) fn name(&self) -> Result<Name, Complaint> {
        match self.current {
            Some(name) => Ok(name),
            None => complain!("no disk on this machine; the monitor attaches one with --disk FILE"),
        }
    }

    /// The disk in use, its name, and the memory for its data.
    pub(crate) fn current(&mut self) -> Result<(Name, Disk<'_>, Dma), Complaint> {
        let name = self.name()?;
        let disk = match name {
            Name::Virtio(number) => self.virtio[number].as_mut().map(Disk::Virtio),
            Name::Svirtb => self.svirtb.as_mut().map(Disk::Svirtb),
        };
        match disk {
            Some(disk) => Ok((name, disk, self.buffer)),
            None => complain!("{name} is gone"),
        }
    }

    /// Takes another disk into use, after its handshake where that has not been done.
    pub(crate) fn choose(&mut self, name: Name) -> Result<(), Complaint> {
        match name {
            Name::Svirtb if self.svirtb.is_none() => {
                return complain!("no svirtb disk on this machine");
            }
            Name::Virtio(number) if number >= self.virtio_count() => {
                return match self.virtio_count() {
                    0 => complain!("no virtio disk on this machine"),
                    1 => complain!("no virtio {number} on this machine: there is virtio 0 only"),
                    count => complain!(
                        "no virtio {number} on this machine: there are virtio 0 to {}",
                        count - 1
                    ),
                };
            }
            Name::Svirtb | Name::Virtio(_) => self.current = Some(name),
        }
        match self.current()? {
            (_, Disk::Virtio(disk), _) if !disk.is_live() => self.handshake(&mut Quiet),
            (_, Disk::Svirtb(device), _) if !device.is_live() => self.handshake(&mut Quiet),
            _ => Ok(()),
        }
    }

    /// The handshake of the disk in use, from the start.
    pub(crate) fn handshake(&mut self, story: &mut dyn Story) -> Result<(), Complaint> {
        let (name, disk, _) = self.current()?;
        match disk {
            Disk::Virtio(disk) => {
                disk.handshake(story).map_err(|error| complaint!("{name}: {error}"))
            }
            Disk::Svirtb(device) => {
                if device.is_live() {
                    device.reset(story);
                }
                device.handshake(story).map_err(|error| complaint!("{name}: {error}"))
            }
        }
    }

    /// What is known of the disk in use, in a few words.
    pub(crate) fn describe(&mut self) -> Result<(), Complaint> {
        match self.current()? {
            (name, Disk::Virtio(disk), _) => {
                println!("in use: {name}, {}", Size(disk.config().capacity));
            }
            (name, Disk::Svirtb(device), _) => {
                let ring = device.ring();
                println!(
                    "in use: {name}, a ring of {} entries, {} bytes each",
                    ring.entries(),
                    ring.stride().bytes()
                );
            }
        }
        Ok(())
    }
}

/// A number of sectors, and the same in bytes.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        write!(f, "{} sector{} (", self.0, if self.0 == 1 { "" } else { "s" })?;
        let bytes = u128::from(self.0) * u128::from(SECTOR);
        match UNITS.iter().find(|(shift, _)| bytes >> shift != 0) {
            None => write!(f, "{bytes} bytes)"),
            Some((shift, unit)) => {
                let tenths = (bytes * 10) >> shift;
                match tenths % 10 {
                    0 => write!(f, "{} {unit})", tenths / 10),
                    tenth => write!(f, "{}.{tenth} {unit})", tenths / 10),
                }
            }
        }
    }
}
