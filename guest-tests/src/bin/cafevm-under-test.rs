//! The program `cafevm`, as its own crate makes it: `CARGO_BIN_EXE_` names a program of the same crate only.

fn main() -> std::process::ExitCode {
    cafevm::command::main().into()
}
