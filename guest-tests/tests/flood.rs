//! What a guest that does everything wrong costs the host: `resources/guests/test-guests/src/bin/flood.rs`.
//!
//! It has 2 seconds for it; `CAFEVM_FLOOD=SECONDS` gives it more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Failed, Outcome, SECTOR, Scratch, ensure, fail, tests};
use cafevm_resources::test_guests::FLOOD;

tests! { a_few_lines_and_no_memory }

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
/// Lines in the log, for both devices together.
const LINES: usize = 100;
/// Growth in KiB.
const GROWTH: u64 = 2048;
/// The guest was still at it when its time was over.
const TIMED_OUT: i32 = 124;

fn a_few_lines_and_no_memory() -> Outcome {
    let seconds = std::env::var("CAFEVM_FLOOD").map_or(Ok(2), |text| text.parse::<u64>())?;
    let scratch = Scratch::new()?;
    let elf = scratch.path("flood").display().to_string();
    fs::write(&elf, FLOOD)?;
    let disk = |name: &str, keys: &str| {
        let image = scratch.image(name, 64 * SECTOR)?;
        Ok::<_, Failed>(format!("path={}{keys}", image.path().display()))
    };
    let (virtio, svirtb) = (disk("v.img", "")?, disk("s.img", ",bus=svirtb")?);
    // A second more, in case the guest is slow to come up.
    let limit = (seconds + 1).to_string();
    let disks = ["--disk", &virtio, "--disk", &svirtb];
    let arguments = ["run", "-v", "--kernel", &elf, "--timeout", &limit].into_iter().chain(disks);
    let mut process = Process::start(Path::new(PROGRAM), arguments)?;
    process.wait_for("flooding")?;
    process.listen(Duration::from_millis(200));
    let before = memory(process.id())?;
    process.listen(Duration::from_millis(1000 * seconds - 200));
    let after = memory(process.id())?;
    let ended = process.finish()?;
    let log = &ended.log;
    ensure!(ended.status.code() == Some(TIMED_OUT), "{}: {} {log}", ended.status, ended.text());
    let lines = log.lines().count();
    let exits = log.lines().find(|line| line.contains(" exits: ")).unwrap_or_default();
    println!("{lines} lines; {before} KiB, then {after}; {exits}");
    ensure!(lines < LINES, "{lines} lines: {log}");
    // That nothing was wrong would be no flood.
    ensure!(log.contains("virtio0: ") && log.contains("svirtb: "), "{log}");
    ensure!(after < before + GROWTH, "it had {before} KiB, and has {after} now");
    Ok(())
}

/// The memory in KiB that a process has for itself, guest RAM and all.
fn memory(process: u32) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("RssAnon:")) else {
        fail!("no RssAnon in {status}")
    };
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
