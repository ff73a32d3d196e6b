//! The built-in shell on a GPU's display, typed to by a virtio keyboard: `resources/guests/shell`.
//!
//! What the display must show is drawn here with the shell's own font, and compared pixel by pixel.

#[path = "../../resources/guests/shell/src/font.rs"]
mod font;
#[path = "../../resources/guests/shell/src/keyboard.rs"]
#[allow(dead_code, reason = "only the keys of its characters are looked up here")]
mod keyboard;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cafevm::config::{Display, OtherDevice, Peripherals, User};
use cafevm_devices::display::{Picture, Screen};
use cafevm_devices::virtio::gpu::GpuOptions;
use cafevm_devices::virtio::input::{Input, InputEvent, InputKind};
use cafevm_guest_tests::{Failed, Guest, Outcome, Run, SECTOR, Scratch, ensure, fail, sectors};
use font::{HEIGHT, WIDTH, glyph};
use keyboard::Keyboard;

cafevm_guest_tests::tests! {
    all_that_is_printed,
    thousands_of_lines,
    typed_to,
    faster_than_it_reads,
    a_long_line,
    another_size,
    little_memory_for_pictures,
    the_pointer,
    a_keyboard_without_a_screen,
}

/// Light grey, as the shell's text is.
const TEXT: u32 = 0x00d0_d0d0;
const LIMIT: Duration = Duration::from_secs(60);

const KEY_LEFT_CTRL: u16 = 29;
const KEY_LEFT_SHIFT: u16 = 42;
const KEY_CAPS_LOCK: u16 = 58;
const KEY_HOME: u16 = 102;
const KEY_LEFT: u16 = 105;
const KEY_END: u16 = 107;
const KEY_DELETE: u16 = 111;

/// The picture of the text's last lines, and of the cursor behind them: row by row.
fn drawn(text: &str, (width, height): (usize, usize)) -> Vec<u32> {
    let (columns, rows) = (width / WIDTH, height / HEIGHT);
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    for byte in text.bytes() {
        match byte {
            b'\n' => {}
            b'\x08' => drop(line.pop()),
            byte => line.push(byte),
        }
        if byte == b'\n' || line.len() == columns {
            lines.push(std::mem::take(&mut line));
        }
    }
    let cursor = line.len();
    lines.push(line);
    let mut pixels = vec![0; width * height];
    let first = lines.len().saturating_sub(rows);
    let last = lines.len() - 1 - first;
    let mut draw = |row: usize, column: usize, character: u8, inverse: u8| {
        for (y, bits) in glyph(character).iter().enumerate() {
            for x in (0..WIDTH).filter(|x| (bits ^ inverse) << x & 0x80 != 0) {
                pixels[(row * HEIGHT + y) * width + column * WIDTH + x] = TEXT;
            }
        }
    };
    for (row, line) in lines[first..].iter().enumerate() {
        for (column, character) in line.iter().enumerate() {
            draw(row, column, *character, 0);
        }
    }
    draw(last, cursor, b' ', 0xff);
    pixels
}

/// The text in a picture, for a message: the cursor as an underscore, what is no glyph as a question mark.
fn read(picture: &Picture) -> String {
    let cell = |column: usize, row: usize| {
        let bits: Vec<u8> = (0..HEIGHT)
            .map(|y| {
                let start = (row * HEIGHT + y) * picture.width() as usize + column * WIDTH;
                let pixels = picture.pixels()[start..start + WIDTH].iter();
                pixels.fold(0, |bits, pixel| bits << 1 | u8::from(*pixel != 0))
            })
            .collect();
        if bits == [0xff; HEIGHT] {
            return '_';
        }
        (b' '..=0x7f).find(|character| glyph(*character)[..] == bits).map_or('?', char::from)
    };
    let (columns, rows) = (picture.width() as usize / WIDTH, picture.height() as usize / HEIGHT);
    let line = |row| (0..columns).map(|column| cell(column, row)).collect::<String>();
    (0..rows).map(|row| format!("{}\n", line(row).trim_end())).collect()
}

