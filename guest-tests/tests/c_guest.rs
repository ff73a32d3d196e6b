//! A guest in C and assembly as its author would build and run it: by gcc, with whatever notes gcc adds, and
//! `cafevm run --kernel G`. The program is `c_guest/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cafevm_guest_tests::{Failed, Outcome, SECTOR, Scratch, ensure, extra, fail, sectors, tests};

tests! { needs ["gcc"]; polls_its_disk_and_gives_its_status, says_what_it_misses }

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c_guest");
const ENTRY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../resources/examples/c-guest/entry.S");
const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");

/// Builds the guest, at 2 MiB.
fn build(scratch: &Scratch) -> Result<PathBuf, Failed> {
    let elf = scratch.path("guest");
    let mut gcc = Command::new("gcc");
    gcc.current_dir(SOURCES).args([
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-ffreestanding",
        "-nostdlib",
    ]);
    // Emulated, no vector instruction works; and nothing relocates it.
    gcc.args([
        "-mgeneral-regs-only",
        "-fno-stack-protector",
        "-static",
        "-no-pie",
        "-Wl,-Ttext-segment=0x200000",
    ]);
    // Most compilers add this note by themselves.
    gcc.args(["-Wa,-mx86-used-note=yes", "-Wl,-e,entry", ENTRY, "guest.c", "-o"]).arg(&elf);
    let built = gcc.output()?;
    ensure!(built.status.success(), "gcc: {}", String::from_utf8_lossy(&built.stderr));
    let notes = note_segments(&std::fs::read(&elf)?)?;
    ensure!(
        notes == 2,
        "the guest has {notes} note segments, and what this shows is that there may be two"
    );
    Ok(elf)
}

/// How many PT_NOTE segments a 64-bit ELF file has.
fn note_segments(elf: &[u8]) -> Result<usize, Failed> {
    const PT_NOTE: u16 = 4;
    let half = |at: usize| match elf.get(at..at + 2) {
        Some(&[low, high]) => Ok(u16::from_le_bytes([low, high])),
        _ => Err(Failed::from("gcc's ELF file ends early")),
    };
    // e_phoff, e_phentsize, e_phnum; all small enough for 16 bits.
    let (offset, size, count) = (usize::from(half(32)?), usize::from(half(54)?), half(56)?);
    let mut notes = 0;
    for n in 0..usize::from(count) {
        notes += usize::from(half(offset + n * size)? == PT_NOTE);
    }
    Ok(notes)
}

/// Runs it as in the README, without input. Returns its exit status and its two outputs.
fn run(elf: &Path, cmdline: &str, disk: Option<&Path>) -> Result<(i32, String, String), Failed> {
    let mut cafevm = Command::new(PROGRAM);
    cafevm
        .args(["run", "--memory", "64M", "--timeout", "120", "--cmdline", cmdline, "--kernel"])
        .arg(elf);
    match disk {
        Some(disk) => cafevm.arg("--disk").arg(format!("path={}", disk.display())),
        // No device at all, whatever the environment asks for.
        None => cafevm.env_remove(extra::VARIABLE),
    };
    let ended = cafevm.stdin(Stdio::null()).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match ended.status.code() {
        Some(code) => Ok((code, text(&ended.stdout), text(&ended.stderr))),
        None => fail!("{:?}: {}", ended.status, text(&ended.stderr)),
    }
}

fn polls_its_disk_and_gives_its_status() -> Outcome {
    let scratch = Scratch::new()?;
    let elf = build(&scratch)?;
    let image = scratch.image("d.img", 30 * SECTOR)?;
    let ended = run(&elf, "code=0x2a swap=3,29", Some(image.path()))?;
    // It asks for no FLUSH, so that its writes are in the image when they are answered.
    let wanted = (85, "30 sectors\nswapped 3 29\n".to_owned(), String::new());
    ensure!(ended == wanted, "{ended:?}");
    image.holds(|wanted| {
        let (low, high) = wanted.split_at_mut(29 * SECTOR);
        low[sectors(3..4)].swap_with_slice(high);
    })?;

    // And once more, which brings it back.
    let ended = run(&elf, "swap=29,3 code=0", Some(image.path()))?;
    ensure!(ended.0 == 1, "{ended:?}");
    image.is_untouched()
}

fn says_what_it_misses() -> Outcome {
    let scratch = Scratch::new()?;
    let elf = build(&scratch)?;
    let image = scratch.image("d.img", 30 * SECTOR)?;
    let ended = run(&elf, "code=1 swap=1,2", None)?;
    ensure!(
        ended == (199, "a word is missing on the command line\n".to_owned(), String::new()),
        "{ended:?}"
    );
    // The device answers with an error, and nothing has changed.
    let (status, said, log) = run(&elf, "code=1 swap=1,30", Some(image.path()))?;
    ensure!((status, said.as_str()) == (199, "30 sectors\na read failed\n"), "{status}: {said}");
    let told = log.starts_with("cafevm: warning: virtio0: ") && log.contains("sector 30");
    let named = log
        .lines()
        .last()
        .is_some_and(|line| line.contains("mistakes were found: virtio.blk-range;"));
    ensure!(
        told && named && log.lines().count() == 2,
        "the line on it, and that of the end: {log}"
    );
    image.is_untouched()
}
