//! TigerVNC's viewer at the machine of `scene.rs`, on a virtual X server: it shows the screen, and a key pressed in its window
//! reaches the guest.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use cafevm_guest_tests::{Failed, Outcome, ensure, fail, tests};

#[allow(dead_code, reason = "the other test uses more of it")]
mod scene;

use scene::{HEIGHT, Machine, WIDTH, events, picture, wait, with_user};

tests! {
    optional ["Xvfb", "xtigervncviewer", "xdotool", "xwd"];
    tigervnc_shows_and_types
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// An X server without a screen.
struct X {
    _server: Running,
    display: String,
}

impl X {
    fn start() -> Result<Self, Failed> {
        // Without `-noreset` it starts afresh, and drops who just connects, when the last program has left: xdotool leaves
        // after each search.
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-noreset", "-screen", "0", "640x480x24"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = server.stdout.take();
        let server = Running(server);
        let Some(output) = output else { fail!("Xvfb has no output") };
        let mut number = String::new();
        BufReader::new(output).read_line(&mut number)?;
        ensure!(!number.trim().is_empty(), "Xvfb did not start");
        Ok(Self { _server: server, display: format!(":{}", number.trim()) })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DISPLAY", &self.display).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The output of a program.
    fn output(&self, program: &str, args: &[&str]) -> Result<Vec<u8>, Failed> {
        Ok(self.command(program).args(args).output()?.stdout)
    }

    /// The pixels of a window of this size, if it is there, as 0x00RRGGBB. The format is that of X11's XWDFile.h.
    fn pixels(&self, window: &str) -> Result<Option<Vec<u32>>, Failed> {
        let dump = self.output("xwd", &["-silent", "-id", window])?;
        let number = |n: usize| {
            let bytes = dump.get(4 * n..4 * n + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        // Header size, width, height, bits of a pixel, bytes of a row, number of colours.
        let [Some(header), Some(width), Some(height), Some(bits), Some(row), Some(colours)] =
            [0, 4, 5, 11, 12, 19].map(number)
        else {
            return Ok(None);
        };
        if (width, height) != (WIDTH, HEIGHT) {
            return Ok(None);
        }
        ensure!((bits, row) == (32, 4 * WIDTH), "{bits} bits, {row} bytes");
        // An entry of the map of colours has 12 bytes.
        let pixels = dump.get((header + 12 * colours) as usize..).unwrap_or_default();
        let (pixels, _) = pixels.as_chunks();
        Ok(Some(pixels.iter().map(|pixel| u32::from_le_bytes(*pixel) & 0x00ff_ffff).collect()))
    }
}

fn tigervnc_shows_and_types() -> Outcome {
    let run = with_user(use_viewer)?;
    let seen = events(&run)?;
    let keys = |value: &str| -> Vec<String> {
        let of_value =
            seen.iter().filter_map(|line| line.strip_prefix("key ")?.strip_suffix(value));
        of_value.map(str::to_owned).collect()
    };
    let pressed = keys(" 1");
    ensure!(pressed == ["30", "42", "48", "1"], "pressed: {pressed:?}: {run}");
    // Shift may go up before the key or after it.
    let released = keys(" 0");
    ensure!(pressed.iter().all(|key| released.contains(key)), "released: {released:?}: {run}");
    let clicks = seen.iter().filter(|line| line.ends_with("key 272 1"));
    // Pixel 100, 50 of 320x200.
    ensure!(clicks.eq(["abs 0 10272 abs 1 8233 key 272 1"]), "the clicks: {run}");
    Ok(())
}

fn use_viewer(machine: &Machine) -> Outcome {
    let x = X::start()?;
    let mut viewer = x.command("xtigervncviewer");
    viewer.arg(&machine.vnc).args(["-AcceptClipboard=0", "-SendClipboard=0", "-RemoteResize=0"]);
    let _viewer = Running(viewer.stdout(Stdio::null()).spawn()?);
    let window = wait("the viewer's window", || {
        let found = x.output("xdotool", &["search", "--name", "cafevm"])?;
        let found = String::from_utf8_lossy(&found).lines().last().map(str::to_owned);
        // There are others before it has its size.
        let is_it = |window: &String| x.pixels(window).is_ok_and(|pixels| pixels.is_some());
        Ok(found.filter(is_it))
    })?;
    // The viewer shows a hint at first, for some seconds.
    wait("the picture in the viewer", || {
        Ok((x.pixels(&window)?.as_ref() == Some(&picture())).then_some(()))
    })?;
    ensure!(machine.screenshot()? == picture(), "the screenshot is another picture");
    let click = ["mousemove", "--window", &window, "100", "50", "click", "1"];
    let focus = ["windowfocus", "--sync", &window];
    for args in [&focus[..], &click, &["key", "a"], &["key", "B"], &["key", "Escape"]] {
        let done = x.command("xdotool").args(args).status()?;
        ensure!(done.success(), "xdotool {args:?}: {done}");
    }
    // The viewer must still be there to send what it was typed.
    machine.ended()
}
