//! A machine as a process of its own, its control socket and its image.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cafevm_guest_tests::process::{Ended, Process};
use cafevm_guest_tests::{Failed, Outcome, Scratch, ensure, fail};
use cafevm_resources::test_guests::BUSY;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine that has rung for its first requests.
pub(crate) struct Machine {
    process: Process,
    control: BufReader<UnixStream>,
    socket: PathBuf,
    pub(crate) image: PathBuf,
    _scratch: Scratch,
}

impl Machine {
    /// With an image of `bytes` among the temporary files of cargo.
    pub(crate) fn start(
        bytes: u64,
        keys: &str,
        words: &str,
        arguments: &[&str],
    ) -> Result<Self, Failed> {
        let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        let image = scratch.path("d.img");
        File::create(&image)?.set_len(bytes)?;
        Self::with(scratch, image, keys, words, arguments)
    }

    /// With this image.
    pub(crate) fn with(
        scratch: Scratch,
        image: PathBuf,
        keys: &str,
        words: &str,
        arguments: &[&str],
    ) -> Result<Self, Failed> {
        let (elf, socket) = (scratch.path("busy"), scratch.path("control"));
        fs::write(&elf, BUSY)?;
        let (elf, control) = (elf.display().to_string(), socket.display().to_string());
        let disk = format!("path={}{keys}", image.display());
        let whole = ["run", "--cpus", "2", "--kernel", &elf, "--disk", &disk, "--cmdline", words];
        let whole =
            whole.into_iter().chain(["--control", &control]).chain(arguments.iter().copied());
        let mut process = Process::start(Path::new(PROGRAM), whole)?;
        process.wait_for("busy")?;
        let control = connect(&socket)?;
        Ok(Self { process, control, socket, image, _scratch: scratch })
    }

    /// Another connection to the control socket.
    pub(crate) fn connect(&self) -> Result<BufReader<UnixStream>, Failed> {
        connect(&self.socket)
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &str) -> Outcome {
        Ok(writeln!(self.control.get_mut(), "{message}")?)
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Result<String, Failed> {
        let mut answer = String::new();
        let read = self.control.read_line(&mut answer);
        read.map_err(|error| format!("no answer: {error}"))?;
        Ok(answer.trim_end().to_owned())
    }

    /// Sends a message; its answer.
    pub(crate) fn request(&mut self, message: &str) -> Result<String, Failed> {
        self.send(message)?;
        self.answer()
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the machine's status contains this.
    pub(crate) fn becomes(&mut self, text: &str) -> Outcome {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.request(r#"{"status":{}}"#)?;
            if status.contains(text) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "it never became {text}: {status}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// When the image was last written.
    pub(crate) fn written(&self) -> Result<SystemTime, Failed> {
        Ok(self.image.metadata()?.modified()?)
    }

    /// Waits until the image is written again.
    pub(crate) fn writes(&self) -> Outcome {
        let (then, until) = (self.written()?, Instant::now() + PATIENCE);
        while self.written()? == then {
            ensure!(Instant::now() < until, "the guest does not write");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) -> Outcome {
        let sent =
            Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status()?;
        ensure!(sent.success(), "kill -s {name}: {sent}");
        Ok(())
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<Ended, Failed> {
        self.process.finish()
    }
}

fn connect(socket: &Path) -> Result<BufReader<UnixStream>, Failed> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// A small file system in memory, for as long as it lives.
pub(crate) struct Mounted(Scratch);

impl Mounted {
    /// None where it cannot be mounted, as only root can.
    pub(crate) fn new(size: &str) -> Result<Option<Self>, Failed> {
        let scratch = Scratch::new()?;
        let at = scratch.path("fs");
        fs::create_dir(&at)?;
        let mut mount = Command::new("mount");
        let done = mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&at)
            .output()?;
        Ok(done.status.success().then_some(Self(scratch)))
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path("fs").join(name)
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, size: &str) -> Outcome {
        let mut mount = Command::new("mount");
        let options = format!("remount,size={size}");
        let done = mount.args(["-o", &options]).arg(self.0.path("fs")).status()?;
        if !done.success() {
            fail!("remount: {done}");
        }
        Ok(())
    }
}

/// Before its directory is removed.
impl Drop for Mounted {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path("fs")).status();
    }
}
