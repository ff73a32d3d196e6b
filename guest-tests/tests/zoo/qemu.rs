//! The same drivers on QEMU's microvm, for the table of docs/doctor.md. It is for comparison: nothing here fails a test.
//!
//! `CAFEVM_ZOO_QEMU=1 cargo test -p cafevm-guest-tests --test zoo` runs it, where qemu-system-x86_64 is installed.

use std::path::Path;
use std::process::{Command, Stdio};

use cafevm_guest_tests::Failed;

/// What the correct driver prints at its end.
const SUCCESS: &str = "sector 1 holds \"hello from my kernel\"";

/// Whether the user wants the comparison.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("CAFEVM_ZOO_QEMU").is_some_and(|value| value == "1")
}

/// Runs the kernel in `dir` for two seconds. Returns what becomes of it, and QEMU's words: its log of guest errors, too.
///
/// # Errors
///
/// If QEMU cannot be started.
pub(crate) fn run(dir: &Path) -> Result<String, Failed> {
    let mut qemu = Command::new("timeout");
    qemu.current_dir(dir).args([
        "2",
        "qemu-system-x86_64",
        "-accel",
        "kvm",
        "-cpu",
        "host,-arch-capabilities",
    ]);
    qemu.args(["-M", "microvm,acpi=off,auto-kernel-cmdline=on,pit=off,pic=off,rtc=off"]);
    qemu.args([
        "-m",
        "64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
    ]);
    qemu.args(["-d", "guest_errors,unimp", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    qemu.args([
        "-global",
        "virtio-mmio.force-legacy=false",
        "-device",
        "virtio-blk-device,drive=d0",
    ]);
    qemu.args(["-drive", "id=d0,file=disk.img,format=raw,if=none", "-kernel", "kernel.elf"]);
    let ended = qemu.stdin(Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&ended.stdout);
    let becomes = match (printed.contains(SUCCESS), ended.status.code()) {
        (true, _) => "works".to_owned(),
        (false, Some(124)) => "waits for ever".to_owned(),
        // The kernel's own report, by the debug exit.
        (false, Some(status)) if status % 2 == 1 => "the driver reports an error".to_owned(),
        (false, _) => format!("QEMU ends: {}", ended.status),
    };
    let log = String::from_utf8_lossy(&ended.stderr);
    let words = log.lines().filter(|line| !line.contains("terminating on signal")).take(2);
    let words: Vec<_> = words.map(|line| line.trim_start_matches("qemu-system-x86_64: ")).collect();
    Ok(if words.is_empty() { becomes } else { format!("{becomes}; \"{}\"", words.join("\"; \"")) })
}
