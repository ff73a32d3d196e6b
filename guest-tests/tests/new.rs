//! `cafevm new`: the kernel that it writes builds with gcc and make, and uses a disk over both protocols.

use std::path::Path;
use std::process::{Command, Output};

use cafevm_guest_tests::{Failed, Outcome, SECTOR, Scratch, ensure, tests};

tests! { needs ["gcc", "make"]; the_kernel_runs_with_both_disks_and_can_be_traced }

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");

fn make(dir: &Path, target: &str) -> Result<Output, Failed> {
    let mut make = Command::new("make");
    // The settings of the make or cargo that runs this test are not those of the kernel.
    make.env_remove("MAKEFLAGS").env_remove("CFLAGS").env_remove("LDFLAGS");
    let run = make.current_dir(dir).arg("--silent").arg(target).arg(format!("CAFEVM={PROGRAM}"));
    Ok(run.output()?)
}

fn the_kernel_runs_with_both_disks_and_can_be_traced() -> Outcome {
    let scratch = Scratch::new()?;
    let dir = scratch.path("k");
    let new = Command::new(PROGRAM).arg("new").arg(&dir).output()?;
    let next = String::from_utf8_lossy(&new.stdout).into_owned();
    ensure!(new.status.success() && next.contains("make run"), "{next}");
    for (target, name) in [("run", "virtio"), ("run-svirtb", "svirtb")] {
        let ended = make(&dir, target)?;
        let (text, log) =
            (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        let wanted = format!("{name}: sector 1 holds \"hello from my kernel\"\n");
        // No warning of the compiler, and none of the device: the driver keeps the rules.
        ensure!(
            ended.status.success() && text == wanted && log.is_empty(),
            "{target}: {text}{log}"
        );
        let image = std::fs::read(dir.join("disk.img"))?;
        let sector = &image[SECTOR..2 * SECTOR];
        ensure!(sector.starts_with(b"hello from my kernel\0"), "{target}: the disk: {sector:?}");
        std::fs::write(dir.join("disk.img"), vec![0; image.len()])?;
    }
    let ended = make(&dir, "trace")?;
    let trace = String::from_utf8_lossy(&ended.stderr);
    // Each line of the driver's code has its place.
    ensure!(
        trace.contains("transfer (virtio.c:") && trace.contains("virtio_open (virtio.c:"),
        "{trace}"
    );
    Ok(())
}
