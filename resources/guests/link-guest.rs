//! The build script of every crate here that has a guest program: how one is linked.

use std::env;
use std::path::Path;

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let script = Path::new(&here).join("../rt/guest.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    println!("cargo::rerun-if-changed=../link-guest.rs");
    // At the address the linker script says, and no other: nothing relocates it.
    println!("cargo::rustc-link-arg-bins=--no-pie");
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    // No note but the PVH one: a loader that takes the last PT_NOTE it sees must find it there.
    println!("cargo::rustc-link-arg-bins=-znoexecstack");
    println!("cargo::rustc-link-arg-bins=--build-id=none");
}
