//! The program `cafevm`, as its own crate makes it: `CARGO_BIN_EXE_` names a program of the same crate only. Its disks
//! have the engine, and its machines the devices, that the environment asks for.

use std::process::ExitCode;

fn main() -> ExitCode {
    let change = |config: &mut _| {
        cafevm_guest_tests::engine::apply(config)?;
        cafevm_guest_tests::extra::apply(config)
    };
    cafevm::cli::command::main_with(change).into()
}
