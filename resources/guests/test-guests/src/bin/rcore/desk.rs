//! The crate with a keyboard, a mouse and a GPU, in this order on the command
//! line. The user who sits at them is the test on the host:
//!
//! 1. The guest shows a picture of the display's size, made of [`pixel`]s, with [`cursor`], and moves the cursor to 7,9.
//! 2. The user sends [`KEYS`] key events and [`MOVES`] motions; the guest checks each, and moves the cursor
//!    to 20,30.
//! 3. The user changes the size of the display; the guest follows, and shows the picture of the new size.

use rt::command_line::{self, VirtioSlot};
use rt::println;
use rt::wait::{DEVICE_LIMIT, Wait};
use scenario::{Failure, Outcome, Report, ensure, ensure_eq, fail};
use virtio_drivers::device::gpu::VirtIOGpu;
use virtio_drivers::device::input::{InputEvent, VirtIOInput};
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, InterruptStatus};

use crate::hal::{Identity, checked, transport};

pub(super) type Input = VirtIOInput<Identity, MmioTransport<'static>>;
pub(super) type Gpu = VirtIOGpu<Identity, MmioTransport<'static>>;

/// The number of key events.
const KEYS: u32 = 6000;
/// The number of motions, of two axes each.
const MOVES: u32 = 2000;
/// The bytes of a cursor's picture.
const CURSOR_BYTES: usize = 64 * 64 * 4;

/// The pixel at `x`, `y`, as 0x00RRGGBB.
const fn pixel(x: u32, y: u32) -> u32 {
    (x & 0xff) << 16 | (y & 0xff) << 8 | (((x ^ y) * 5) & 0xff)
}

/// Fills the picture of the cursor, in B8G8R8A8.
fn cursor(bytes: &mut [u8; CURSOR_BYTES]) {
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = (n % 253) as u8;
    }
}

/// Key event `n`: the key, and 1 or 0.
const fn key(n: u32) -> (u16, u16) {
    ((1 + n / 2 % 83) as u16, (1 - n % 2) as u16)
}

/// Motion `n`: to the right, and down.
const fn motion(n: u32) -> (i32, i32) {
    (n as i32 + 1, -(n as i32) - 1)
}

const EV_SYN: u16 = 0;
const EV_KEY: u16 = 1;
const EV_REL: u16 = 2;

pub(super) fn input(slot: VirtioSlot) -> Result<Input, Failure> {
    checked("new", VirtIOInput::new(transport(slot, DeviceType::Input)?))
}

/// Runs the scenarios.
pub(super) fn play(report: &mut Report) {
    let mut slots = command_line::virtio_slots();
    let (Some(keyboard), Some(mouse), Some(gpu)) = (slots.next(), slots.next(), slots.next())
    else {
        report.run("find-the-devices", || fail!("there are not three virtio_mmio.device="));
        return;
    };
    let mut opened = None;
    report.run("init", || {
        let gpu = checked("new", Gpu::new(transport(gpu, DeviceType::GPU)?))?;
        opened = Some((input(keyboard)?, input(mouse)?, gpu));
        Ok(())
    });
    let Some((mut keyboard, mut mouse, mut gpu)) = opened else { return };
    report.run("names", || names(&mut keyboard, &mut mouse));
    report.run("picture", || {
        let (width, height) = checked("resolution", gpu.resolution())?;
        let preferred = checked("edid", gpu.edid_preferred_resolution())?;
        ensure!(preferred == (width, height), "the EDID prefers {preferred:?}");
        println!("display {width}x{height}");
        show(&mut gpu, width, height)?;
        let mut image = [0; CURSOR_BYTES];
        cursor(&mut image);
        checked("setup_cursor", gpu.setup_cursor(&image, 1, 2, 3, 4))?;
        checked("move_cursor", gpu.move_cursor(7, 9))
    });
    report.run("events", || {
        events(&mut keyboard, &mut mouse)?;
        checked("move_cursor", gpu.move_cursor(20, 30))
    });
    report.run("another-size", || {
        let mut interrupt = false;
        let came = Wait::Poll.until(DEVICE_LIMIT, || {
            interrupt |=
                gpu.ack_interrupt().contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
            interrupt
        });
        ensure!(came, "no interrupt for the configuration");
        let (width, height) = checked("resolution", gpu.resolution())?;
        println!("display {width}x{height}");
        show(&mut gpu, width, height)
    });
    // The driver would reset the device, and the picture would go.
    core::mem::forget(gpu);
}

