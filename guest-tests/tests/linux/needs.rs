//! What the test needs of this machine, and the line for what is missing.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The Debian packages to install, one a line beside the comments.
pub(crate) const PACKAGES: &str = include_str!("packages");

/// The programs, each with how it can be had.
const PROGRAMS: [&str; 10] = [
    "qemu-system-x86_64",
    "mke2fs",
    "e2fsck",
    "debugfs",
    "lz4",
    "apt-get",
    "dpkg-deb",
    "qemu-img",
    "nbdkit",
    "openssl",
];

/// Whether a machine that lacks something fails the test, and does not pass it over.
pub(crate) fn required() -> bool {
    env::var_os("CAFEVM_REQUIRE_LINUX").is_some_and(|value| value == "1")
}

/// What is missing here, in one line.
pub(crate) fn missing() -> Option<String> {
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|program| find(program).is_none()).collect();
    if missing.is_empty() {
        return None;
    }
    let packages: Vec<&str> = PACKAGES.lines().filter(|line| !line.starts_with('#')).collect();
    Some(format!(
        "no {}: on Debian, apt-get install {} (CAFEVM_REQUIRE_LINUX=1 makes that a failure)",
        missing.join(", "),
        packages.join(" ")
    ))
}

/// A command of the host's, found also where only root has it in PATH.
pub(crate) fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| program.into()))
}

pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|file| file.is_file())
}
