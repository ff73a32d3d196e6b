//! A keyboard, a tablet and a GPU, in this order on the command line. The guest shows the picture of `desk.rs`, then prints
//! each group of events as a line, until Escape is released: `key CODE VALUE`, `abs AXIS VALUE`, `rel AXIS VALUE`, with
//! spaces between.

use rt::command_line;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{print, println};
use scenario::{Report, fail};
use virtio_drivers::device::input::InputEvent;
use virtio_drivers::transport::DeviceType;

use crate::desk::{Gpu, Input, input, show};
use crate::hal::{checked, transport};

const EV_SYN: u16 = 0;
const ESCAPE_UP: (u16, u16, u32) = (1, 1, 0);

/// Runs the scenario.
pub(super) fn play(report: &mut Report) {
    let mut slots = command_line::virtio_slots();
    let (Some(keyboard), Some(tablet), Some(gpu)) = (slots.next(), slots.next(), slots.next())
    else {
        report.run("find-the-devices", || fail!("there are not three virtio_mmio.device="));
        return;
    };
    report.run("typed", || {
        let mut gpu = checked("new", Gpu::new(transport(gpu, DeviceType::GPU)?))?;
        let (mut keyboard, mut tablet) = (input(keyboard)?, input(tablet)?);
        let (width, height) = checked("resolution", gpu.resolution())?;
        show(&mut gpu, width, height)?;
        println!("ready");
        print_events(&mut keyboard, &mut tablet);
        // The driver would reset the device, and the picture would go.
        core::mem::forget(gpu);
        Ok(())
    });
}

/// The user may take any time; the machine has a limit of its own.
fn print_events(keyboard: &mut Input, tablet: &mut Input) {
    loop {
        let mut event = None;
        let _came = Wait::Poll.until(DEVICE_LIMIT, || {
            // The keyboard has the last event of all.
            event = tablet.pop_pending_event().map(|event| (false, event));
            event = event.or_else(|| keyboard.pop_pending_event().map(|event| (true, event)));
            event.is_some()
        });
        keyboard.ack_interrupt();
        tablet.ack_interrupt();
        let Some((is_key, event)) = event else { continue };
        let mut rest = Some(event);
        while let Some(InputEvent { event_type, code, value }) = rest {
            let name = match event_type {
                EV_SYN => break,
                1 => "key",
                2 => "rel",
                3 => "abs",
                _ => "other",
            };
            print!("{name} {code} {} ", value.cast_signed());
            // The rest of a group is there as soon as its first event is.
            let device = if is_key { &mut *keyboard } else { &mut *tablet };
            rest = device.pop_pending_event();
        }
        println!();
        if (event.event_type, event.code, event.value) == ESCAPE_UP {
            return;
        }
    }
}
