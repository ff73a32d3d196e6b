//! Disks with limits: `resources/guests/test-guests/src/bin/limited.rs`, and the built-in shell.
//!
//! The guest has 30 reads out on a disk of one request a second. Nothing but those reads may take the 29 seconds.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cafevm_guest_tests::process::{Ended, Process};
use cafevm_guest_tests::{Failed, Guest, Outcome, SECTOR, Scratch, ensure, tests};
use cafevm_resources::test_guests::LIMITED;

tests! {
    another_disk_works_while_requests_wait, a_pause_does_not_wait, the_end_does_not_wait,
    a_limited_disk_takes_its_time, svirtb_takes_its_time, a_pause_and_the_end_cut_svirtbs_waiting
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
/// Less than the requests would need by their limit, and far more than a pause needs.
const SOON: Duration = Duration::from_secs(20);

/// A machine as a process with a control socket.
struct Machine {
    process: Process,
    control: BufReader<UnixStream>,
    _scratch: Scratch,
}

impl Machine {
    /// With this kernel, or the built-in shell, and disks of these keys.
    fn start(kernel: Option<&[u8]>, disks: &[&str]) -> Result<Self, Failed> {
        let scratch = Scratch::new()?;
        let mut arguments = vec!["run".to_owned()];
        if let Some(kernel) = kernel {
            let elf = scratch.path("kernel");
            std::fs::write(&elf, kernel)?;
            arguments.extend(["--kernel".to_owned(), elf.display().to_string()]);
        }
        for (n, keys) in disks.iter().enumerate() {
            let image = scratch.image(&format!("{n}.img"), 64 * SECTOR)?;
            let path = image.path().display().to_string();
            arguments.extend(["--disk".to_owned(), format!("path={path},{keys}")]);
        }
        let socket = scratch.path("control");
        arguments.extend(["--control".to_owned(), socket.display().to_string()]);
        let mut process = Process::start(Path::new(PROGRAM), arguments.iter().map(String::as_str))?;
        // The socket is there before the guest runs.
        process.wait_for(if kernel.is_some() { "of the limited" } else { "cafevm> " })?;
        let control = BufReader::new(UnixStream::connect(socket)?);
        Ok(Self { process, control, _scratch: scratch })
    }

    /// The machine of [`LIMITED`], when its 30 requests are out.
    fn limited() -> Result<Self, Failed> {
        let machine = Self::start(Some(LIMITED), &["iops=1,iops-burst=1", "bus=virtio"])?;
        Ok(machine)
    }

    fn tell(&mut self, message: &str) -> Result<String, Failed> {
        writeln!(self.control.get_mut(), "{message}")?;
        let mut answer = String::new();
        self.control.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    /// The number of requests that wait for the limits.
    fn delayed(&mut self) -> Result<usize, Failed> {
        let status = self.tell(r#"{"status":{}}"#)?;
        let Some((_, rest)) = status.split_once(r#""delayed":"#) else { return Ok(0) };
        Ok(rest.split([',', '}']).next().unwrap_or_default().parse()?)
    }

    fn end(self) -> Result<Ended, Failed> {
        self.process.finish()
    }
}

/// A guest of [`LIMITED`] that has passed.
fn passed(machine: Machine) -> Outcome {
    let ended = machine.end()?;
    let text = ended.text();
    ensure!(text.contains("ok limited"), "{text}{}", ended.log);
    Ok(())
}

fn another_disk_works_while_requests_wait() -> Outcome {
    let mut machine = Machine::limited()?;
    let delayed = machine.delayed()?;
    ensure!(delayed > 0, "all were done before the other disk was");
    let answer = machine.tell(r#"{"limit":{"id":"virtio0","iops":1000,"bps":"1G"}}"#)?;
    let limits =
        r#"{"bps":1073741824,"bps-burst":107374182,"id":"virtio0","iops":1000,"iops-burst":100}"#;
    ensure!(answer == format!(r#"{{"result":{limits}}}"#), "{answer}");
    machine.process.wait_for("limited is done")?;
    passed(machine)
}

fn a_pause_does_not_wait() -> Outcome {
    let mut machine = Machine::limited()?;
    let begin = Instant::now();
    let answer = machine.tell(r#"{"pause":{}}"#)?;
    ensure!(answer == r#"{"result":{}}"#, "{answer}");
    ensure!(begin.elapsed() < SOON, "the pause took {:?}", begin.elapsed());
    let delayed = machine.delayed()?;
    ensure!(delayed == 0, "{delayed} requests wait in a pause");
    machine.tell(r#"{"resume":{}}"#)?;
    machine.process.wait_for("limited is done")?;
    passed(machine)
}

fn the_end_does_not_wait() -> Outcome {
    let mut machine = Machine::limited()?;
    let begin = Instant::now();
    let explained = machine.tell(r#"{"explain":{}}"#)?;
    ensure!(explained.contains("wait for the limits of the disk (bps=, iops=)"), "{explained}");
    machine.tell(r#"{"quit":{}}"#)?;
    let ended = machine.end()?;
    ensure!(begin.elapsed() < SOON, "the end took {:?}", begin.elapsed());
    ensure!(ended.status.code() == Some(0), "{:?}: {}", ended.status, ended.log);
    ensure!(!ended.log.contains("waiting for"), "{}", ended.log);
    Ok(())
}

/// Reads of one sector with the built-in shell, which waits for each; and the time that all take.
fn reads(keys: &str, count: usize) -> Result<Duration, Failed> {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 8 * SECTOR)?;
    let commands = format!("{}exit", "sum 0 1; ".repeat(count));
    let begin = Instant::now();
    let run = Guest::shell(&commands).disk(&image, keys).run()?;
    ensure!(run.text.matches("crc32 ").count() == count, "{}", run.text);
    Ok(begin.elapsed())
}

fn a_limited_disk_takes_its_time() -> Outcome {
    for keys in ["iops=50,iops-burst=1", "bps=25K,bps-burst=1K"] {
        let time = reads(keys, 21)?;
        // 20 requests, or 21 sectors less the burst.
        let least = Duration::from_millis(if keys.starts_with("iops") { 400 } else { 350 });
        ensure!(time >= least, "{keys}: {time:?}");
    }
    Ok(())
}

fn svirtb_takes_its_time() -> Outcome {
    let time = reads("bus=svirtb,iops=50,iops-burst=1", 21)?;
    ensure!(time >= Duration::from_millis(400), "{time:?}");
    Ok(())
}

fn a_pause_and_the_end_cut_svirtbs_waiting() -> Outcome {
    for message in ["pause", "quit"] {
        let mut machine = Machine::start(None, &["bus=svirtb,bps=1K,bps-burst=1K"])?;
        // The first read takes the burst and much more; the second one would wait for a minute.
        machine.process.send(b"sum 0 64\rsum 0 64\r")?;
        while machine.delayed()? == 0 {
            std::thread::yield_now();
        }
        let begin = Instant::now();
        let answer = machine.tell(&format!("{{\"{message}\":{{}}}}"))?;
        ensure!(answer == r#"{"result":{}}"#, "{answer}");
        if message == "pause" {
            machine.tell(r#"{"limit":{"id":"svirtb","bps":null}}"#)?;
            machine.tell(r#"{"resume":{}}"#)?;
            for _ in 0..2 {
                machine.process.wait_for("crc32 ")?;
            }
            machine.tell(r#"{"quit":{}}"#)?;
        }
        let ended = machine.end()?;
        ensure!(begin.elapsed() < SOON, "{message} took {:?}", begin.elapsed());
        ensure!(ended.status.code() == Some(0), "{:?}: {}", ended.status, ended.log);
    }
    Ok(())
}
