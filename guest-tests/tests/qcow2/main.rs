//! Disks in qcow2 files: format=qcow2, overlay=, backups and commits, against `qemu-img` (Debian: qemu-utils).

mod copies;
mod killed;

use std::fs;
use std::path::Path;

use cafevm_guest_tests::process::{Ended, Process};
use cafevm_guest_tests::qemu_img::{self, check, convert, differs};
use cafevm_guest_tests::{
    Failed, Guest, Outcome, SECTOR, Scratch, ensure, pattern, sectors, tests,
};
use cafevm_resources::test_guests::KEV;
use copies::{a_backup_while_the_guest_writes, a_commit_while_the_guest_writes, copies_that_fail};
use killed::{killed_on_an_image, killed_on_an_overlay, killed_over_svirtb};

tests! {
    needs ["qemu-img"];
    the_shell_on_an_image,
    the_shell_on_an_overlay,
    a_course_driver_on_an_image,
    a_compressed_image,
    a_chain_of_three,
    a_snapshot_of_an_image,
    an_image_of_qemu_of_each_cluster_size,
    what_cannot_be_used,
    killed_on_an_image,
    killed_on_an_overlay,
    killed_over_svirtb,
    a_backup_while_the_guest_writes,
    a_commit_while_the_guest_writes,
    copies_that_fail,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
/// The bytes of most disks here.
const SIZE: usize = 1 << 20;

/// Runs the built-in shell with these commands on a disk, as a process.
fn shell(disk: &str, commands: &str) -> Result<Ended, Failed> {
    let words = format!("sh=\"{commands}; exit\"");
    let arguments = ["run", "-v", "--disk", disk, "--cmdline", &words, "--timeout", "60"];
    Process::start(Path::new(PROGRAM), arguments)?.finish()
}

/// The same, which must succeed.
fn shell_succeeds(disk: &str, commands: &str) -> Result<Ended, Failed> {
    let ended = shell(disk, commands)?;
    ensure!(ended.status.success(), "{:?}: {} {}", ended.status, ended.text(), ended.log);
    Ok(ended)
}

/// Writes these bytes to a raw file, and converts that to a qcow2 image.
fn image(scratch: &Scratch, bytes: &[u8], options: &[&str]) -> Outcome {
    fs::write(scratch.path("raw.img"), bytes)?;
    convert(&scratch.path("raw.img"), &scratch.path("d.qcow2"), "qcow2", options)
}

/// Fails unless the image at `path` is in order and has these bytes.
fn holds(scratch: &Scratch, path: &Path, wanted: &[u8]) -> Outcome {
    check(path)?;
    differs(scratch, path, wanted)
}

fn the_shell_on_an_image() -> Outcome {
    let scratch = Scratch::new()?;
    let mut wanted = pattern(1, 0..SIZE);
    image(&scratch, &wanted, &[])?;
    let path = scratch.path("d.qcow2");
    let disk = format!("path={},format=qcow2", path.display());
    let ended = shell_succeeds(&disk, "write 3 hello; fill 100 0x5a 200; flush; read 3")?;
    ensure!(ended.text().contains("hello"), "{}", ended.text());
    ensure!(ended.log.contains("1 MiB, qcow2"), "{}", ended.log);
    wanted[sectors(3..4)].fill(0);
    wanted[3 * SECTOR..3 * SECTOR + 5].copy_from_slice(b"hello");
    wanted[sectors(100..300)].fill(0x5a);
    holds(&scratch, &path, &wanted)?;
    // Without a flush the end of the machine is one.
    shell_succeeds(&disk, "fill 0 0x11 1")?;
    wanted[sectors(0..1)].fill(0x11);
    holds(&scratch, &path, &wanted)?;
    // Taken for raw, there is a warning that says what to do.
    let ended = shell_succeeds(&format!("path={},readonly=on", path.display()), "read 0")?;
    ensure!(
        ended.log.contains("a qcow2 image") && ended.log.contains("format=qcow2"),
        "{}",
        ended.log
    );
    Ok(())
}

fn the_shell_on_an_overlay() -> Outcome {
    let scratch = Scratch::new()?;
    let base = scratch.seeded("base.img", 7, SIZE)?;
    let overlay = scratch.path("overlay.qcow2");
    let keys = format!("path={},overlay={}", base.path().display(), overlay.display());
    let ended = shell_succeeds(&keys, "fill 10 0xaa 1; fill 1000 0xbb 300; flush")?;
    ensure!(ended.log.contains("qcow2 over "), "{}", ended.log);
    let mut wanted = pattern(7, 0..SIZE);
    wanted[sectors(10..11)].fill(0xaa);
    wanted[sectors(1000..1300)].fill(0xbb);
    holds(&scratch, &overlay, &wanted)?;
    let info = qemu_img::run(&["info", &overlay.display().to_string()])?;
    ensure!(
        info.contains("backing file: base.img") && info.contains("backing file format: raw"),
        "{info}"
    );
    // It goes on where it was.
    shell_succeeds(&keys, "fill 2047 0xcc 1")?;
    wanted[sectors(2047..2048)].fill(0xcc);
    holds(&scratch, &overlay, &wanted)?;
    // Named by itself, it needs permission to open its base.
    let alone = format!("path={},format=qcow2,readonly=on", overlay.display());
    let ended = shell(&alone, "read 10")?;
    ensure!(ended.status.code() == Some(4) && ended.log.contains("backing=allow"), "{}", ended.log);
    let ended = shell_succeeds(&format!("{alone},backing=allow"), "sum 10 1")?;
    ensure!(!ended.text().is_empty(), "it printed nothing");
    base.is_untouched()
}

fn a_course_driver_on_an_image() -> Outcome {
    let scratch = Scratch::new()?;
    let raw = scratch.image("raw.img", 40 * SECTOR)?;
    let path = scratch.path("d.qcow2");
    convert(raw.path(), &path, "qcow2", &[])?;
    let run = Guest::new(KEV).disk_at(&path, "bus=svirtb,format=qcow2").run()?;
    ensure!(run.text.contains("ok finish\n"), "{run}");
    let mut wanted = pattern(1, 0..40 * SECTOR);
    wanted[sectors(2..3)].fill(0x22);
    wanted[sectors(39..40)].fill(0x99);
    holds(&scratch, &path, &wanted)
}

fn a_compressed_image() -> Outcome {
    let scratch = Scratch::new()?;
    // Its last cluster is a part of one, and its content can be compressed.
    let bytes = SIZE + 5 * SECTOR;
    let mut wanted: Vec<u8> = (0..bytes).map(|at| at.to_le_bytes()[1] & 0xf0).collect();
    image(&scratch, &wanted, &["-c"])?;
    let path = scratch.path("d.qcow2");
    let disk = format!("path={},format=qcow2", path.display());
    shell_succeeds(&disk, "fill 0 0x5a 1; fill 500 0x5b 700; fill 2051 0x5c 2; flush; read 2050")?;
    wanted[sectors(0..1)].fill(0x5a);
    wanted[sectors(500..1200)].fill(0x5b);
    wanted[sectors(2051..2053)].fill(0x5c);
    holds(&scratch, &path, &wanted)
}

fn a_chain_of_three() -> Outcome {
    let scratch = Scratch::new()?;
    let base = scratch.seeded("base.img", 9, SIZE)?;
    let create = |name: &str, below: &str, format: &str| {
        let path = scratch.path(name).display().to_string();
        qemu_img::run(&["create", "-q", "-f", "qcow2", "-b", below, "-F", format, &path])
    };
    create("middle.qcow2", "base.img", "raw")?;
    let (middle, top) = (scratch.path("middle.qcow2"), scratch.path("top.qcow2"));
    let keys = |path: &Path| format!("path={},format=qcow2,backing=allow", path.display());
    shell_succeeds(&keys(&middle), "fill 5 0x0b 1; fill 600 0x0c 100")?;
    create("top.qcow2", "middle.qcow2", "qcow2")?;
    let before = fs::read(&middle)?;
    let ended = shell_succeeds(&keys(&top), "fill 6 0x0d 1; fill 650 0x0e 1; flush")?;
    ensure!(ended.log.matches(" over ").count() == 2, "{}", ended.log);
    let mut wanted = pattern(9, 0..SIZE);
    wanted[sectors(5..6)].fill(0x0b);
    wanted[sectors(600..700)].fill(0x0c);
    wanted[sectors(6..7)].fill(0x0d);
    wanted[sectors(650..651)].fill(0x0e);
    holds(&scratch, &top, &wanted)?;
    ensure!(fs::read(&middle)? == before, "a backing file was changed");
    base.is_untouched()
}

fn a_snapshot_of_an_image() -> Outcome {
    let scratch = Scratch::new()?;
    image(&scratch, &pattern(1, 0..SIZE), &[])?;
    let path = scratch.path("d.qcow2");
    let before = fs::read(&path)?;
    let disk = format!("path={},format=qcow2,snapshot=on", path.display());
    shell_succeeds(&disk, "fill 10 0xaa 500; flush; sum 0 64")?;
    ensure!(fs::read(&path)? == before, "the image was changed");
    Ok(())
}

fn an_image_of_qemu_of_each_cluster_size() -> Outcome {
    let scratch = Scratch::new()?;
    for bits in [9, 12, 16, 21] {
        for refcounts in [1, 16, 64] {
            let path = scratch.path(&format!("{bits}-{refcounts}.qcow2"));
            let options = format!("cluster_size={},refcount_bits={refcounts}", 1 << bits);
            let name = path.display().to_string();
            qemu_img::run(&["create", "-q", "-f", "qcow2", "-o", &options, &name, "8M"])?;
            let disk = format!("path={name},format=qcow2");
            shell_succeeds(&disk, "fill 0 0x01 700; fill 9000 0x02 3; fill 16383 0x03 1; flush")?;
            let mut wanted = vec![0; 8 << 20];
            wanted[sectors(0..700)].fill(1);
            wanted[sectors(9000..9003)].fill(2);
            wanted[sectors(16383..16384)].fill(3);
            holds(&scratch, &path, &wanted)?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn what_cannot_be_used() -> Outcome {
    let scratch = Scratch::new()?;
    let raw = scratch.image("raw.img", SIZE)?;
    let path = |name: &str| scratch.path(name).display().to_string();
    let raw_path = raw.path().display().to_string();
    let create = |name: &str, options: &[&str]| {
        qemu_img::run(&[&["create", "-q", "-f", "qcow2"], options, &[&*path(name), "1M"]].concat())
    };
    create("old", &["-o", "compat=0.10"])?;
    create("external", &["-o", &format!("data_file={}", path("data"))])?;
    create("subclusters", &["-o", "extended_l2=on"])?;
    create("snapshots", &[])?;
    qemu_img::run(&["snapshot", "-c", "one", &path("snapshots")])?;
    create("other", &["-b", "raw.img", "-F", "raw"])?;
    fs::write(path("base2.img"), vec![0; SIZE])?;
    let over = |base: &str, overlay: &str| format!("path={base},overlay={}", path(overlay));
    for (disk, status, words) in [
        (format!("path={raw_path},format=qcow2"), 4, "is no qcow2 image"),
        (format!("path={},format=qcow2", path("old")), 4, "qemu-img amend -o compat=1.1"),
        (format!("path={},format=qcow2", path("external")), 4, "data_file"),
        (format!("path={},format=qcow2", path("subclusters")), 4, "extended_l2"),
        (format!("path={},format=qcow2", path("snapshots")), 4, "qemu-img snapshot -d"),
        (over(&path("base2.img"), "other"), 4, "is no overlay of"),
        (format!("{},snapshot=on", over(&raw_path, "o")), 2, "exclude each other"),
        (format!("{},readonly=on", over(&raw_path, "o")), 2, "exclude each other"),
        (format!("{},engine=uring", over(&raw_path, "o")), 2, "engine=sync"),
        (format!("path={raw_path},backing=allow"), 2, "is for format=qcow2"),
        (format!("path={raw_path},format=vmdk"), 2, "raw, qcow2"),
        (over(&raw_path, "raw.img"), 4, "is attached twice"),
    ] {
        let ended = shell(&disk, "read 0")?;
        let line = ended.log.lines().last().unwrap_or_default();
        ensure!(
            ended.status.code() == Some(status) && line.contains(words),
            "{disk}: {:?}: {}",
            ended.status,
            ended.log
        );
    }
    ensure!(!Path::new(&path("o")).exists(), "a refused overlay was made");
    // An old image can be read.
    shell_succeeds(&format!("path={},format=qcow2,readonly=on", path("old")), "read 0")?;
    shell_succeeds(&format!("path={},format=qcow2,snapshot=on", path("snapshots")), "fill 0 1 1")?;
    raw.is_untouched()
}
