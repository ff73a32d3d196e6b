//! Builds the guest programs, and adds the target they are for where it is missing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

const TARGET: &str = "x86_64-unknown-none";

/// The programs that only tests boot; `src/lib.rs` names them.
const TEST_GUESTS: [&str; 21] = [
    "batches", "boot", "busy", "cold", "events", "flood", "hostile", "kev", "legacy", "level",
    "limited", "mixed", "multi", "numbered", "parallel", "rcore", "reset", "smp", "sos", "svirtb",
    "xv6",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            println!("cargo::error={line}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let with_tests = env::var_os("CARGO_FEATURE_TEST_GUESTS").is_some();
    let guests = path("CARGO_MANIFEST_DIR")?.join("guests");
    // First, so that where it fails nothing but its one line is shown.
    ensure_target()?;
    rerun_if_changed(&guests)?;

    // Not the target directory of the cargo that runs us: it holds that one's lock.
    let out = path("OUT_DIR")?.join("guests");
    let mut cargo = Command::new(path("CARGO")?);
    // Cargo looks for its configuration from the working directory up.
    cargo.current_dir(&guests).args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&out).args(["--package", "shell"]);
    if with_tests {
        cargo.args(["--package", "test-guests"]);
    }
    scrub(&mut cargo);
    let built = run(&mut cargo)?;
    if !built.status.success() {
        // Cargo shows what a failed build script wrote here.
        eprint!("{}", String::from_utf8_lossy(&built.stderr));
        return Err(format!("the guest programs in {} do not build", guests.display()));
    }

    let tests = if with_tests { TEST_GUESTS.as_slice() } else { &[] };
    for name in tests.iter().chain(&["shell"]) {
        let elf = out.join(TARGET).join("release").join(name);
        println!("cargo::rustc-env=GUEST_{}={}", name.to_uppercase(), elf.display());
    }
    Ok(())
}

/// Settings of the outer build do not apply to the guests: flags for the host's processor, a wrapper such as
/// clippy, another profile or target.
fn scrub(cargo: &mut Command) {
    const NAMES: [&str; 6] = [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOCFLAGS",
        "CARGO_INCREMENTAL",
    ];
    const PREFIXES: [&str; 6] = [
        "CARGO_BUILD_",
        "CARGO_TARGET_",
        "CARGO_PROFILE_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_UNSTABLE_",
    ];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if NAMES.contains(&text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
}

/// Adds the guests' target to the toolchain in use where it is not there.
///
/// rust-toolchain.toml names it, but with `RUSTUP_AUTO_INSTALL=0` rustup passes over what is missing.
fn ensure_target() -> Result<(), String> {
    if target_installed()? {
        return Ok(());
    }
    // Rustup takes the toolchain from RUSTUP_TOOLCHAIN, which its own cargo has set for us.
    let mut rustup = Command::new("rustup");
    // A backtrace would stand behind its reason.
    rustup.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
    let added = rustup.args(["target", "add", TARGET]).output();
    if target_installed()? {
        return Ok(());
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").ok().filter(|name| !name.is_empty());
    let option = toolchain.map(|name| format!(" --toolchain {name}")).unwrap_or_default();
    let why = match added {
        Ok(output) => reason(&output.stderr),
        Err(error) => format!("rustup: {error}"),
    };
    Err(format!(
        "the guest programs need the target {TARGET}: run `rustup target add{option} {TARGET}` ({why})"
    ))
}

/// Whether the compiler in use has the target's core library. Its `target-libdir` is printed in any case.
fn target_installed() -> Result<bool, String> {
    let mut rustc = Command::new(path("RUSTC")?);
    let answer = run(rustc.args(["--print", "target-libdir", "--target", TARGET]))?;
    let directory = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    let Ok(entries) = fs::read_dir(directory) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("libcore-")
    }))
}

/// Names everything in the guests' workspace but what a build by hand leaves in its `target`.
fn rerun_if_changed(guests: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTUP_TOOLCHAIN");
    let entries = fs::read_dir(guests).map_err(|e| format!("{}: {e}", guests.display()))?;
    for entry in entries.flatten().filter(|entry| entry.file_name() != "target") {
        println!("cargo::rerun-if-changed={}", entry.path().display());
    }
    Ok(())
}

fn path(variable: &str) -> Result<PathBuf, String> {
    let value: Option<OsString> = env::var_os(variable);
    value
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set: cargo runs this program"))
}

fn run(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))
}

/// Why a program failed: the line that begins with "error:", or else its last line.
pub(crate) fn reason(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find(|line| line.starts_with("error:"));
    error.or_else(|| lines().next_back()).unwrap_or("no reason given").to_owned()
}
