//! A host whose file system does not answer: frozen, as for a snapshot (fsfreeze).
//!
//! It needs a file system of its own; where it cannot be mounted the test prints that, and passes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cafevm_guest_tests::{Failed, Outcome, Scratch, ensure};

use crate::machine::Machine;

/// The control socket answers what takes long after 10 s; the end takes 5 s at most. Both, and a busy host.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn frozen() -> Outcome {
    // Not in memory, of which a file system cannot be frozen.
    let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let Some(disk) = Disk::mount(&scratch)? else {
        println!("not run: no file system can be mounted here (run as root)");
        return Ok(());
    };
    let image = disk.0.join("d.img");
    File::create(&image)?.set_len(32 << 20)?;
    let words = "bytes=0x100000 entries=64";
    let mut machine = Machine::with(scratch, image, ",cache=writethrough", words, &[])?;
    // Dropped before the machine, whose process is waited for.
    let frozen = disk.freeze()?;

    // What needs no disk is answered at once.
    let begun = Instant::now();
    let status = machine.request(r#"{"status":{}}"#)?;
    println!("status: {:?}", begun.elapsed());
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}: {status}", begun.elapsed());
    let begun = Instant::now();
    let answer = machine.request(r#"{"pause":{}}"#)?;
    println!("pause: {:?}: {answer}", begun.elapsed());
    ensure!(answer.contains("d.img: the host has not finished"), "{answer}");
    let status = machine.request(r#"{"status":{}}"#)?;
    ensure!(status.contains(r#""paused":false"#), "{status}");

    machine.signal("TERM")?;
    let (begun, stat) = (Instant::now(), format!("/proc/{}/stat", machine.id()));
    // The kernel keeps the process as long as one of its threads waits for the file system; all else has ended.
    while !fs::read_to_string(&stat)?.contains(") Z ") {
        ensure!(begun.elapsed() < LIMIT, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
    println!("SIGTERM: {:?}", begun.elapsed());
    drop(frozen);
    let ended = machine.finish()?;
    ensure!(ended.status.code() == Some(130), "{}: {}", ended.status, ended.log);
    let lines: Vec<_> = ended.log.lines().filter(|line| line.contains("waiting for")).collect();
    ensure!(
        lines.len() == 1 && lines[0].contains("d.img: the host has not finished"),
        "{}",
        ended.log
    );
    Ok(())
}

/// A file system in a file.
struct Disk(PathBuf);

impl Disk {
    fn mount(scratch: &Scratch) -> Result<Option<Self>, Failed> {
        let (file, at) = (scratch.path("fs.img"), scratch.path("fs"));
        File::create(&file)?.set_len(128 << 20)?;
        fs::create_dir(&at)?;
        let done =
            |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&file))
            && done(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&at));
        Ok(made.then_some(Self(at)))
    }

    fn freeze(&self) -> Result<Frozen<'_>, Failed> {
        let done = Command::new("fsfreeze").arg("-f").arg(&self.0).status()?;
        ensure!(done.success(), "fsfreeze: {done}");
        Ok(Frozen(&self.0))
    }
}

/// A frozen file system, which is thawed again when this is dropped.
struct Frozen<'a>(&'a Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _thawed = Command::new("fsfreeze").arg("-u").arg(self.0).status();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
