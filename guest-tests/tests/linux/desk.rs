//! A keyboard, a mouse, a tablet and a display, as Debian's kernel for any machine finds them; typed on, and looked at,
//! through VNC by the outer machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cafevm_guest_tests::{Failed, Outcome, ensure, fail};

use crate::disk;
use crate::kernel::Form;
use crate::scene::{Played, Scene};

/// Its 40 events fit into evdev's buffer of 64, however late the reader is.
const SENTENCE: &str = "quick fox\r";
/// What the first boot shows, and the second after something else.
const TEXT: &str = "the-same-text";
const OTHER: &str = "another-text!";
/// The display.
const WIDTH: u16 = 800;
const HEIGHT: u16 = 600;
/// A client of RFB 3.8 begins with its version, no security, and a shared session.
const HELLO: &[u8] = b"RFB 003.008\n\x01\x01";

/// What is typed is read, and the text of a console is seen: the same after another boot, and another one differs.
pub(crate) fn keyboard_and_display(name: &str) -> Outcome {
    let scene = Scene {
        name: name.to_owned(),
        forms: vec![Form::Generic],
        files: Vec::new(),
        go: script(),
        typed: Vec::new(),
        limit: Duration::from_secs(400),
    };
    let played = scene.play()?;
    let line = |line: &str| {
        played.ensure(played.log.time(line, 0.0).is_some(), &format!("no line '{line}'"))
    };
    for input in ["Keyboard", "Mouse", "Tablet"] {
        line(&format!("INNER input \"QEMU Virtio {input}\""))?;
    }
    played.says("INNER framebuffer ", "800,600 virtio_gpudrmfb")?;
    played.says("INNER display ", "connected 800x600")?;
    played.says("INNER edid ", "128")?;
    played.says("INNER led ", "1")?;
    typed(&played)?;
    played.says("STATUS ", "0 0")?;
    let [first, other, again] = ["first", "other", "again"].map(|file| picture(&played, file));
    let (first, other, again) = (first?, other?, again?);
    played.ensure(first.iter().any(|pixel| *pixel != [0; 4]), "the text is not to be seen")?;
    played.ensure(first == again, "the same text looks different after another boot")?;
    played.ensure(first != other, "another text looks the same")
}

/// The keys of the sentence: down and up.
fn keys() -> impl Iterator<Item = (u8, u8)> + Clone {
    SENTENCE.bytes().flat_map(|byte| [(byte, 1), (byte, 0)])
}

/// Bytes for the shell's printf.
fn octal(parts: &[&[u8]]) -> String {
    parts.concat().iter().map(|byte| format!("\\{byte:03o}")).collect()
}

/// What the outer machine does.
fn script() -> String {
    // Events of each key: itself, and the end of its group. Linux keeps the two of the LED for the first group.
    let count = 2 + 2 * keys().count();
    let key = |byte: u8, down: u8| {
        let keysym = if byte == b'\r' { [0xff, 0x0d] } else { [0, byte] };
        [4, down, 0, 0, 0, 0, keysym[0], keysym[1]]
    };
    let sentence: Vec<u8> = keys().flat_map(|(byte, down)| key(byte, down)).collect();
    let sentence = octal(&[HELLO, &sentence]);
    let enter = octal(&[HELLO, &key(b'\r', 1), &key(b'\r', 0)]);
    // Raw pixels only, and all of them.
    let ([w, width], [h, height]) = (WIDTH.to_be_bytes(), HEIGHT.to_be_bytes());
    let encodings = [2, 0, 0, 1, 0, 0, 0, 0];
    let look = octal(&[HELLO, &encodings, &[3, 0, 0, 0, 0, 0, w, width, h, height]]);
    let bytes = 4 * u32::from(WIDTH) * u32::from(HEIGHT);
    format!(
        "ifconfig lo 127.0.0.1 up\n\
         boot() {{ ./cafevm run --kernel bzimage-generic --initrd initramfs --memory 384M --timeout 250 \
           --input keyboard --input mouse --gpu 800x600 --input tablet --display vnc=127.0.0.1:5900 \
           --cmdline \"quiet text={TEXT} other={OTHER} $1\" </dev/null >$2 2>&1 & pid=$!; }}\n\
         alive() {{ kill -0 $pid 2>/dev/null; }}\n\
         until_it_says() {{ while ! grep -q \"$1\" $2 && alive; do sleep 0.2; done; }}\n\
         look() {{ >$1; (printf '{look}'; was=0; while n=$(wc -c <$1); \
           [ $n -le {bytes} -o $n != $was ] && alive; do was=$n; sleep 0.1; done) | \
           nc 127.0.0.1 5900 >$1; }}\n\
         lit() {{ [ $(tr -d '\\000' <$1 | wc -c) -gt 400 ]; }}\n\
         until_it_stays() {{ look $1; while alive; do mv $1 before; look $1; \
           cmp -s $1 before && lit $1 && return; done; }}\n\
         boot 'do=desk events={count}' out\n\
         until_it_says 'INNER types' out; until_it_stays first\n\
         (printf '{sentence}'; until_it_says 'INNER ends' out) | nc 127.0.0.1 5900 >/dev/null\n\
         wait $pid; status=$?\n\
         boot do=screen out2\n\
         until_it_says 'INNER shows {OTHER}' out2; until_it_stays other\n\
         (printf '{enter}'; until_it_says 'INNER shows {TEXT}' out2) | nc 127.0.0.1 5900 >/dev/null\n\
         look again; while ! cmp -s again first && alive; do look again; done\n\
         (printf '{enter}'; until_it_says 'INNER ends' out2) | nc 127.0.0.1 5900 >/dev/null\n\
         wait $pid; echo \"STATUS $status $?\"; cat out out2\n"
    )
}

