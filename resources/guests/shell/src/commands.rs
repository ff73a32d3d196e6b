//! The commands.

use core::ops::ControlFlow;

use rt::dma::Dma;
use rt::{console, exit, println};

use crate::arguments::{Arguments, Complaint, complain, complaint};
use crate::crc32::Crc32;
use crate::devices;
use crate::disks::{Disk, Disks, Name, SECTOR};
use crate::dump::Dump;
use crate::status::{self, Aloud};

/// What came of a command: go on, or end with an exit code.
type Outcome = Result<ControlFlow<u32>, Complaint>;

struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&mut Disks, Arguments<'_>) -> Outcome,
}

const COMMANDS: [Command; 13] = [
    Command { name: "help", usage: "help", about: "this list", run: help },
    Command {
        name: "dev",
        usage: "dev svirtb | dev virtio [N]",
        about: "choose the disk that the other commands use",
        run: dev,
    },
    Command { name: "list", usage: "list", about: "the devices of this machine", run: list },
    Command {
        name: "status",
        usage: "status",
        about: "read every register and explain its value",
        run: show,
    },
    Command {
        name: "read",
        usage: "read SECTOR [COUNT]",
        about: "print sectors, as hexdump -C does",
        run: read,
    },
    Command {
        name: "write",
        usage: "write SECTOR TEXT",
        about: "write one sector: the text, then zeros",
        run: write,
    },
    Command {
        name: "fill",
        usage: "fill SECTOR BYTE COUNT",
        about: "write one byte all over sectors",
        run: fill,
    },
    Command {
        name: "sum",
        usage: "sum SECTOR COUNT",
        about: "CRC-32 of sectors, as in zlib and gzip",
        run: sum,
    },
    Command {
        name: "flush",
        usage: "flush",
        about: "put what was written on stable storage",
        run: flush,
    },
    Command {
        name: "reset",
        usage: "reset",
        about: "reset the disk and show the handshake",
        run: reset,
    },
    Command {
        name: "exit",
        usage: "exit [CODE]",
        about: "power off; CODE: status 2 * CODE + 1",
        run: exit,
    },
    Command { name: "poweroff", usage: "poweroff", about: "power off, by ACPI", run: poweroff },
    Command {
        name: "reboot",
        usage: "reboot",
        about: "reset the machine, as a PC does: port 0x64",
        run: reboot,
    },
];

/// Runs one command line: prints what it gives or, in one line, why it cannot be done.
pub(crate) fn run(disks: &mut Disks, line: &str) -> ControlFlow<u32> {
    let mut words = Arguments::new(line, "");
    let Some(name) = words.word() else { return ControlFlow::Continue(()) };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        println!("{name:.40}: no such command; 'help' lists them");
        return ControlFlow::Continue(());
    };
    // A Ctrl-C of before is not meant for this command.
    console::take_break();
    match (command.run)(disks, words.for_usage(command.usage)) {
        Ok(flow) => flow,
        Err(complaint) => {
            println!("{name}: {complaint}");
            ControlFlow::Continue(())
        }
    }
}

/// Their names, for completion.
pub(crate) static NAMES: [&str; COMMANDS.len()] = {
    let (mut names, mut n) = ([""; COMMANDS.len()], 0);
    while n < names.len() {
        names[n] = COMMANDS[n].name;
        n += 1;
    }
    names
};

const GO_ON: Outcome = Ok(ControlFlow::Continue(()));

fn help(_: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    arguments.end()?;
    for command in &COMMANDS {
        println!("  {:<28} {}", command.usage, command.about);
    }
    println!("Numbers are decimal, or hexadecimal after 0x; a sector has {SECTOR} bytes.");
    println!("Ctrl-C stops a long answer. Ctrl-D, exit and poweroff end cafevm with status 0.");
    GO_ON
}

fn dev(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    let name = match arguments.word() {
        Some("svirtb") => Name::Svirtb,
        Some("virtio") => {
            let number = arguments.optional_number("N")?.unwrap_or(0);
            Name::Virtio(usize::try_from(number).unwrap_or(usize::MAX))
        }
        Some(other) => {
            return complain!(
                "'{other:.40}' is no kind of disk; usage: dev svirtb | dev virtio [N]"
            );
        }
        None => return arguments.usage(),
    };
    arguments.end()?;
    disks.choose(name)?;
    disks.describe()?;
    GO_ON
}

