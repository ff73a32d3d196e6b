//! A guest that does everything wrong with a GPU, a keyboard, a mouse and a tablet, while somebody types and moves the
//! pointer: `resources/guests/test-guests/src/bin/hostile`. The disk beside them goes on, memory is bounded, and in the
//! end all devices serve.
//!
//! `CAFEVM_HOSTILE="rounds=1000 seed=7"` gives the guest other words.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Failed, Outcome, SECTOR, Scratch, ensure, fail, pattern, tests};
use cafevm_resources::test_guests::HOSTILE;

tests! { the_disk_goes_on_and_memory_is_bounded }

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
/// Sectors of the disk.
const SECTORS: usize = 1024;
/// Lines in the log, for all devices together.
const LINES: usize = 200;
/// The guest has ended itself with code 0.
const SUCCESS: i32 = 1;

/// All sizes in KiB.
const MIB: u64 = 1024;
/// Guest RAM, all of which the guest may touch.
const RAM: u64 = 16 * MIB;
/// The limit for resources: `--gpu max=`.
const RESOURCES: u64 = 16 * MIB;
/// What the process may have at most beyond what it has when the attacks begin: guest RAM; the resources; the picture on
/// the screen, which is as large as a resource, and the one that replaces it; the entries of 2^18 backings, in a list
/// that may be twice as long; and the program's own pages, as it comes to them.
const GROWTH: u64 = RAM + 3 * RESOURCES + 2 * 6 * MIB + 16 * MIB;

fn the_disk_goes_on_and_memory_is_bounded() -> Outcome {
    let words = std::env::var("CAFEVM_HOSTILE").unwrap_or_default();
    let scratch = Scratch::new()?;
    let (elf, control) = (scratch.path("hostile"), scratch.path("control"));
    fs::write(&elf, HOSTILE)?;
    let image = scratch.image("d.img", SECTORS * SECTOR)?;
    let [elf, socket, disk] = [&elf, &control, image.path()].map(|path| path.display().to_string());
    let (ram, gpu) = (format!("{RAM}K"), format!("640x480,max={RESOURCES}K"));
    let mut arguments = vec!["run", "-v", "--kernel", &elf, "--cpus", "2", "--memory", &ram];
    arguments.extend(["--cmdline", &words, "--disk", &disk, "--gpu", &gpu, "--control", &socket]);
    arguments.extend(["--input", "keyboard", "--input", "mouse", "--input", "tablet"]);
    let mut process = Process::start(Path::new(PROGRAM), arguments)?;
    process.wait_for("attacking")?;
    let before = memory(process.id(), "VmRSS:")?;
    let hands = Hands::at(control);
    process.wait_for("requests to the disk")?;
    drop(hands);
    let most = memory(process.id(), "VmHWM:")?;
    process.send(b"\n")?;
    let ended = process.finish()?;
    let (text, log) = (ended.text(), &ended.log);
    ensure!(ended.status.code() == Some(SUCCESS), "{}: {text} {log}", ended.status);
    let passed: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    let scenarios = ["start", "attacks", "the-disk-beside-them", "gpus-serve", "inputs-serve"];
    ensure!(passed == scenarios, "{text} {log}");
    image.holds(|bytes| {
        let half = SECTORS * SECTOR / 2;
        bytes[half..].copy_from_slice(&pattern(2, half..2 * half));
    })?;
    let lines = log.lines().count();
    println!("{text}{lines} lines; {before} KiB, then {most} at most");
    ensure!(lines < LINES, "{lines} lines: {log}");
    // That nothing was wrong would be no attack.
    for device in ["gpu: ", "keyboard2: ", "mouse3: ", "tablet4: "] {
        ensure!(log.contains(device), "nothing about {device}{log}");
    }
    ensure!(most < before + GROWTH, "it had {before} KiB, and {most} at most");
    Ok(())
}

/// Somebody who types and moves the pointer all the time, and does not wait for what becomes of it.
struct Hands {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Hands {
    fn at(socket: PathBuf) -> Self {
        const MESSAGES: &str = concat!(
            r#"{"type":"Hostile!"}"#,
            "\n",
            r#"{"pointer":{"dx":3,"dy":-2,"buttons":["left"]}}"#,
            "\n",
            r#"{"pointer":{"x":0,"y":0,"buttons":[]}}"#,
            "\n",
        );
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(mut stream) = UnixStream::connect(&socket) {
                    // Another connection follows, whatever becomes of this one.
                    let _sent = stream.write_all(MESSAGES.as_bytes());
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

/// A size in KiB of a process's memory.
fn memory(process: u32, name: &str) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let Some(line) = status.lines().find_map(|line| line.strip_prefix(name)) else {
        fail!("no {name} in {status}")
    };
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
