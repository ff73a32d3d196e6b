//! The program `cafevm`, as its own crate makes it: `CARGO_BIN_EXE_` names a program of the same crate only. Its disks
//! have the engine that the environment asks for.

use std::process::ExitCode;

fn main() -> ExitCode {
    cafevm::cli::command::main_with(cafevm_guest_tests::engine::apply).into()
}