/// Fails unless the screen shows the last lines of `text`, and the cursor behind them.
fn shows(screen: &Screen, text: &str, size: (u32, u32)) -> Outcome {
    let wanted = drawn(text, (size.0 as usize, size.1 as usize));
    screen.look(|picture, _| {
        let seen = (picture.width(), picture.height());
        ensure!(seen == size, "the screen has {seen:?} pixels, not {size:?}");
        if let Some(at) = picture.pixels().iter().zip(&wanted).position(|(a, b)| a != b) {
            let (x, y) = (at % size.0 as usize, at / size.0 as usize);
            fail!("pixel {x},{y} differs. The screen:\n{}\nThe text:\n{text}", read(picture));
        }
        Ok(())
    })
}

/// Waits until the screen does so.
fn wait_until_shown(screen: &Screen, text: &str, size: (u32, u32)) -> Outcome {
    wait_until(|| shows(screen, text, size))
}

fn wait_until(looks_right: impl Fn() -> Outcome) -> Outcome {
    let end = Instant::now() + LIMIT;
    loop {
        match looks_right() {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            outcome => return outcome,
        }
    }
}

/// A person before the machine.
struct Person {
    display: Option<Display>,
    inputs: Vec<Arc<Input>>,
    size: (u32, u32),
    /// What the screen must show.
    text: String,
}

impl Person {
    fn screen(&self) -> Result<Screen, Failed> {
        Ok(self.display.as_ref().ok_or("there is no display")?.screen())
    }

    /// Waits until the screen shows the text, and `more` behind it.
    fn sees(&mut self, more: &str) -> Outcome {
        self.text += more;
        wait_until_shown(&self.screen()?, &self.text, self.size)
    }

    /// Presses a key while others are held.
    fn press(&self, held: &[u16], key: u16) {
        let Some(keyboard) = self.inputs.first() else { return };
        for key in held.iter().chain([&key]) {
            keyboard.send(&[InputEvent::key(*key, true)]);
        }
        for key in [key].iter().chain(held.iter().rev()) {
            keyboard.send(&[InputEvent::key(*key, false)]);
        }
    }

    /// Types a text, with shift where a character needs it.
    fn types(&self, text: &str) {
        for byte in text.bytes() {
            let wanted = if byte == b'\n' { b'\r' } else { byte };
            let sent = |held: &[u16], key: u16| {
                let mut keyboard = Keyboard::new();
                held.iter().for_each(|key| assert!(keyboard.take(*key, 1).is_none()));
                keyboard.take(key, 1).is_some_and(|bytes| bytes.as_slice() == [wanted])
            };
            let ways: [&[u16]; 2] = [&[], &[KEY_LEFT_SHIFT]];
            for (held, key) in ways.iter().flat_map(|held| (0..100).map(move |key| (held, key))) {
                if sent(held, key) {
                    self.press(held, key);
                    break;
                }
            }
        }
    }
}

/// The shell's first lines with a disk of 64 sectors, a screen of `size` and these input devices; and its prompt.
fn hello((width, height): (u32, u32), inputs: &[InputKind]) -> String {
    let (columns, rows) = (width as usize / WIDTH, height as usize / HEIGHT);
    let mut text = format!(
        "cafevm shell: a block shell on the bare machine. 'help' lists its commands.\n  \
           virtio 0 at 0xfeb00000, interrupt line 5: 64 sectors (32 KiB)\n  \
           gpu at 0xfeb00200, interrupt line 6: {width}x{height} pixels, {columns} columns, {rows} rows\n"
    );
    let places = (0xfeb0_0400_u32..).step_by(0x200).zip(7..);
    for (kind, (address, line)) in inputs.iter().zip(places) {
        let name = kind.product_name();
        text += &format!("  {kind} at {address:#x}, interrupt line {line}: \"{name}\", 0 events\n");
    }
    text + "in use: virtio 0\ncafevm> "
}

