//! `cafevm demo`: the same output each time, in 80 columns, and a correct status.

use std::fs::OpenOptions;
use std::process::{Command, Output};

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    ("the_demo_is_the_same_each_time_in_80_columns", the_same_each_time),
    ("the_demo_says_that_it_could_not_be_written", it_could_not_be_written),
    ("the_demo_looks_for_kvm_first", it_looks_for_kvm_first),
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