/// What drivers and users recognize the devices by.
fn names(keyboard: &mut Input, mouse: &mut Input) -> Outcome {
    for (device, name, product) in
        [(keyboard, "QEMU Virtio Keyboard", 1), (mouse, "QEMU Virtio Mouse", 2)]
    {
        let found = checked("name", device.name())?;
        ensure!(found == name, "the name is {found}");
        let ids = checked("ids", device.ids())?;
        ensure!(
            (ids.bustype, ids.vendor, ids.product) == (6, 0x627, product),
            "the ids are {ids:x?}"
        );
        println!("serial {}", checked("serial_number", device.serial_number())?);
        let keys = checked("ev_bits", device.ev_bits(EV_KEY as u8))?;
        let wanted = if product == 1 { 29 } else { 43 };
        ensure_eq!(keys.len() as u64, wanted, "bytes for the keys of {name}");
        ensure!(checked("prop_bits", device.prop_bits())?.is_empty(), "{name} has properties");
        ensure!(device.abs_info(0).is_err(), "{name} has an absolute axis");
    }
    Ok(())
}

/// Draws the picture of this size, and waits until it is on the screen.
pub(super) fn show(gpu: &mut Gpu, width: u32, height: u32) -> Outcome {
    let bytes = checked("change_resolution", gpu.change_resolution(width, height))?;
    for (n, to) in bytes.chunks_exact_mut(4).take((width * height) as usize).enumerate() {
        let n = n as u32;
        // B8G8R8A8, with any alpha.
        let [b, g, r, _] = pixel(n % width, n / width).to_le_bytes();
        to.copy_from_slice(&[b, g, r, n as u8]);
    }
    checked("flush", gpu.flush())
}

/// Takes all events of the user, and checks each.
fn events(keyboard: &mut Input, mouse: &mut Input) -> Outcome {
    let (mut keys, mut moves) = (0, 0);
    while keys < KEYS || moves < MOVES {
        let mut event = None;
        let came = Wait::Poll.until(DEVICE_LIMIT, || {
            let key = keyboard.pop_pending_event().map(|event| (true, event));
            event = key.or_else(|| mouse.pop_pending_event().map(|event| (false, event)));
            event.is_some()
        });
        keyboard.ack_interrupt();
        mouse.ack_interrupt();
        let Some((is_key, first)) = event.filter(|_| came) else {
            fail!("no event after {keys} keys and {moves} motions");
        };
        if is_key {
            let (code, value) = key(keys);
            check(&first, EV_KEY, code, value.into(), keys)?;
            keys += 1;
            check(&next(keyboard)?, EV_SYN, 0, 0, keys)?;
        } else {
            let (x, y) = motion(moves);
            check(&first, EV_REL, 0, x.cast_unsigned(), moves)?;
            check(&next(mouse)?, EV_REL, 1, y.cast_unsigned(), moves)?;
            moves += 1;
            check(&next(mouse)?, EV_SYN, 0, 0, moves)?;
        }
    }
    println!("events {keys} {moves}");
    Ok(())
}

/// The rest of a group is there as soon as its first event is.
fn next(input: &mut Input) -> Result<InputEvent, Failure> {
    input.pop_pending_event().ok_or_else(|| Failure::format(format_args!("half a group")))
}

fn check(event: &InputEvent, kind: u16, code: u16, value: u32, n: u32) -> Outcome {
    let InputEvent { event_type, code: seen, value: with } = *event;
    ensure!(
        (event_type, seen, with) == (kind, code, value),
        "event {n} is {event_type} {seen} {with}, not {kind} {code} {value}"
    );
    Ok(())
}