/// Runs the guest with a display of this size and a person before it, and returns what came of both.
fn run(
    guest: Guest,
    gpu: Option<(u32, u32)>,
    inputs: &[InputKind],
    acts: impl FnOnce(&mut Person) -> Outcome + Send + 'static,
) -> Result<(Run, Person), Failed> {
    let options = gpu.map(|(width, height)| GpuOptions { width, height, ..GpuOptions::default() });
    run_with(guest, options, inputs, acts)
}

/// The same with any GPU.
fn run_with(
    guest: Guest,
    options: Option<GpuOptions>,
    inputs: &[InputKind],
    acts: impl FnOnce(&mut Person) -> Outcome + Send + 'static,
) -> Result<(Run, Person), Failed> {
    let (to, from) = mpsc::channel::<Peripherals>();
    let user = User::new(move |peripherals| drop(to.send(peripherals)));
    let size = options.map(|gpu| (gpu.width, gpu.height)).unwrap_or_default();
    let all = inputs.iter().map(|kind| OtherDevice::Input(*kind));
    let others = options.map(OtherDevice::Gpu).into_iter().chain(all).collect();
    let text = hello(size, inputs);
    let person = thread::spawn(move || {
        let Ok(Peripherals { display, inputs, .. }) = from.recv() else {
            fail!("the machine did not start")
        };
        let mut person = Person { display, inputs, size, text };
        acts(&mut person)?;
        Ok(person)
    });
    let run = guest.with(|config| {
        config.others = others;
        config.user = Some(user);
    });
    let run = run.run();
    let person = person.join().map_err(|_| "the person panicked")?;
    // The person's failure is most often why the machine ran into its limit.
    let person = person?;
    Ok((run?, person))
}

/// A person who does nothing.
fn watches(_: &mut Person) -> Outcome {
    Ok(())
}

fn all_that_is_printed() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    // Whole cells, parts of cells, and hardly any.
    for size in [(1024, 768), (800, 600), (1027, 701), (80, 40), (17, 16)] {
        let guest = Guest::shell("help; list; write 2 {~}; read 2; status; help; exit");
        let inputs = [InputKind::Keyboard, InputKind::Tablet, InputKind::Mouse];
        let (run, person) = run(guest.virtio(&image), Some(size), &inputs, watches)?;
        run.powered_off()?;
        ensure!(run.text.starts_with(&hello(size, &inputs)), "{run}");
        ensure!(
            run.text.matches(" tablet at 0xfeb00600, interrupt line 8: ").count() == 2,
            "{run}"
        );
        shows(&person.screen()?, &run.text, size)?;
    }
    Ok(())
}

/// Far more than the host has room for, with a few paintings in between.
fn thousands_of_lines() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let size = (640, 350);
    let guest = Guest::shell("read 0 64; sum 0 64; exit").virtio(&image);
    let (run, person) = run(guest, Some(size), &[], watches)?;
    run.powered_off()?;
    ensure!(run.text.lines().count() > 2000, "{run}");
    shows(&person.screen()?, &run.text, size)
}