fn list(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    arguments.end()?;
    devices::list(disks);
    disks.introduce();
    GO_ON
}

fn show(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    arguments.end()?;
    match disks.current()? {
        (name, Disk::Virtio(disk), _) => {
            println!(
                "{name}: virtio-mmio registers at {:#x}, interrupt line {}",
                disk.window().base(),
                disk.line()
            );
            status::virtio(disk);
        }
        (name, Disk::Svirtb(device), _) => {
            println!("{name}: registers at {:#x}", drivers::svirtb::BASE);
            status::svirtb(device);
        }
    }
    GO_ON
}

fn read(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    let sector = arguments.number("SECTOR")?;
    let count = arguments.optional_number("COUNT")?.unwrap_or(1);
    arguments.end()?;
    let mut dump = Dump::new(sector.wrapping_mul(SECTOR));
    let whole = for_each_stretch(disks, sector, count, |memory, len| dump.print(memory, len))?;
    if whole {
        dump.end();
    } else {
        println!("^C");
    }
    GO_ON
}

fn sum(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    let sector = arguments.number("SECTOR")?;
    let count = arguments.number("COUNT")?;
    arguments.end()?;
    let mut crc = Crc32::new();
    let mut bytes = 0;
    let whole = for_each_stretch(disks, sector, count, |memory, len| {
        let words = len / 8 * 8;
        (0..words).step_by(8).for_each(|at| crc.add8(memory.read(at)));
        (words..len).for_each(|at| crc.add1(memory.read(at)));
        bytes += len;
        !console::take_break()
    })?;
    if whole {
        println!("crc32 {:08x} of {bytes} bytes from sector {sector} on", crc.value());
    } else {
        println!("^C");
    }
    GO_ON
}

/// Reads `count` sectors from `sector` on and gives them to `take`, a buffer's length at a time; the second argument is
/// how many bytes there are. False where `take` wanted no more.
fn for_each_stretch(
    disks: &mut Disks,
    sector: u64,
    count: u64,
    mut take: impl FnMut(Dma, usize) -> bool,
) -> Result<bool, Complaint> {
    let (name, mut disk, buffer) = disks.current()?;
    let end = check_range(name, &disk, sector, count)?;
    let mut at = sector;
    while at < end {
        let part = stretch(buffer, end - at);
        let sectors = part.len() as u64 / SECTOR;
        let there = match &mut disk {
            Disk::Virtio(disk) => match disk.read(at, part) {
                Ok(()) => part.len(),
                Err(error) => return complain!("{name}: {error}"),
            },
            Disk::Svirtb(device) => match device.read_what_exists(at, part) {
                Ok(there) => there,
                Err(error) => return complain!("{name}: {error}; 'reset' starts over"),
            },
        };
        // Only svirtb has sectors that are not there, for it has no capacity; its last one may be a part of one.
        let last_byte_wanted = part.len() as u64 - SECTOR;
        let missing = there as u64 <= last_byte_wanted;
        if missing && at == sector {
            let first = at + (there as u64).div_ceil(SECTOR);
            return complain!(
                "{name}: sector {first} is past its end: the device left the buffer untouched"
            );
        }
        if there > 0 && !take(part, there) {
            return Ok(false);
        }
        if missing {
            let bytes = at * SECTOR + there as u64;
            return complain!(
                "{name}: it ends after {bytes} bytes: the device left the rest of the buffer untouched"
            );
        }
        at += sectors;
    }
    Ok(true)
}

/// The sector after the last one, where the disk may have them all.
fn check_range(name: Name, disk: &Disk<'_>, sector: u64, count: u64) -> Result<u64, Complaint> {
    /// Sectors that 64 bits of bytes can count.
    const ALL: u64 = u64::MAX / SECTOR;
    if count == 0 {
        return complain!("COUNT is 0, and 1 is the least");
    }
    let limit = match disk {
        Disk::Virtio(disk) if disk.is_live() => disk.config().capacity,
        // Closed: the request itself fails with the reason.
        Disk::Virtio(_) | Disk::Svirtb(_) => ALL,
    };
    match sector.checked_add(count) {
        Some(end) if end <= limit => Ok(end),
        _ if limit == 0 => complain!("{name} has no sectors"),
        _ => {
            let first = sector.max(limit);
            complain!(
                "sector {first} is past the end of {name}, which has sectors 0 to {}",
                limit - 1
            )
        }
    }
}

