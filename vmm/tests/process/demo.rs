//! `cafevm demo`: the same output each time, in 80 columns, and a correct status.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    ("the_demo_is_the_same_each_time_in_80_columns", the_same_each_time),
    ("the_demo_says_that_it_could_not_be_written", it_could_not_be_written),
    ("the_demo_looks_for_kvm_first", it_looks_for_kvm_first),
    ("the_demo_takes_a_picture_of_its_screen", it_takes_a_picture),
    ("the_demo_replaces_nothing_by_its_picture", it_replaces_nothing),
    ("the_demo_waits_for_viewers", it_waits_for_viewers),
];

fn demo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cafevm"));
    command.arg("demo").args(arguments).output().unwrap()
}

/// The output, without the names of the scratch files and the number of exits.
fn story() -> Vec<String> {
    let output = demo(&[]);
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
    let text = String::from_utf8(output.stdout).unwrap();
    let varies = |line: &&str| line.contains("cafevm-demo-") || line.contains(" exits: ");
    text.lines().filter(|line| !varies(line)).map(str::to_owned).collect()
}

fn the_same_each_time() {
    let (first, second) = (story(), story());
    assert!(first.iter().all(|line| line.chars().count() <= 80), "{first:#?}");
    assert_eq!(first, second);
    let at = |text: &str| first.iter().position(|line| line.contains(text));
    let (virtio, svirtb) = (at("virtio handshake"), at("looks for a disk on svirtb"));
    assert!(virtio.is_some() && virtio < svirtb && svirtb < at("svirtb  <- status"));
    assert!(at("exit status 0").is_some());
    // Guest memory: a ring entry, the rings as the device found them, a descriptor chain, the answer.
    for line in [
        "svirtb  [] ring entry 0 at ",
        "virtio0 [] queue 0: available index 1, used index 0",
        "virtio0 [] entry 0 of the available ring names descriptor 0",
        "virtio0 [] descriptor 1: 512 bytes at ",
        "virtio0 [] entry 0 of the used ring names descriptor 0, 1 byte written",
    ] {
        assert!(at(line).is_some(), "{line}: {first:#?}");
    }
}

fn it_could_not_be_written() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cafevm"));
    let output = command.arg("demo").stdout(full).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(4), 1), "{line}");
    assert!(line.contains("cannot write to standard output: No space left on device"), "{line}");
}

fn it_looks_for_kvm_first() {
    let output = demo(&["--kvm", "/nowhere"]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(4), &b""[..]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--kvm /nowhere"));
}

/// The width and height of a PNG, which are its first fields.
fn size_of_png(bytes: &[u8]) -> (u32, u32) {
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"), "{:?}", bytes.get(..24));
    let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (field(16), field(20))
}

fn it_takes_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("screen.png");
    let output = demo(&["--screenshot", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{text}");
    let png = fs::read(path).unwrap();
    assert_eq!(size_of_png(&png), (1024, 768));
    // Black has next to no bytes; what the guest shows is tested with the guests.
    assert!(png.len() > 3000, "{} bytes", png.len());
    assert!(text.contains("gpu at 0xfeb00200, interrupt line 6: 1024x768 pixels"), "{text}");
    assert!(text.contains("The guest's screen at its end:\n"), "{text}");
    assert!(text.contains("Both images are correct."), "{text}");
    // The story is about the disks.
    assert!(!text.contains("\n  gpu "), "{text}");
}

fn it_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("d.img");
    fs::write(&disk, "precious").unwrap();
    for (path, why) in [(disk.clone(), "no PNG"), (dir.path().join("none/x.png"), "No such file")] {
        let path = path.to_str().unwrap();
        let output = demo(&["--screenshot", path]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(4), &b""[..]), "{line}");
        assert!(line.contains(path) && line.contains(why), "{line}");
    }
    assert_eq!(fs::read(disk).unwrap(), b"precious");
}

fn it_waits_for_viewers() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, picture) = (dir.path().join("vnc"), dir.path().join("screen.png"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_cafevm"));
    command.args(["demo", "--display", &format!("vnc=unix:{}", socket.display())]);
    command.arg("--screenshot").arg(&picture);
    let mut demo = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    // The prompt after the last command.
    let end = Instant::now() + Duration::from_secs(60);
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    let stdout = demo.stdout.as_mut().unwrap();
    while !text.contains("|hello from a vir|") {
        let count = stdout.read(&mut bytes).unwrap();
        text += &String::from_utf8_lossy(&bytes[..count]);
        assert!(count > 0 && Instant::now() < end, "{text}");
    }
    assert!(text.contains(" for VNC viewers at\n  /"), "{text}");
    let mut viewer = UnixStream::connect(&socket).unwrap();
    let mut version = [0; 12];
    viewer.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    // The keys of `exit` and Enter: the shared session of a client without a password.
    viewer.write_all(b"RFB 003.008\n\x01").unwrap();
    let mut types = [0; 2];
    viewer.read_exact(&mut types).unwrap();
    assert_eq!(types, [1, 1]);
    viewer.read_exact(&mut [0; 4]).unwrap();
    viewer.write_all(&[1]).unwrap();
    for key in *b"exit\x0d" {
        let keysym = if key == b'\r' { [0xff, 0x0d] } else { [0, key] };
        for down in [1, 0] {
            viewer.write_all(&[4, down, 0, 0, 0, 0, keysym[0], keysym[1]]).unwrap();
        }
    }
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{text}");
    assert!(text.contains("powered the machine off: exit status 0."), "{text}");
    assert!(!text.contains("Both images are correct"), "{text}");
    assert_eq!(size_of_png(&fs::read(picture).unwrap()), (1024, 768));
}
