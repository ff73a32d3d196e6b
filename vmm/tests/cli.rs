//! Wrong input to the real program: each gives one clear line and the right exit status, and leaves no file behind.
//! None of these tests needs /dev/kvm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and makes small numbers"
)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};

use cafevm_devices::block::{Access, Image, Opening};
use tempfile::TempDir;

#[path = "cli/lines.rs"]
mod lines;

const USAGE: i32 = 2;
const FAILED: i32 = 4;

/// A directory with the files that the tests name.
fn scene() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    file("d.img", &[0; 4096]);
    file("small.img", &[0; 100]);
    file("ragged.img", &[0; 4095]);
    file("empty", b"");
    file("text", b"hello, world\n");
    file("script", b"#!/bin/sh\n");
    file("kernel.gz", b"\x1f\x8b\x08\x00");
    let mut bzimage = vec![0; 1024];
    bzimage[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    file("bzImage", &bzimage);
    file("arm64", &elf(183, 2));
    file("object.o", &elf(62, 1));
    file("nothing-to-load", &elf(62, 2));
    fs::create_dir(dir.path().join("dir")).unwrap();
    dir
}

/// The header of an ELF file, without content.
fn elf(machine: u16, kind: u16) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[16..18].copy_from_slice(&kind.to_le_bytes());
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[20] = 1; // e_version
    bytes
}

fn cafevm<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cafevm"))
        .current_dir(dir)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs `cafevm run` with `args`, and expects this status and one line with these words.
