//! Several disks of both kinds at once: each virtio disk of the command line, and svirtb where it is there.
//!
//! Virtio disk number n holds [`scenario::pattern`] with seed n + 1, the svirtb disk with seed 0x5b; each has 32
//! sectors at least. Afterwards sector 7 of each is all bytes 0xd0 + n, of the svirtb disk all 0x5b.
//! The guest prints `virtio N svirtb 0|1`, and a line `id n: TEXT` for each virtio disk.
#![no_std]
#![no_main]

use drivers::svirtb::{self, Stride};
use drivers::virtio::spec::BLOCK_DEVICE;
use drivers::{Quiet, virtio};
use rt::dma::Dma;
use rt::interrupts;
use rt::println;
use rt::wait::Wait;
use scenario::{Failure, Outcome, Report, ensure, ensure_eq, fail, pattern, slots};

const MOST: usize = 24;
const SECTOR: usize = 512;
/// The sector that is written.
const MARKED: u64 = 7;
const SVIRTB_SEED: u64 = 0x5b;
const SVIRTB_MARK: u8 = 0x5b;

rt::entry!(main);

/// A virtio disk, its number on the command line, and memory for its data.
struct Numbered {
    number: u8,
    disk: virtio::Disk,
    buffer: Dma,
}

impl Numbered {
    fn seed(&self) -> u64 {
        u64::from(self.number) + 1
    }

    fn mark(&self) -> u8 {
        0xd0 + self.number
    }

    /// Says of a disk's error which disk it was.
    fn told(&self, result: Result<(), virtio::Error>) -> Outcome {
        result.map_err(|error| Failure::format(format_args!("virtio {}: {error}", self.number)))
    }

    fn begin_read(&mut self, sector: u64) -> Outcome {
        self.buffer.fill(0xee);
        let begun = self.disk.begin_read(sector, self.buffer);
        self.told(begun)
    }

    fn finish(&mut self) -> Outcome {
        let finished = self.disk.finish();
        self.told(finished)
    }
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let mut places = [const { None }; MOST];
    let mut count = 0_u8;
    for (place, slot) in places.iter_mut().zip(slots(BLOCK_DEVICE)) {
        let number = count;
        count += 1;
        *place = virtio::Disk::new(slot, Wait::Interrupt).map(|disk| Numbered {
            number,
            disk,
            buffer: Dma::new(SECTOR, SECTOR),
        });
    }
    let mut svirtb = svirtb::present()
        .then(|| (svirtb::Device::new(16, Stride::Packed), Dma::new(SECTOR, SECTOR)));
    println!("virtio {count} svirtb {}", u8::from(svirtb.is_some()));
    if count == 0 {
        report.run("find-disks", || fail!("no virtio disk on the command line"));
        return report.code();
    }

    report.run("every-handshake", || {
        for disk in places.iter_mut().flatten() {
            let done = disk.disk.handshake(&mut Quiet);
            disk.told(done)?;
        }
        match &mut svirtb {
            Some((device, _)) => handled(device.handshake(&mut Quiet)),
            None => Ok(()),
        }
    });
    report.run("each-has-its-own-contents", || contents(&mut places, &mut svirtb, None));
    report.run("requests-on-all-at-once", || {
        for sector in 0..16 {
            // All are under way before the first is waited for, and svirtb's comes in between.
            for disk in places.iter_mut().flatten() {
                disk.begin_read(sector)?;
            }
            if let Some((device, buffer)) = &mut svirtb {
                buffer.fill(0xee);
                handled(device.read(sector, *buffer))?;
                pattern::check(*buffer, SVIRTB_SEED, sector * SECTOR as u64)?;
            }
            for disk in places.iter_mut().flatten().rev() {
                disk.finish()?;
                pattern::check(disk.buffer, disk.seed(), sector * SECTOR as u64)?;
            }
        }
        Ok(())
    });
    report.run("a-mark-on-each", || {
        for disk in places.iter_mut().flatten() {
            disk.buffer.fill(disk.mark());
            let begun = disk.disk.begin_write(MARKED, disk.buffer);
            disk.told(begun)?;
        }
        if let Some((device, buffer)) = &mut svirtb {
            buffer.fill(SVIRTB_MARK);
            handled(device.write(MARKED, *buffer))?;
        }
        for disk in places.iter_mut().flatten() {
            disk.finish()?;
            let flushed = disk.disk.flush();
            disk.told(flushed)?;
        }
        Ok(())
    });
    report.run("no-mark-on-another", || contents(&mut places, &mut svirtb, Some(MARKED)));
    report.run("an-interrupt-line-each", || {
        for disk in places.iter().flatten() {
            let others = places
                .iter()
                .flatten()
                .filter(|other| other.disk.line() == disk.disk.line())
                .count();
            ensure_eq!(others, 1, "disks on line {}", disk.disk.line());
            let (interrupts, requests) = (disk.disk.interrupts(), disk.disk.requests());
            // Fewer than requests where one interrupt came for two.
            let number = disk.number;
            ensure!(interrupts > 0, "no interrupt of virtio {number}, for {requests} requests");
            ensure!(
                interrupts <= requests,
                "{interrupts} interrupts of virtio {number}, for {requests} requests"
            );
        }
        Ok(())
    });
    report.run("a-name-each", || {
        for disk in places.iter_mut().flatten() {
            match disk.disk.id(disk.buffer) {
                Ok(id) => println!("id {}: {}", disk.number, text(&id)),
                Err(error) => fail!("virtio {}: {error}", disk.number),
            }
        }
        Ok(())
    });
    report.code()
}

type Svirtb = Option<(svirtb::Device, Dma)>;

/// The first sectors of each disk, of which `marked` holds its mark.
fn contents(
    places: &mut [Option<Numbered>; MOST],
    svirtb: &mut Svirtb,
    marked: Option<u64>,
) -> Outcome {
    for sector in 0..16 {
        for disk in places.iter_mut().flatten() {
            disk.begin_read(sector)?;
            disk.finish()?;
            match marked {
                Some(mark) if mark == sector => pattern::check_all(disk.buffer, disk.mark())?,
                _ => pattern::check(disk.buffer, disk.seed(), sector * SECTOR as u64)?,
            }
        }
        if let Some((device, buffer)) = svirtb {
            handled(device.read(sector, *buffer))?;
            match marked {
                Some(mark) if mark == sector => pattern::check_all(*buffer, SVIRTB_MARK)?,
                _ => pattern::check(*buffer, SVIRTB_SEED, sector * SECTOR as u64)?,
            }
        }
    }
    Ok(())
}

fn handled(result: Result<(), svirtb::Error>) -> Outcome {
    result.map_err(|error| Failure::format(format_args!("svirtb: {error}")))
}

/// A name, up to its first zero.
fn text(id: &[u8; 20]) -> &str {
    let end = id.iter().position(|byte| *byte == 0).unwrap_or(id.len());
    core::str::from_utf8(&id[..end]).unwrap_or("not UTF-8")
}
