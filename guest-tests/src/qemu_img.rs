//! `qemu-img`, which knows what an image must be.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Failed, Outcome, Scratch, difference, ensure};

/// Runs it. Returns its output.
///
/// # Errors
///
/// If it fails: what it printed.
pub fn run(arguments: &[&str]) -> Result<String, Failed> {
    let done = Command::new("qemu-img").args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    ensure!(done.status.success(), "qemu-img {arguments:?}: {}: {out}{err}", done.status);
    Ok(out)
}

/// What `qemu-img check` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The image is in order.
    Nothing,
    /// Clusters that are marked as used and are not.
    Leaks,
}

/// Examines a qcow2 image, which must not be damaged.
///
/// # Errors
///
/// If the image is damaged.
pub fn examine(path: &Path) -> Result<Found, Failed> {
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
///
/// # Errors
///
/// If something is.
pub fn check(path: &Path) -> Outcome {
    let found = examine(path)?;
    ensure!(found == Found::Nothing, "{}: {found:?}", path.display());
    Ok(())
}

/// Converts an image.
///
/// # Errors
///
/// If `qemu-img` cannot.
pub fn convert(from: &Path, to: &Path, format: &str, options: &[&str]) -> Outcome {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let ends = [&*from, &*to];
    run(&[&["convert", "-O", format], options, &ends].concat()).map(drop)
}

/// The content of the disk in a qcow2 image.
///
/// # Errors
///
/// If `qemu-img` cannot convert it, or the host cannot read it.
pub fn content(scratch: &Scratch, path: &Path) -> Result<Vec<u8>, Failed> {
    let raw = scratch.path("content.img");
    convert(path, &raw, "raw", &[])?;
    Ok(fs::read(raw)?)
}

/// Fails unless the disk in a qcow2 image has these bytes.
///
/// # Errors
///
/// If it has others: where, and how.
pub fn differs(scratch: &Scratch, path: &Path, wanted: &[u8]) -> Outcome {
    match difference(&content(scratch, path)?, wanted) {
        None => Ok(()),
        Some(text) => Err(Failed::from(format!("{}: {text}", path.display()))),
    }
}

/// Fails unless the disks in two images are the same to the byte. Each image is a path and a format.
///
/// # Errors
///
/// If they differ: what `qemu-img compare` says.
pub fn compare(one: (&Path, &str), other: (&Path, &str)) -> Outcome {
    let (first, second) = (one.0.display().to_string(), other.0.display().to_string());
    run(&["compare", "-f", one.1, "-F", other.1, &first, &second]).map(drop)
}
