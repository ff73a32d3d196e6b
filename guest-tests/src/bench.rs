//! What the benchmarks have in common: they need /dev/kvm, and take a number of rounds.

use std::env;
use std::process::ExitCode;

use crate::suite::missing_device;
use crate::{Failed, ensure};

/// Runs a benchmark, and reports its error.
pub fn main(bench: impl FnOnce() -> Result<(), Failed>) -> ExitCode {
    if let Some(reason) = missing_device() {
        eprintln!("this benchmark boots guests, and {reason}");
        return ExitCode::FAILURE;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.message().unwrap_or("failed without a reason"));
            ExitCode::FAILURE
        }
    }
}

/// The argument of the benchmark, if it has one.
pub fn argument() -> Option<String> {
    // Cargo adds --bench.
    env::args().skip(1).find(|word| !word.starts_with("--"))
}

/// The number of rounds: the argument, or `usual`.
///
/// # Errors
///
/// If the argument is no number, or 0.
pub fn rounds(usual: usize) -> Result<usize, Failed> {
    let rounds = argument().map_or(Ok(usual), |word| word.parse())?;
    ensure!(rounds > 0, "no rounds, no figures");
    Ok(rounds)
}
