//! cafevm killed at any moment: no sector is lost that the device reported as durable.
//!
//! 200 times in all; `CAFEVM_KILLS=N` for as many. The guest is `resources/guests/test-guests/src/bin/numbered.rs`.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cafevm_guest_tests::numbered::{self, SECTORS};
use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Failed, Image, Outcome, SECTOR, Scratch, engine, ensure, tests};
use cafevm_resources::test_guests::NUMBERED;

tests! { after_a_flush, written_through, written_past_the_page_cache, over_svirtb }

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
const SIGKILL: i32 = 9;
/// The guest is killed within so many microseconds after its first word.
const MOMENTS: u64 = 25_000;
/// The same where requests are finished late.
const LATE_MOMENTS: u64 = 100_000;

/// This part of all kills, in hundredths.
fn kills(part: usize) -> Result<usize, Failed> {
    let all = std::env::var("CAFEVM_KILLS").map_or(Ok(200), |text| text.parse::<usize>())?;
    Ok((all * part).div_ceil(100))
}

/// One disk, and everything that was reported to its guests.
struct Told {
    elf: PathBuf,
    image: Image,
    /// The last number that was safe; the numbers before it are, too.
    safe: u64,
    _scratch: Scratch,
}

fn kill(times: usize, keys: &str, words: &str) -> Outcome {
    // Not where temporary files go: that may be memory.
    let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let elf = scratch.path("numbered");
    fs::write(&elf, NUMBERED)?;
    let image = scratch.holding("d.img", vec![0; SECTORS * SECTOR])?;
    let mut told = Told { elf, image, safe: 0, _scratch: scratch };
    let mut rounds_with_news = 0;
    for round in 0..times {
        let before = told.safe;
        let outcome = told.round(keys, words);
        outcome.map_err(|e| format!("round {round}: {}", e.message().unwrap_or_default()))?;
        rounds_with_news += usize::from(told.safe > before);
    }
    println!(
        "{keys} {words}: {times} kills, {rounds_with_news} of them behind an answered write; {} numbers were safe",
        told.safe
    );
    // Without a durable write the test would show nothing. On a busy host many rounds end before the first one.
    ensure!(
        8 * rounds_with_news >= times,
        "only {rounds_with_news} of {times} rounds wrote anything"
    );
    Ok(())
}

impl Told {
    /// Runs a guest, kills it at some moment, and looks at the disk.
    fn round(&mut self, keys: &str, words: &str) -> Outcome {
        let elf = self.elf.display().to_string();
        let disk = format!("path={},{keys}", self.image.path().display());
        let words = format!("start={} sectors={SECTORS} {words}", self.safe + 1);
        let arguments =
            ["run", "--kernel", &elf, "--disk", &disk, "--cmdline", &words, "--timeout", "60"];
        let mut process = Process::start(Path::new(PROGRAM), arguments)?;
        process.wait_for("ready\r\n")?;
        let moments = if engine::is_late() { LATE_MOMENTS } else { MOMENTS };
        let moment = RandomState::new().hash_one(self.safe) % moments;
        process.listen(Duration::from_micros(moment));
        process.kill()?;
        let ended = process.finish()?;
        ensure!(ended.by_signal(SIGKILL), "{:?}: {} {}", ended.status, ended.text(), ended.log);
        self.safe = numbered::heard(&ended, self.safe)?;
        let bytes = fs::read(self.image.path())?;
        ensure!(bytes.len() == SECTORS * SECTOR, "the image has {} bytes", bytes.len());
        numbered::holds(&bytes, self.safe)
    }
}

fn after_a_flush() -> Outcome {
    kill(kills(40)?, "bus=virtio", "")
}

fn written_through() -> Outcome {
    kill(kills(20)?, "bus=virtio", "flush=0")
}

fn written_past_the_page_cache() -> Outcome {
    kill(kills(20)?, "cache=none", "")
}

fn over_svirtb() -> Outcome {
    kill(kills(20)?, "bus=svirtb", "")
}