fn typed_to() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let inputs = [InputKind::Keyboard];
    let guest = Guest::new(cafevm_resources::SHELL).virtio(&image);
    let (run, _) = run(guest, Some((1024, 768)), &inputs, |person| {
        person.sees("")?;
        person.types("write 1 ~Ab_|9 \"!?\"");
        person.sees("write 1 ~Ab_|9 \"!?\"")?;
        person.types("\n");
        person.sees("\nwrote sector 1 of virtio 0: 11 bytes of text, then zeros\ncafevm> ")?;
        // Caps lock, and its light.
        person.press(&[], KEY_CAPS_LOCK);
        let keyboard = person.inputs[0].clone();
        wait_until(|| {
            ensure!(keyboard.leds().caps_lock, "the light of caps lock is off");
            Ok(())
        })?;
        person.types("wR7");
        person.press(&[], KEY_CAPS_LOCK);
        person.sees("Wr7")?;
        // The last two gone, then edited at both ends; completed by tab.
        person.types("\x7f\x7f");
        person.press(&[], KEY_HOME);
        person.types("x");
        person.press(&[], KEY_DELETE);
        person.press(&[], KEY_END);
        person.press(&[], KEY_LEFT);
        person.press(&[], KEY_DELETE);
        person.types("wr\t2 ends");
        person.sees("\x08\x08\x08write 2 ends")?;
        person.types("\n");
        person.sees("\nwrote sector 2 of virtio 0: 4 bytes of text, then zeros\ncafevm> ")?;
        ensure!(!keyboard.leds().caps_lock, "the light of caps lock is on");
        person.types("fill 0 0 64");
        person.press(&[KEY_LEFT_CTRL], 46);
        person.sees("fill 0 0 64^C\ncafevm> ")?;
        // The end of the input.
        person.press(&[KEY_LEFT_CTRL], 32);
        Ok(())
    })?;
    run.powered_off()?;
    image.holds(|wanted| {
        for (sector, text) in (1..).zip(["~Ab_|9 \"!?\"", "ends"]) {
            let bytes = &mut wanted[sectors(sector..sector + 1)];
            bytes.fill(0);
            bytes[..text.len()].copy_from_slice(text.as_bytes());
        }
    })
}

/// As many keys at once as the device keeps for a guest that is not quick.
fn faster_than_it_reads() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let guest = Guest::new(cafevm_resources::SHELL).virtio(&image);
    let text = "the quick brown fox jumps over the lazy dog 0123456789 ".repeat(2);
    let line = format!("write 9 {text}{text}!");
    let wanted = line.clone();
    let (run, person) = run(guest, Some((1024, 768)), &[InputKind::Keyboard], move |person| {
        person.sees("")?;
        person.types(&line);
        person.types("\n");
        person.sees(&format!(
            "{line}\nwrote sector 9 of virtio 0: 221 bytes of text, then zeros\ncafevm> "
        ))?;
        person.types("exit\n");
        Ok(())
    })?;
    run.powered_off()?;
    ensure!(run.text.contains(&wanted), "{run}");
    ensure!(person.inputs[0].dropped() == 0, "{} updates were dropped", person.inputs[0].dropped());
    Ok(())
}

/// A line that takes several rows is edited in its first.
fn a_long_line() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let guest = Guest::new(cafevm_resources::SHELL).virtio(&image);
    let (run, _) = run(guest, Some((320, 200)), &[InputKind::Keyboard], |person| {
        person.sees("")?;
        let rest = "rite 3 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789";
        person.types(rest);
        person.press(&[], KEY_HOME);
        person.types("w");
        person.press(&[], KEY_END);
        person.types("\x7f!\n");
        let line = rest.strip_suffix('9').unwrap_or(rest);
        person.sees(&format!(
            "w{line}!\nwrote sector 3 of virtio 0: 65 bytes of text, then zeros\ncafevm> "
        ))?;
        person.types("exit\n");
        Ok(())
    })?;
    run.powered_off()
}

/// The display has another size while the shell waits, runs, and waits again.
fn another_size() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let guest = Guest::new(cafevm_resources::SHELL).virtio(&image);
    let (run, person) = run(guest, Some((640, 480)), &[InputKind::Keyboard], |person| {
        person.sees("")?;
        for size in [(1280, 720), (640, 100), (1023, 767), (4095, 2160), (640, 480)] {
            let display = person.display.clone().ok_or("there is no display")?;
            display.set_size(size.0, size.1);
            person.size = size;
            person.sees("")?;
            person.types("dev virtio\n");
            person.sees("dev virtio\nin use: virtio 0, 64 sectors (32 KiB)\ncafevm> ")?;
        }
        person.types("exit\n");
        Ok(())
    })?;
    run.powered_off()?;
    shows(&person.screen()?, &run.text, (640, 480))
}

