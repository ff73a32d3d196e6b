//! Disk images, made and looked at from outside of both machines.

use std::fs::{self, File};
use std::path::Path;

use cafevm_guest_tests::{Failed, ensure};

use crate::debian::{run, tool};
use crate::needs;

fn text(path: &Path) -> Result<&str, Failed> {
    path.to_str().ok_or_else(|| "a path that is no text".into())
}

/// Makes a sparse image of `mib` MiB with an ext4 file system that holds what is in `seed`.
pub(crate) fn make(image: &Path, mib: u64, seed: &Path) -> Result<(), Failed> {
    File::create(image)?.set_len(mib << 20)?;
    tool("mke2fs", &["-q", "-F", "-t", "ext4", "-d", text(seed)?, text(image)?])?;
    Ok(())
}

/// The MD5 sum of a file.
pub(crate) fn md5(path: &Path) -> Result<String, Failed> {
    let line = run(needs::command("md5sum").arg(path))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Copies a file out of an image.
pub(crate) fn copy_out(image: &Path, file: &str, to: &Path) -> Result<(), Failed> {
    // It ignores a missing file, and writes none.
    let _absent = fs::remove_file(to);
    tool("debugfs", &["-R", &format!("dump {file} {}", text(to)?), text(image)?])?;
    ensure!(to.exists(), "{} holds no {file}", image.display());
    Ok(())
}

/// How many KiB of a file in an image are not holes.
pub(crate) fn kib_of(image: &Path, file: &str) -> Result<u64, Failed> {
    let shown = tool("debugfs", &["-R", &format!("stat {file}"), text(image)?])?;
    let count = shown.split("Blockcount:").nth(1).and_then(|rest| rest.split_whitespace().next());
    let count: u64 = count.ok_or_else(|| format!("no block count of {file}: {shown}"))?.parse()?;
    Ok(count / 2)
}

/// Checks the file system of an image; an error where there is anything to repair.
pub(crate) fn check(image: &Path) -> Result<(), Failed> {
    tool("e2fsck", &["-f", "-n", text(image)?])?;
    Ok(())
}
