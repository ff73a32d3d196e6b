//! Adds the commit to `cafevm --version`, and tells the linker where code goes.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=layout.ld");
    if let Some(directory) = variable("CARGO_MANIFEST_DIR")
        && takes_layout()
    {
        println!("cargo::rustc-link-arg-bin=cafevm=-T{directory}/layout.ld");
    }
    // Without git, or outside a git checkout (an unpacked crate), the version stands alone.
    let version = variable("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=CAFEVM_VERSION={version}");
}

/// Whether the linker takes layout.ld. lld, which is Rust's default, and GNU ld do; mold and gold stop with an error. The
/// layout matters for release builds only.
fn takes_layout() -> bool {
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let preload = variable("LD_PRELOAD").unwrap_or_default();
    let is_other = flags.contains("fuse-ld") || (flags + &preload).contains("mold");
    !is_other
        && variable("RUSTC_LINKER").is_none()
        && variable("PROFILE").as_deref() == Some("release")
        && variable("TARGET").as_deref() == Some("x86_64-unknown-linux-gnu")
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// The commit that is checked out, if this file belongs to it.
fn commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    // This file grows with each commit and each checkout. If it were missing, cargo would run this script at each
    // build.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    Some(commit)
}

/// The answer of git, without the end of the line.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
