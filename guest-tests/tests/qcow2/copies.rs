//! Backups and commits while the guest writes all the time.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Failed, Outcome, SECTOR, Scratch, ensure, numbered};
use cafevm_resources::test_guests::NUMBERED;

use crate::PROGRAM;
use crate::killed::SECTORS;
use cafevm_guest_tests::qemu_img::{check, content};

const PATIENCE: Duration = Duration::from_secs(60);

/// A machine whose guest writes numbers.
struct Machine {
    process: Process,
    control: BufReader<UnixStream>,
}

impl Machine {
    fn start(scratch: &Scratch, disk: &str) -> Result<Self, Failed> {
        let (elf, socket) = (scratch.path("numbered"), scratch.path("control"));
        fs::write(&elf, NUMBERED)?;
        let (elf, control) = (elf.display().to_string(), socket.display().to_string());
        let words = format!("sectors={SECTORS}");
        let arguments = [
            "run",
            "--kernel",
            &elf,
            "--disk",
            disk,
            "--cmdline",
            &words,
            "--control",
            &control,
            "--timeout",
            "120",
        ];
        let mut process = Process::start(Path::new(PROGRAM), arguments)?;
        process.wait_for("ready\r\n")?;
        let stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { process, control: BufReader::new(stream) })
    }

    /// Waits until the guest has printed some numbers more.
    fn writes(&mut self) -> Outcome {
        (0..20).try_for_each(|_| self.process.wait_for("\r\n"))
    }

    /// Sends a message; its answer.
    fn request(&mut self, message: &str) -> Result<String, Failed> {
        writeln!(self.control.get_mut(), "{message}")?;
        let mut answer = String::new();
        self.control.read_line(&mut answer)?;
        Ok(answer)
    }

    /// Ends it. Returns the last number that the guest knew to be safe.
    fn quit(mut self) -> Result<u64, Failed> {
        self.request(r#"{"quit":{}}"#)?;
        let ended = self.process.finish()?;
        ensure!(ended.status.success(), "{:?}: {}", ended.status, ended.log);
        numbered::heard(&ended, 0)
    }
}

fn backup(
    bus: &str,
    id: &str,
    keys: impl Fn(&Scratch) -> Result<(PathBuf, String), Failed>,
) -> Outcome {
    let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let (_, keys) = keys(&scratch)?;
    let mut machine = Machine::start(&scratch, &format!("{keys},bus={bus}"))?;
    let mut last = 0;
    for round in 0..5 {
        machine.writes()?;
        let to = scratch.path(&format!("copy{round}"));
        let message = format!(r#"{{"backup":{{"id":"{id}","to":"{}"}}}}"#, to.display());
        let answer = machine.request(&message)?;
        ensure!(answer.contains(r#""result""#) && answer.contains(r#""bytes":32768"#), "{answer}");
        let moment = numbered::moment(&fs::read(&to)?)?;
        ensure!(moment > last, "the copy is of {moment}, after one of {last}");
        last = moment;
        // A file that exists is never replaced.
        let answer = machine.request(&message)?;
        ensure!(answer.contains("error") && answer.contains("exists"), "{answer}");
    }
    let safe = machine.quit()?;
    ensure!(last <= safe + 8, "a copy has {last}, and the guest only wrote up to {safe}");
    Ok(())
}

fn raw(scratch: &Scratch) -> Result<(PathBuf, String), Failed> {
    let image = scratch.holding("d.img", vec![0; SECTORS * SECTOR])?;
    Ok((image.path().to_owned(), format!("path={}", image.path().display())))
}

fn overlay(scratch: &Scratch) -> Result<(PathBuf, String), Failed> {
    let (base, keys) = raw(scratch)?;
    let overlay = scratch.path("overlay.qcow2");
    Ok((base, format!("{keys},overlay={}", overlay.display())))
}

pub(crate) fn a_backup_while_the_guest_writes() -> Outcome {
    backup("virtio", "virtio0", raw)?;
    backup("virtio", "virtio0", overlay)?;
    backup("svirtb", "svirtb", raw)?;
    backup("virtio", "virtio0", |scratch| {
        raw(scratch).map(|(path, keys)| (path, format!("{keys},engine=uring")))
    })
}

pub(crate) fn a_commit_while_the_guest_writes() -> Outcome {
    let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let (base, keys) = overlay(&scratch)?;
    let mut machine = Machine::start(&scratch, &keys)?;
    let mut last = 0;
    for _ in 0..5 {
        machine.writes()?;
        let answer = machine.request(r#"{"commit":{"id":"virtio0"}}"#)?;
        ensure!(answer.contains(r#""result""#), "{answer}");
        // The base alone is the disk at one moment.
        let moment = numbered::moment(&fs::read(&base)?)?;
        ensure!(moment > last, "the base has {moment}, after {last}");
        last = moment;
    }
    let safe = machine.quit()?;
    let overlay = scratch.path("overlay.qcow2");
    check(&overlay)?;
    numbered::holds(&content(&scratch, &overlay)?, safe)
}

pub(crate) fn copies_that_fail() -> Outcome {
    let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let (base, keys) = overlay(&scratch)?;
    let mut machine = Machine::start(&scratch, &keys)?;
    let missing = scratch.path("no/such/directory");
    for (message, words) in [
        (r#"{"backup":{"id":"virtio0"}}"#.to_owned(), r#"needs a \"to\""#),
        (r#"{"backup":{"id":"other","to":"x"}}"#.to_owned(), "no virtio disk has the id"),
        (r#"{"backup":{"id":"svirtb","to":"x"}}"#.to_owned(), "no virtio disk has the id"),
        (r#"{"commit":{}}"#.to_owned(), r#"\"commit\" needs an \"id\""#),
        (
            format!(r#"{{"backup":{{"id":"virtio0","to":"{}"}}}}"#, missing.display()),
            "No such file or directory",
        ),
    ] {
        let answer = machine.request(&message)?;
        ensure!(answer.contains("error") && answer.contains(words), "{message}: {answer}");
    }
    // While another program reads the base, it is not written.
    let reader = format!("path={},readonly=on", base.display());
    let other = scratch.path("other");
    fs::create_dir(&other)?;
    let second = Process::start(Path::new(PROGRAM), ["run", "--disk", &*reader, "--timeout", "60"])
        .and_then(|mut second| second.wait_for("cafevm>").map(|()| second))?;
    let answer = machine.request(r#"{"commit":{"id":"virtio0"}}"#)?;
    ensure!(answer.contains("in use by another"), "{answer}");
    drop(second);
    machine.writes()?;
    machine.quit()?;
    check(&scratch.path("overlay.qcow2"))?;
    ensure!(fs::read(&base)? == vec![0; SECTORS * SECTOR], "the base was changed");
    // A raw image is no overlay.
    let (_, keys) = raw(&scratch)?;
    let mut machine = Machine::start(&scratch, &keys)?;
    let answer = machine.request(r#"{"commit":{"id":"virtio0"}}"#)?;
    ensure!(answer.contains("no backing image"), "{answer}");
    machine.quit().map(drop)
}
