//! `qemu-img`, which knows what an image must be.

use std::fs;
use std::path::Path;
use std::process::Command;

use cafevm_guest_tests::{Failed, Outcome, Scratch, difference, ensure};

/// Runs it. Returns its output.
pub(crate) fn qemu_img(arguments: &[&str]) -> Result<String, Failed> {
    let done = Command::new("qemu-img").args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    ensure!(done.status.success(), "qemu-img {arguments:?}: {}: {out}{err}", done.status);
    Ok(out)
}

/// What `qemu-img check` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// Clusters that are marked as used and are not.
    Leaks,
}

/// Examines a qcow2 image, which must not be damaged.
pub(crate) fn examine(path: &Path) -> Result<Found, Failed> {
    let done = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(path).output()?;
    match done.status.code() {
        Some(0) => Ok(Found::Nothing),
        Some(3) => Ok(Found::Leaks),
        _ => Err(Failed::from(format!(
            "qemu-img check {}: {}: {}",
            path.display(),
            done.status,
            String::from_utf8_lossy(&done.stdout)
        ))),
    }
}

/// Fails unless nothing is wrong with a qcow2 image.
pub(crate) fn check(path: &Path) -> Outcome {
    let found = examine(path)?;
    ensure!(found == Found::Nothing, "{}: {found:?}", path.display());
    Ok(())
}

/// Converts an image.
pub(crate) fn convert(from: &Path, to: &Path, format: &str, options: &[&str]) -> Outcome {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let ends = [&*from, &*to];
    qemu_img(&[&["convert", "-O", format], options, &ends].concat()).map(drop)
}

/// The content of the disk in a qcow2 image.
pub(crate) fn content(scratch: &Scratch, path: &Path) -> Result<Vec<u8>, Failed> {
    let raw = scratch.path("content.img");
    convert(path, &raw, "raw", &[])?;
    Ok(fs::read(raw)?)
}

/// Fails unless the disk in a qcow2 image has these bytes.
pub(crate) fn differs(scratch: &Scratch, path: &Path, wanted: &[u8]) -> Outcome {
    match difference(&content(scratch, path)?, wanted) {
        None => Ok(()),
        Some(text) => Err(Failed::from(format!("{}: {text}", path.display()))),
    }
}