/// Fails unless the keyboard's reader got the events of the sentence.
fn typed(played: &Played) -> Outcome {
    // Linux's codes of the keys of a US keyboard.
    let code = |byte| match byte {
        b' ' => 57,
        b'\r' => 28,
        letter => {
            let rows = [(16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm")];
            let place = |(first, row): (u16, &str)| {
                row.bytes()
                    .position(|key| key == letter)
                    .and_then(|n| u16::try_from(n).ok())
                    .map(|n| first + n)
            };
            rows.into_iter().find_map(place).unwrap_or(0)
        }
    };
    let typed = played.log.to_string();
    let typed: Vec<&str> = typed
        .lines()
        .filter_map(|line| line.split_once("INNER typed "))
        .map(|(_, hex)| hex)
        .collect();
    // After the time: type, code and value, little-endian.
    let event = |kind: u16, code: u16, value: u32| {
        let bytes = [&kind.to_le_bytes()[..], &code.to_le_bytes(), &value.to_le_bytes()].concat();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let leds = [event(0x11, 1, 1), event(0x11, 1, 0)];
    let of_key = |(byte, value): (u8, u8)| [event(1, code(byte), value.into()), event(0, 0, 0)];
    let wanted: Vec<_> = leds.into_iter().chain(keys().flat_map(of_key)).collect();
    let found: Vec<_> = typed.iter().map(|hex| hex.get(32..).unwrap_or_default()).collect();
    played.ensure(found == wanted, &format!("the events are {found:?}, not {wanted:?}"))
}

/// The pixels that the outer machine got from the VNC server and wrote to this file.
fn picture(played: &Played, file: &str) -> Result<Vec<[u8; 4]>, Failed> {
    let path = played.dir.join(file);
    disk::copy_out(&played.payload, &format!("/{file}"), &path)?;
    pixels(&path).map_err(|error| format!("{file}: {}", error.message().unwrap_or("?")).into())
}

/// The pixels in what the server sent: its version, its security, its screen, and one update (RFC 6143).
fn pixels(path: &Path) -> Result<Vec<[u8; 4]>, Failed> {
    let bytes = fs::read(path)?;
    let number = |at: usize| match bytes.get(at..at + 2) {
        Some(&[high, low]) => Ok(usize::from(u16::from_be_bytes([high, low]))),
        _ => Err(Failed::from(format!("only {} bytes", bytes.len()))),
    };
    // The name's length is the last field before the name.
    let update = 12 + 2 + 4 + 24 + number(12 + 2 + 4 + 22)?;
    let (width, mut at) = (usize::from(WIDTH), update + 4);
    let mut pixels = vec![[0; 4]; width * usize::from(HEIGHT)];
    for _ in 0..number(update + 2)? {
        let [x, y, w, h, encoding] =
            [number(at)?, number(at + 2)?, number(at + 4)?, number(at + 6)?, number(at + 10)?];
        ensure!(encoding == 0 && x + w <= width, "a rectangle of {w} pixels at {x}");
        at += 12;
        for row in y..y + h {
            let from = bytes.get(at..at + 4 * w).unwrap_or_default().as_chunks().0;
            let Some(to) = pixels.get_mut(row * width + x..).and_then(|to| to.get_mut(..w)) else {
                fail!("a rectangle of {h} rows at {y}");
            };
            ensure!(from.len() == w, "only {} bytes", bytes.len());
            to.copy_from_slice(from);
            at += 4 * w;
        }
    }
    Ok(pixels)
}
