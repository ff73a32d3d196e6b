//! Keyboards, mice and tablets: their events are taken where the interrupt arrives. What is typed on a keyboard is as if
//! it came over the serial line.

use drivers::Quiet;
use drivers::virtio::spec::input::{EV_KEY, LED_CAPS_LOCK};
use drivers::virtio::{Error, Event, Input, Kind};
use rt::command_line::VirtioSlot;
use rt::interrupts::{self, LINES};
use rt::lock::Lock;
use rt::{console, println};

use crate::keyboard::Keyboard;
use crate::pointer;

/// As many as there are interrupt lines.
const INPUTS_MAX: usize = 24;

struct Device {
    input: Input,
    keyboard: Keyboard,
    error: Option<Error>,
}

/// Taken by the interrupt handler, or with interrupts off.
static INPUTS: Lock<[Option<Device>; INPUTS_MAX]> = Lock::new([const { None }; INPUTS_MAX]);

/// Sets the input device of `slot` up.
pub(crate) fn open(slot: VirtioSlot) {
    let Some(mut input) = Input::new(slot) else { return };
    let error = input.handshake(&mut Quiet).err();
    let place = interrupts::without(|| {
        INPUTS.with(|inputs| {
            let (n, place) = inputs.iter_mut().enumerate().find(|(_, place)| place.is_none())?;
            *place = Some(Device { input, keyboard: Keyboard::new(), error });
            (error.is_none() && slot.line < LINES).then_some(n)
        })
    });
    if let Some(n) = place {
        interrupts::handle(slot.line, interrupted, n as u64);
        // What came before is no edge any more.
        interrupts::without(|| interrupted(n as u64));
    }
}

/// Prints what there is, a line for each.
pub(crate) fn list() {
    for n in 0..INPUTS_MAX {
        let line = interrupts::without(|| {
            INPUTS.with(|inputs| {
                inputs[n].as_ref().map(|device| {
                    (
                        device.input.kind(),
                        device.input.window().base(),
                        device.input.line(),
                        device.input.name(),
                        device.input.received(),
                        device.error,
                    )
                })
            })
        });
        let Some((kind, base, line, name, received, error)) = line else { return };
        let kind = match kind {
            Kind::Keyboard => "keyboard",
            Kind::Mouse => "mouse",
            Kind::Tablet => "tablet",
        };
        match error {
            None => println!(
                "  {kind} at {base:#x}, interrupt line {line}: \"{name}\", {received} events"
            ),
            Some(error) => println!("  input device at {base:#x}, interrupt line {line}: {error}"),
        }
    }
}

fn interrupted(n: u64) {
    INPUTS.try_with(|inputs| {
        let device = usize::try_from(n).ok().and_then(|n| inputs.get_mut(n)?.as_mut());
        if let Some(Device { input, keyboard, .. }) = device {
            input.receive(|input, event| take(input, keyboard, event));
        }
    });
}

fn take(input: &mut Input, keyboard: &mut Keyboard, event: Event) {
    if event.kind != EV_KEY {
        return pointer::event(input, event);
    }
    let before = keyboard.caps_lock();
    if let Some(bytes) = keyboard.take(event.code, event.value) {
        console::feed(bytes.as_slice());
    }
    if keyboard.caps_lock() != before {
        input.light(LED_CAPS_LOCK, !before);
    }
}
