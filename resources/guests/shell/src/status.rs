//! The registers of a disk in words.

use core::fmt;

use drivers::virtio::spec::{self, feature, interrupt, status};
use drivers::{Access, Register, Story, svirtb, virtio};
use rt::mmio::Mmio;
use rt::println;
use rt::wait::Wait;

/// Prints each register access of a handshake, a line each.
pub(crate) struct Aloud;

impl Story for Aloud {
    fn tell(&mut self, access: &Access) {
        let verb = if access.written { "write" } else { "read " };
        println!("  {verb} {:<20} {:#010x}  {}", access.register.name, access.value, access.reason);
    }
}

/// Reads `register` and prints its value and what that means.
fn show(window: Mmio, register: Register, meaning: impl FnOnce(u32) -> Words) -> u32 {
    let value = register.read(window);
    println!("  {:#05x}  {:<24} {value:#010x}  {}", register.offset, register.name, meaning(value));
    value
}

/// The meaning of a value.
enum Words {
    /// A fixed text.
    Text(&'static str),
    /// The value, with a text.
    Number(u32, &'static str),
    /// The names of the bits that are set.
    Bits(u32, &'static [(u32, &'static str)]),
    /// The names of the features that are set, the first of which is feature number .1.
    Features(u32, u32),
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Words::Text(text) => f.write_str(text),
            Words::Number(number, text) => write!(f, "{number} {text}"),
            Words::Bits(0, _) => f.write_str("nothing"),
            Words::Bits(value, names) => {
                let mut comma = "";
                for (_, name) in names.iter().filter(|(bit, _)| value & bit != 0) {
                    write!(f, "{comma}{name}")?;
                    comma = ", ";
                }
                Ok(())
            }
            Words::Features(value, first) => {
                let mut comma = "";
                for bit in (0..32).filter(|bit| value >> bit & 1 != 0) {
                    match feature::NAMES.iter().find(|(number, _)| *number == first + bit) {
                        Some((_, name)) => write!(f, "{comma}{name}")?,
                        None => write!(f, "{comma}feature {}", first + bit)?,
                    }
                    comma = ", ";
                }
                if comma.is_empty() { f.write_str("none") } else { Ok(()) }
            }
        }
    }
}

/// Prints every register that can be read of a virtio disk, and what the driver knows.
pub(crate) fn virtio(disk: &virtio::Disk) {
    const CAUSES: &[(u32, &str)] = &[
        (interrupt::USED_BUFFER, "a request has ended"),
        (interrupt::CONFIG_CHANGE, "the configuration has changed"),
    ];
    let window = disk.window();
    show(window, spec::MAGIC_VALUE, |value| match value {
        spec::MAGIC => Words::Text("\"virt\""),
        _ => Words::Text("not the magic of virtio-mmio"),
    });
    show(window, spec::DEVICE_VERSION, |value| match value {
        1 => Words::Text("the legacy register layout"),
        spec::VERSION => Words::Text("the modern register layout"),
        _ => Words::Text("unknown"),
    });
    show(window, spec::DEVICE_ID, |value| match value {
        0 => Words::Text("an empty slot"),
        spec::BLOCK_DEVICE => Words::Text("a block device"),
        _ => Words::Text("some other device"),
    });
    show(window, spec::VENDOR_ID, |value| match value {
        0x554d_4551 => Words::Text("\"QEMU\", which drivers look for"),
        _ => Words::Text("the maker of the device"),
    });
    spec::DEVICE_FEATURES_SEL.write(window, 0);
    let low = show(window, spec::DEVICE_FEATURES, |value| Words::Features(value, 0));
    spec::DEVICE_FEATURES_SEL.write(window, 1);
    show(window, spec::DEVICE_FEATURES, |value| Words::Features(value, 32));
    spec::QUEUE_SEL.write(window, 0);
    show(window, spec::QUEUE_NUM_MAX, |value| Words::Number(value, "entries at most in queue 0"));
    show(window, spec::QUEUE_READY, |value| match value {
        0 => Words::Text("queue 0 is not in use"),
        _ => Words::Text("queue 0 is in use"),
    });
    show(window, spec::INTERRUPT_STATUS, |value| Words::Bits(value, CAUSES));
    show(window, spec::STATUS, |value| match value {
        0 => Words::Text("reset: no driver yet"),
        _ => Words::Bits(value, &status::NAMES),
    });
    show(window, spec::CONFIG_GENERATION, |value| {
        Words::Number(value, "is the state of the configuration")
    });
    show(window, spec::CAPACITY_LOW, |value| Words::Number(value, "sectors of 512 bytes"));
    show(window, spec::CAPACITY_HIGH, |value| Words::Number(value, "times 2^32 sectors more"));
    for field in spec::FIELDS.iter().filter(|field| low >> field.feature & 1 != 0) {
        let (at, name) = (field.register.offset, field.register.name);
        let value = match field.width {
            1 => u32::from(window.read8(at)),
            2 => u32::from(window.read16(at)),
            _ => window.read32(at),
        };
        println!("  {at:#05x}  {name:<24} {value:#010x}  {value} {}", field.meaning);
    }
    let accepted = disk.config().accepted;
    println!(
        "  driver: {}queue of {}, {} requests, {} interrupts, waits by {}",
        if disk.is_live() { "" } else { "not set up, " },
        disk.queue_size(),
        disk.requests(),
        disk.interrupts(),
        if disk.wait() == Wait::Interrupt { "interrupt" } else { "polling" }
    );
    println!(
        "  driver has accepted: {}; {}",
        Words::Features((accepted & 0xffff_ffff) as u32, 0),
        Words::Features((accepted >> 32) as u32, 32)
    );
}

/// Prints every register of svirtb, and what the driver knows.
pub(crate) fn svirtb(device: &svirtb::Device) {
    let window = svirtb::window();
    for register in svirtb::REGISTERS {
        show(window, register, |value| match (register, value) {
            (svirtb::STATUS, svirtb::MAGIC) => Words::Text("\"virt\": fresh, no driver yet"),
            (svirtb::STATUS, svirtb::DRIVER_OK) => {
                Words::Text("DRIVER_OK: waits for the address of the ring")
            }
            (svirtb::STATUS, svirtb::READY) => Words::Text("READY: live"),
            (svirtb::STATUS, svirtb::RESET) => {
                Words::Text("RESET: the error state, until the driver resets it")
            }
            (svirtb::STATUS, _) => Words::Text("unknown"),
            (svirtb::QUEUE_SIZE, _) => Words::Number(value, "entries in the ring"),
            (svirtb::QUEUE_ADDR_HI, _) => Words::Text("ring address, bits 63..32"),
            (svirtb::QUEUE_ADDR_LO, _) => Words::Text("ring address, bits 31..0"),
            (svirtb::QUEUE_HEAD, _) => {
                Words::Number(value, "is where the driver puts its next entry")
            }
            (_, _) => Words::Number(value, "is the entry that the device does next"),
        });
    }
    let ring = device.ring();
    println!(
        "  driver: {}ring of {} entries, {} bytes each",
        if device.is_live() { "" } else { "not set up, " },
        ring.entries(),
        ring.stride().bytes()
    );
}
