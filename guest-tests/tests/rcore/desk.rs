//! A user at keyboard, mouse and display: a thread of the test.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cafevm::config::{OtherDevice, Peripherals, User};
use cafevm_devices::display::{Cursor, Picture};
use cafevm_devices::virtio::gpu::GpuOptions;
use cafevm_devices::virtio::input::{Input, InputEvent, InputKind};
use cafevm_devices::virtio::mmio::Version;
use cafevm_devices::virtio::spec::input::{REL_X, REL_Y};
use cafevm_guest_tests::{Guest, Outcome, ensure, fail};
use cafevm_resources::test_guests::RCORE;

/// How long the user waits for the guest.
const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: u16 = 6000;
const MOVES: i32 = 2000;

pub(super) fn every_event_and_every_pixel() -> Outcome {
    play(Version::Modern)
}

pub(super) fn legacy() -> Outcome {
    play(Version::Legacy)
}

fn play(version: Version) -> Outcome {
    let user = Arc::new(Mutex::new(None));
    let seat = user.clone();
    let sits_down = move |peripherals: Peripherals| {
        let thread = thread::spawn(move || use_machine(&peripherals));
        *seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    };
    let gpu = GpuOptions { width: 160, height: 120, ..GpuOptions::default() };
    let run = Guest::new(RCORE)
        .cmdline("t=desk")
        .with(|config| {
            config.virtio.version = version;
            let inputs = [InputKind::Keyboard, InputKind::Mouse].map(OtherDevice::Input);
            config.others = [&inputs[..], &[OtherDevice::Gpu(gpu)]].concat();
            config.user = Some(User::new(sits_down));
        })
        .run()?;
    let thread: Option<JoinHandle<_>> = user.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(thread) = thread else { fail!("the machine did not start: {run}") };
    let used = thread.join().unwrap_or_else(|_| fail!("the user panicked"));
    run.passed(&["init", "names", "picture", "events", "another-size"])?;
    let machine = used?;
    for line in [
        "serial cafevm-keyboard0",
        "serial cafevm-mouse1",
        "display 160x120",
        "events 6000 2000",
        "display 200x96",
    ] {
        run.printed(line)?;
    }
    for input in &machine.inputs {
        ensure!(input.dropped() == 0, "{} groups were dropped", input.dropped());
    }
    let Some(display) = &machine.display else { fail!("there is no display") };
    display.screen().look(|picture, _| is_shown(picture, 200, 96))
}

/// What the user does. Returns the devices.
fn use_machine(machine: &Peripherals) -> Result<Peripherals, cafevm_guest_tests::Failed> {
    let ([keyboard, mouse], Some(display)) = (&machine.inputs[..], &machine.display) else {
        fail!("the machine has {machine:?}");
    };
    let screen = display.screen();
    wait("the cursor", || screen.look(|_, cursor| (cursor.x, cursor.y) == (7, 9)))?;
    screen.look(|picture, cursor| {
        is_shown(picture, 160, 120)?;
        is_pointer(cursor)
    })?;
    thread::scope(|scope| {
        scope.spawn(|| (0..KEYS).for_each(|n| send(keyboard, &[key(n)])));
        scope.spawn(|| (0..MOVES).for_each(|n| send(mouse, &motion(n))));
    });
    wait("the cursor", || screen.look(|_, cursor| (cursor.x, cursor.y) == (20, 30)))?;
    display.set_size(200, 96);
    Ok(machine.clone())
}

/// Sends a group, as fast as the guest takes them.
fn send(input: &Input, group: &[InputEvent]) {
    let begin = Instant::now();
    while input.waiting() > 512 && begin.elapsed() < PATIENCE {
        thread::yield_now();
    }
    input.send(group);
}

const fn key(n: u16) -> InputEvent {
    InputEvent::key(1 + n / 2 % 83, n.is_multiple_of(2))
}

const fn motion(n: i32) -> [InputEvent; 2] {
    [InputEvent::rel(REL_X, n + 1), InputEvent::rel(REL_Y, -n - 1)]
}

fn wait(what: &str, mut done: impl FnMut() -> bool) -> Outcome {
    let begin = Instant::now();
    while !done() {
        ensure!(begin.elapsed() < PATIENCE, "{what} did not get there in time");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether this is the guest's picture of this size, pixel by pixel.
fn is_shown(picture: &Picture, width: u32, height: u32) -> Outcome {
    let size = (picture.width(), picture.height());
    ensure!(size == (width, height), "the picture has {size:?}, not {width}x{height}");
    for (n, seen) in (0..).zip(picture.pixels()) {
        let (x, y) = (n % width, n / width);
        let wanted = (x & 0xff) << 16 | (y & 0xff) << 8 | (((x ^ y) * 5) & 0xff);
        ensure!(*seen == wanted, "the pixel at {x},{y} is {seen:#x}, not {wanted:#x}");
    }
    Ok(())
}

/// Whether this is the guest's cursor.
fn is_pointer(cursor: &Cursor) -> Outcome {
    let Some(image) = &cursor.image else { fail!("the cursor has no picture") };
    ensure!((image.hot_x, image.hot_y) == (3, 4), "it points with {},{}", image.hot_x, image.hot_y);
    let bytes: Vec<_> = image.pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let differs = bytes.iter().enumerate().find(|(n, byte)| usize::from(**byte) != n % 253);
    ensure!(differs.is_none(), "the first other byte of the cursor is {differs:?}");
    Ok(())
}