/// As much of the buffer as `sectors` sectors need, or all of it.
fn stretch(buffer: Dma, sectors: u64) -> Dma {
    let len = usize::try_from(sectors.saturating_mul(SECTOR)).unwrap_or(usize::MAX);
    buffer.part(0, buffer.len().min(len))
}

fn write(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    let sector = arguments.number("SECTOR")?;
    let text = arguments.text("TEXT")?;
    let (name, disk, buffer) = disks.current()?;
    check_range(name, &disk, sector, 1)?;
    let part = stretch(buffer, 1);
    if text.len() > part.len() {
        return complain!("TEXT has {} bytes, and a sector has {SECTOR}", text.len());
    }
    part.fill(0);
    part.put(0, text.as_bytes());
    store(name, disk, sector, part)?;
    let bytes = if text.len() == 1 { "byte" } else { "bytes" };
    println!("wrote sector {sector} of {name}: {} {bytes} of text, then zeros", text.len());
    GO_ON
}

fn fill(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    let sector = arguments.number("SECTOR")?;
    let byte = arguments.number("BYTE")?;
    let count = arguments.number("COUNT")?;
    arguments.end()?;
    let Ok(byte) = u8::try_from(byte) else {
        return complain!("BYTE is {byte}, and 255 is the most");
    };
    let (name, disk, buffer) = disks.current()?;
    let end = check_range(name, &disk, sector, count)?;
    stretch(buffer, count).fill(byte);
    let mut at = sector;
    while at < end {
        let part = stretch(buffer, end - at);
        let (name, disk, _) = disks.current()?;
        store(name, disk, at, part)?;
        at += part.len() as u64 / SECTOR;
        if console::take_break() {
            println!("^C after sector {}", at - 1);
            return GO_ON;
        }
    }
    println!("filled {count} sectors of {name} from sector {sector} on with {byte:#04x}");
    GO_ON
}

fn store(name: Name, disk: Disk<'_>, sector: u64, part: Dma) -> Result<(), Complaint> {
    match disk {
        Disk::Virtio(disk) => {
            disk.write(sector, part).map_err(|error| complaint!("{name}: {error}"))
        }
        Disk::Svirtb(device) => device
            .write(sector, part)
            .map_err(|error| complaint!("{name}: {error}; 'reset' starts over")),
    }
}

fn flush(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    arguments.end()?;
    match disks.current()? {
        (name, Disk::Virtio(disk), _) => match disk.flush() {
            Ok(()) if disk.config().has_flush() => println!("{name} is flushed"),
            Ok(()) => {
                println!(
                    "{name} offers no FLUSH: it keeps nothing back, so there is nothing to do"
                );
            }
            Err(error) => return complain!("{name}: {error}"),
        },
        (name, Disk::Svirtb(_), _) => {
            println!(
                "{name} has no flush: what was written is in the image when the doorbell returns"
            );
        }
    }
    GO_ON
}

fn reset(disks: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    arguments.end()?;
    disks.handshake(&mut Aloud)?;
    disks.describe()?;
    GO_ON
}

fn exit(_: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    let code = arguments.optional_number("CODE")?.unwrap_or(0);
    arguments.end()?;
    // 0 powers off. Otherwise twice the code and one more is the monitor's exit status, which has eight bits.
    const MOST: u32 = 127;
    match u32::try_from(code) {
        Ok(code) if code <= MOST => Ok(ControlFlow::Break(code)),
        _ => complain!("CODE is {code}, and {MOST} is the most"),
    }
}

fn poweroff(_: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    arguments.end()?;
    Ok(ControlFlow::Break(0))
}

fn reboot(_: &mut Disks, mut arguments: Arguments<'_>) -> Outcome {
    arguments.end()?;
    exit::reset()
}
