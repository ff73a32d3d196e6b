//! A machine with a keyboard, a tablet and a screen, and a user at it: a thread of the test.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cafevm::config::address::ListenAddress;
use cafevm::config::{OtherDevice, User};
use cafevm_devices::display::Screen;
use cafevm_devices::virtio::gpu::GpuOptions;
use cafevm_devices::virtio::input::InputKind;
use cafevm_guest_tests::{Failed, Guest, Outcome, Run, Scratch, ensure, fail};
use cafevm_resources::test_guests::RCORE;

/// How long a step may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const WIDTH: u32 = 320;
pub(crate) const HEIGHT: u32 = 200;

/// The running machine, as its user sees it.
pub(crate) struct Machine {
    pub(crate) screen: Screen,
    pub(crate) vnc: PathBuf,
    control: PathBuf,
    scratch: Scratch,
}

impl Machine {
    /// Sends a control message. Returns the answer.
    pub(crate) fn tell(&self, line: &str) -> Result<String, Failed> {
        let mut stream = UnixStream::connect(&self.control)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{line}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    /// Sends a control message that must succeed without a result.
    pub(crate) fn order(&self, line: &str) -> Outcome {
        let answer = self.tell(line)?;
        ensure!(answer == r#"{"result":{}}"#, "{line}: {answer}");
        Ok(())
    }

    /// Presses Escape, which ends the guest. The answer may come too late.
    pub(crate) fn end(&self) -> Outcome {
        self.tell(r#"{"keys":["esc"]}"#).map(drop)
    }

    /// Waits until the machine has ended, which it does when its guest has seen Escape.
    pub(crate) fn ended(&self) -> Outcome {
        wait("the end of the machine", || {
            Ok(UnixStream::connect(&self.control).is_err().then_some(()))
        })
    }

    /// A screenshot's pixels, as 0x00RRGGBB.
    pub(crate) fn screenshot(&self) -> Result<Vec<u32>, Failed> {
        let path = self.scratch.path("screen.png");
        let answer = self.tell(&format!(r#"{{"screenshot":{{"to":"{}"}}}}"#, path.display()))?;
        ensure!(answer.contains("result"), "{answer}");
        let mut png = png::Decoder::new(BufReader::new(File::open(path)?)).read_info()?;
        let mut bytes = vec![0; png.output_buffer_size().unwrap_or(0)];
        let info = png.next_frame(&mut bytes)?;
        ensure!((info.width, info.height) == (WIDTH, HEIGHT), "{}x{}", info.width, info.height);
        let (pixels, _) = bytes.as_chunks();
        Ok(pixels.iter().map(|[r, g, b]| u32::from_be_bytes([0, *r, *g, *b])).collect())
    }
}

/// Waits until something is so.
pub(crate) fn wait<T>(
    what: &str,
    mut done: impl FnMut() -> Result<Option<T>, Failed>,
) -> Result<T, Failed> {
    let begin = Instant::now();
    loop {
        if let Some(done) = done()? {
            return Ok(done);
        }
        ensure!(begin.elapsed() < PATIENCE, "{what} did not come in time");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The guest's picture.
pub(crate) fn picture() -> Vec<u32> {
    let pixel = |n| {
        let (x, y) = (n % WIDTH, n / WIDTH);
        (x & 0xff) << 16 | (y & 0xff) << 8 | (((x ^ y) * 5) & 0xff)
    };
    (0..WIDTH * HEIGHT).map(pixel).collect()
}

/// Boots the guest, and lets `user` use the machine when the guest shows its picture. Escape ends the guest.
pub(crate) fn with_user(
    user: impl FnOnce(&Machine) -> Outcome + Send + 'static,
) -> Result<Run, Failed> {
    let scratch = Scratch::new()?;
    let (vnc, control) = (scratch.path("vnc"), scratch.path("control"));
    let (to_user, begin) = std::sync::mpsc::channel::<Screen>();
    let to_user = Mutex::new(to_user);
    let sits_down = move |peripherals: cafevm::config::Peripherals| {
        if let Some(display) = peripherals.display {
            let to_user = to_user.lock().unwrap_or_else(PoisonError::into_inner);
            let _sent = to_user.send(display.screen());
        }
    };
    let gpu = GpuOptions { width: WIDTH, height: HEIGHT, ..GpuOptions::default() };
    let inputs = [InputKind::Keyboard, InputKind::Tablet].map(OtherDevice::Input);
    let guest = Guest::new(RCORE).cmdline("t=typed").with(|config| {
        config.others = [&inputs[..], &[OtherDevice::Gpu(gpu)]].concat();
        config.display = Some(ListenAddress::Unix(vnc.clone()));
        config.control = Some(control.clone());
        config.user = Some(User::new(sits_down));
    });
    let outcome = Arc::new(Mutex::new(None));
    let told = outcome.clone();
    let thread = thread::spawn(move || {
        let Ok(screen) = begin.recv() else { return };
        let machine = Machine { screen, vnc, control, scratch };
        let used = wait("the guest's picture", || {
            let shown = machine.screen.look(|shown, _| shown.pixels() == picture());
            Ok(shown.then_some(()))
        })
        .and_then(|()| user(&machine));
        if used.is_err() {
            // The machine may have ended.
            let _quit = machine.tell(r#"{"quit":{}}"#);
        }
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(used);
    });
    let run = guest.run()?;
    if thread.join().is_err() {
        fail!("the user panicked: {run}");
    }
    match outcome.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(Ok(())) => Ok(run),
        Some(Err(failed)) => {
            let why = failed.message().unwrap_or("no reason given");
            fail!("{why}: {run}")
        }
        None => fail!("the machine did not start: {run}"),
    }
}

/// The lines of events that the guest printed, without their ends.
pub(crate) fn events(run: &Run) -> Result<Vec<String>, Failed> {
    run.passed(&["typed"])?;
    let text = run.between("ready", "ok typed")?;
    Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
}