#[track_caller]
fn refused(status: i32, args: &[&str], words: &[&str]) {
    let dir = scene();
    let before = fs::read_dir(dir.path()).unwrap().count();
    // A run that gets as far as KVM fails there, with another error.
    let args: Vec<_> = ["run", "--kvm", "no-kvm"].iter().chain(args).copied().collect();
    let (code, stdout, stderr) = cafevm(dir.path(), &args);
    assert_eq!((code, stdout.as_str()), (status, ""), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("cafevm: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no '{word}' in: {stderr}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before, "{args:?} left a file");
}

#[test]
fn wrong_flags() {
    refused(USAGE, &["--kernle", "x"], &["--kernle", "--kernel"]);
    refused(USAGE, &["--bogus"], &["--bogus", "see 'cafevm run --help'"]);
    refused(FAILED, &["d.img"], &["--kernel d.img", "not an ELF file"]);
    refused(USAGE, &["--kernel"], &["--kernel", "value"]);
    refused(USAGE, &["--cpus", "0"], &["--cpus", "at least 1"]);
    refused(USAGE, &["--cpus", "-1"], &["--cpus", "whole number"]);
    refused(USAGE, &["--cpus", "two"], &["--cpus", "'two'"]);
    for text in ["0", "-1", "soon", "nan", "inf"] {
        refused(USAGE, &["--timeout", text], &["--timeout", text, "greater than 0"]);
    }
    refused(USAGE, &["--memory", "64"], &["--memory", "'64' has no unit", "64M"]);
    refused(USAGE, &["--memory", "64MB"], &["--memory", "'64MB' is not a size", "64 MiB"]);
    refused(USAGE, &["--memory", "99999999999999T"], &["--memory", "larger than any memory"]);
}

#[test]
fn no_command_or_an_unknown_one() {
    let dir = scene();
    let (code, stdout, stderr) = cafevm(dir.path(), &["walk"]);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (USAGE, "", 1), "{stderr}");
    // The help, with the status of an error.
    let (code, stdout, stderr) = cafevm(dir.path(), &[] as &[&str]);
    assert_eq!((code, stdout.as_str()), (USAGE, ""));
    assert_eq!(stderr, cafevm(dir.path(), &["--help"]).1);
}

#[test]
fn help_names_every_exit_status() {
    let (code, stdout, stderr) = cafevm(Path::new("/"), &["run", "--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for word in ["0xf4", "Ctrl-A X", "124", "130", "64M is 64 MiB", "--disk", "--kvm"] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
}

#[test]
fn wrong_specs() {
    refused(
        USAGE,
        &["--disk", "path=d.img,reodonly=on"],
        &["'reodonly'", "'readonly'", "entry-size"],
    );
    refused(USAGE, &["--disk", "path=d.img,bus=scsi"], &["'scsi'", "virtio, svirtb"]);
    refused(USAGE, &["--disk", "path=d.img,readonly=yes"], &["'yes'", "on, off"]);
    refused(USAGE, &["--disk", "path=d.img,bus=svirtb,entry-size=30"], &["'30'", "auto, 32, 28"]);
    refused(USAGE, &["--disk", "bus=virtio"], &["no path", "path=FILE"]);
    refused(USAGE, &["--disk", "path="], &["no path"]);
    refused(USAGE, &["--disk", "a,b.img"], &["',,'"]);
    refused(USAGE, &["--disk", "path=d.img,id=123456789012345678901"], &["at most 20"]);
}

#[test]
fn disks_that_do_not_go_together() {
    let svirtb = ["--disk", "path=d.img,bus=svirtb", "--disk", "path=empty,bus=svirtb"];
    refused(USAGE, &svirtb, &["only one disk", "bus=svirtb", "empty"]);
    let many: Vec<_> = (0..20).flat_map(|_| ["--disk", "path=d.img,ro"]).collect();
    refused(USAGE, &many, &["20 virtio devices", "19"]);
    refused(
        FAILED,
        &["--disk", "d.img", "--disk", "./d.img"],
        &["./d.img", "twice", "readonly=on"],
    );
    refused(FAILED, &["--disk", "d.img,ro", "--disk", "d.img,bus=svirtb"], &["twice"]);
    refused(FAILED, &["--disk", "d.img,snapshot=on", "--disk", "d.img"], &["twice", "snapshot=on"]);
    let contradiction = ["--disk", "d.img,snapshot=on,ro"];
    refused(USAGE, &contradiction, &["--disk d.img", "readonly=on and snapshot=on exclude"]);
    let contradiction = ["--disk", "d.img,engine=mmap,cache=none"];
    refused(USAGE, &contradiction, &["--disk d.img", "engine=mmap", "cache=none"]);
    for (id, word) in [("virtio1", "the control socket"), ("cafevm-disk1", "an id of its own")] {
        let first = format!("d.img,id={id}");
        let words = ["--disk d.img", "--disk text", id, word];
        refused(USAGE, &["--disk", &first, "--disk", "text"], &words);
    }
}

#[test]
fn images_that_cannot_be_used() {
    refused(FAILED, &["--disk", "nope.img"], &["--disk nope.img", "no such image", "truncate"]);
    refused(FAILED, &["--disk", "dir"], &["--disk dir", "directory"]);
    refused(FAILED, &["--disk", "empty"], &["--disk empty", "is empty", "truncate"]);
    refused(FAILED, &["--disk", "/dev/null"], &["/dev/null", "regular file"]);
    refused(
        FAILED,
        &["--disk", "small.img"],
        &["--disk small.img", "100 bytes", "512", "truncate"],
    );
    refused(FAILED, &["--disk", "ragged.img,block-size=4096"], &["4095 bytes", "block of 4096"]);
}

#[test]
fn an_image_that_another_cafevm_uses() {
    let dir = scene();
    let path = dir.path().join("d.img");
    let used = Image::open(&path, Opening::cached(Access::ReadWrite)).unwrap();
    let args = ["run", "--kvm", "no-kvm", "--disk", "d.img"];
    let (code, _, stderr) = cafevm(dir.path(), &args);
    assert_eq!(code, FAILED);
    assert!(stderr.contains("--disk d.img: in use by another cafevm"), "{stderr}");
    drop(used);
    let (code, _, stderr) = cafevm(dir.path(), &args);
    assert_eq!(code, FAILED);
    assert!(stderr.contains("no-kvm"), "{stderr}");
}

#[test]
fn an_image_that_may_not_be_written() {
    let dir = scene();
    let path = dir.path().join("d.img");
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    if File::options().write(true).open(&path).is_ok() {
        return; // root may write to everything
    }
    let (code, _, stderr) = cafevm(dir.path(), &["run", "--kvm", "no-kvm", "--disk", "d.img"]);
    assert_eq!(code, FAILED);
    assert!(stderr.contains("d.img: may not be written; give readonly=on"), "{stderr}");
}

#[test]
fn kernels_that_are_none() {
    for (file, words) in [
        ("nope", ["--kernel nope", "no such file"]),
        ("dir", ["--kernel dir", "is a directory"]),
        ("/dev/zero", ["/dev/zero", "not a regular file"]),
        ("empty", ["not an ELF file", "it is empty"]),
        ("text", ["not an ELF file", "text file"]),
        ("script", ["not an ELF file", "script"]),
        ("kernel.gz", ["compressed with gzip", "gzip -d"]),
        ("bzImage", ["bzImage", "2.12"]),
        ("d.img", ["not an ELF file", "zeros"]),
        ("arm64", ["arm64", "x86-64"]),
        ("object.o", ["object file", "link it"]),
        ("nothing-to-load", ["nothing to load", "PT_LOAD"]),
        (env!("CARGO_BIN_EXE_cafevm"), ["a program for an operating system", "not a kernel"]),
    ] {
        refused(FAILED, &["--kernel", file], &words);
    }
}

#[test]
fn memory_that_is_too_small_or_no_pages() {
    refused(FAILED, &["--memory", "64K"], &["--memory 64 KiB", "too small", "1 MiB"]);
    refused(FAILED, &["--memory", "4097K"], &["--memory 4097 KiB", "4 KiB"]);
    refused(
        FAILED,
        &["--memory", "1M"],
        &["(built-in)", "does not fit", "--memory 1 MiB", "give at least"],
    );
}

#[test]
fn initrds_and_command_lines_that_do_not_fit() {
    refused(FAILED, &["--initrd", "nope"], &["--initrd nope", "no such file"]);
    refused(FAILED, &["--initrd", "dir"], &["--initrd dir", "directory"]);
    refused(FAILED, &["--initrd", "empty"], &["--initrd empty", "is empty"]);
    refused(FAILED, &["--cmdline", &"a".repeat(70_000)], &["--cmdline", "70000 bytes", "65535"]);
    let big = tempfile::NamedTempFile::new().unwrap();
    big.as_file().set_len(8 << 20).unwrap();
    let path = big.path().to_str().unwrap();
    refused(
        FAILED,
        &["--memory", "8M", "--initrd", path],
        &["--initrd", "8 MiB", "--memory 8 MiB"],
    );
}

#[test]
fn a_console_that_would_destroy_a_file_of_the_machine() {
    refused(FAILED, &["--disk", "d.img", "--serial", "dir/../d.img"], &["--serial", "disk"]);
    refused(FAILED, &["--serial", "arm64", "--kernel", "arm64"], &["arm64"]);
    let is_device = |path: &str| fs::metadata(path).is_ok_and(|m| m.file_type().is_block_device());
    let device =
        ["/dev/loop0", "/dev/sda", "/dev/vda", "/dev/nvme0n1"].into_iter().find(|d| is_device(d));
    if let Some(device) = device {
        refused(FAILED, &["--serial", device], &[device, "is a block device"]);
    }
}

#[test]
fn a_console_is_not_made_where_the_machine_is_not() {
    // `refused` checks that no file is left.
    refused(FAILED, &["--serial", "log.txt"], &["no-kvm"]);
}

#[test]
fn no_kvm_or_something_else_in_its_place() {
    refused(FAILED, &[], &["no-kvm: no such file", "leave --kvm out"]);
    let dir = scene();
    for (device, word) in [("/dev/null", "is not a KVM device"), ("dir", "cannot be opened as KVM")]
    {
        let (code, _, stderr) = cafevm(dir.path(), &["run", "--kvm", device]);
        assert_eq!((code, stderr.lines().count()), (FAILED, 1));
        assert!(stderr.contains(word), "{stderr}");
    }
}
