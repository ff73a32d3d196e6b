//! cafevm killed at any moment with a qcow2 file: no flushed sector is lost, and the image is in order.
//!
//! 12 times in all; `CAFEVM_KILLS=N` for as many. A kill between two writes of one flush can leave clusters that are
//! marked as used: they are counted, and freed when the image is opened for the next round.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Failed, Outcome, SECTOR, Scratch, ensure, numbered};
use cafevm_resources::test_guests::NUMBERED;

use crate::{PROGRAM, shell_succeeds};
use cafevm_guest_tests::qemu_img::{self, Found, check, content, examine};

/// Sectors of the disk: few, so that each is written often.
pub(crate) const SECTORS: usize = 64;
const SIGKILL: i32 = 9;
/// The guest is killed within so many microseconds after its first word.
const MOMENTS: u64 = 200_000;
/// Small, so that the guest needs a new one often.
const CLUSTER: &str = "cluster_size=512";

fn kills() -> Result<u64, Failed> {
    let all = std::env::var("CAFEVM_KILLS").map_or(Ok(12), |text| text.parse::<u64>())?;
    Ok(all.div_ceil(3))
}

/// Kills cafevm on a disk with these keys again and again. Every fourth round begins with an empty image, which
/// `prepare` makes.
fn kill(scratch: &Scratch, qcow2: &Path, keys: &str, prepare: impl Fn() -> Outcome) -> Outcome {
    let elf = scratch.path("numbered");
    fs::write(&elf, NUMBERED)?;
    let elf = elf.display().to_string();
    let (mut safe, mut rounds_with_news, mut leaks) = (0, 0, 0);
    let rounds = kills()?;
    for round in 0..rounds {
        if round % 4 == 0 {
            prepare()?;
            safe = 0;
        }
        let words = format!("start={} sectors={SECTORS}", safe + 1);
        let arguments =
            ["run", "--kernel", &elf, "--disk", keys, "--cmdline", &words, "--timeout", "60"];
        let mut process = Process::start(Path::new(PROGRAM), arguments)?;
        process.wait_for("ready\r\n")?;
        let moment = RandomState::new().hash_one(round) % MOMENTS;
        process.listen(Duration::from_micros(moment));
        process.kill()?;
        let ended = process.finish()?;
        ensure!(ended.by_signal(SIGKILL), "{:?}: {} {}", ended.status, ended.text(), ended.log);
        let before = safe;
        safe = numbered::heard(&ended, safe)?;
        rounds_with_news += u64::from(safe > before);
        leaks += u64::from(examine(qcow2)? == Found::Leaks);
        numbered::holds(&content(scratch, qcow2)?, safe)
            .map_err(|e| format!("round {round}: {}", e.message().unwrap_or_default()))?;
    }
    println!(
        "{keys}: {rounds} kills, {rounds_with_news} of them behind an answered write; {leaks} left clusters to free"
    );
    ensure!(2 * rounds_with_news >= rounds, "only {rounds_with_news} of {rounds} rounds wrote");
    // Opened for writing and closed, nothing is left.
    shell_succeeds(keys, "read 0")?;
    check(qcow2)
}

fn empty(path: &Path) -> Outcome {
    let (name, size) = (path.display().to_string(), (SECTORS * SECTOR).to_string());
    qemu_img::run(&["create", "-q", "-f", "qcow2", "-o", CLUSTER, &name, &size]).map(drop)
}

/// Not where temporary files go: that may be memory.
fn scratch() -> Result<Scratch, Failed> {
    Ok(Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?)
}

pub(crate) fn killed_on_an_image() -> Outcome {
    let scratch = scratch()?;
    let path = scratch.path("d.qcow2");
    let keys = format!("path={},format=qcow2", path.display());
    kill(&scratch, &path, &keys, || empty(&path))
}

pub(crate) fn killed_over_svirtb() -> Outcome {
    let scratch = scratch()?;
    let path = scratch.path("d.qcow2");
    let keys = format!("path={},format=qcow2,bus=svirtb", path.display());
    kill(&scratch, &path, &keys, || empty(&path))
}

pub(crate) fn killed_on_an_overlay() -> Outcome {
    let scratch = scratch()?;
    let base = scratch.holding("base.img", vec![0; SECTORS * SECTOR])?;
    let path = scratch.path("overlay.qcow2");
    let keys = format!("path={},overlay={}", base.path().display(), path.display());
    kill(&scratch, &path, &keys, || match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    })?;
    base.is_untouched()
}