/// The host has room for one screen, but not for several; and not even for that.
fn little_memory_for_pictures() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    for (max_host_memory, enough) in [(2 << 20, true), (1 << 20, false)] {
        let (width, height) = (640, 480);
        let gpu = GpuOptions { width, height, max_host_memory };
        let guest = Guest::shell("help; list; read 0 2; help; exit").virtio(&image);
        let (run, person) = run_with(guest, Some(gpu), &[], watches)?;
        run.powered_off()?;
        ensure!(
            run.text.contains("interrupt line 6: it answered 0x1201 (ERR_OUT") != enough,
            "{run}"
        );
        if enough {
            shows(&person.screen()?, &run.text, (width, height))?;
        }
    }
    Ok(())
}

fn the_pointer() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let guest = Guest::new(cafevm_resources::SHELL).virtio(&image);
    let inputs = [InputKind::Keyboard, InputKind::Tablet, InputKind::Mouse];
    let (run, _) = run(guest, Some((1000, 500)), &inputs, |person| {
        person.sees("")?;
        let screen = person.screen()?;
        ensure!(screen.look(|_, cursor| cursor.image.is_none()), "there is a pointer already");
        let is_at = |x, y| {
            wait_until(|| {
                screen.look(|_, cursor| {
                    ensure!((cursor.x, cursor.y) == (x, y), "it is not at {x},{y}: {cursor:?}");
                    let image = cursor.image.as_ref().ok_or("there is no pointer")?;
                    ensure!(
                        (image.hot_x, image.hot_y) == (0, 0),
                        "{} {}",
                        image.hot_x,
                        image.hot_y
                    );
                    // Its edge is black, its inside white, and around it there is nothing.
                    let pixel = |x: usize, y: usize| image.pixels[y * 64 + x];
                    let seen = [pixel(0, 0), pixel(1, 2), pixel(20, 2)];
                    ensure!(seen == [0xff00_0000, 0xffff_ffff, 0], "{seen:#x?}");
                    Ok(())
                })
            })
        };
        let [_, tablet, mouse] = &person.inputs[..] else { fail!("three input devices") };
        let axes = |x, y| [InputEvent::abs(0, x), InputEvent::abs(1, y)];
        let motion = |x, y| [InputEvent::rel(0, x), InputEvent::rel(1, y)];
        tablet.send(&axes(0x4000, 0x4000));
        is_at(500, 250)?;
        tablet.send(&axes(0x7fff, 0x7fff));
        is_at(999, 499)?;
        mouse.send(&motion(-99, -9));
        is_at(900, 490)?;
        mouse.send(&motion(-2000, 2000));
        is_at(0, 499)?;
        mouse.send(&[InputEvent::rel(0, 7)]);
        is_at(7, 499)?;
        tablet.send(&axes(0, 0));
        is_at(0, 0)?;
        person.types("exit\n");
        Ok(())
    })?;
    run.powered_off()
}

fn a_keyboard_without_a_screen() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let guest = Guest::shell("help").virtio(&image);
    let inputs = [InputKind::Mouse, InputKind::Keyboard];
    let (run, _) = run(guest, None, &inputs, |person| {
        // There is no screen to look at: until a driver has set the keyboard up, updates are dropped.
        person.inputs.reverse();
        let keyboard = person.inputs[0].clone();
        wait_until(|| {
            let dropped = keyboard.dropped();
            person.press(&[], KEY_LEFT);
            ensure!(keyboard.dropped() == dropped, "no driver takes what is typed");
            Ok(())
        })?;
        person.types("write 5 blind\nexit 4\n");
        Ok(())
    })?;
    run.ended(4)?;
    ensure!(
        run.text.contains("cafevm> write 5 blind\nwrote sector 5 of virtio 0: 5 bytes"),
        "{run}"
    );
    Ok(())
}
