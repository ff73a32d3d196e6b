//! The program `cafevm`; all of it is in the library.

fn main() -> std::process::ExitCode {
    cafevm::cli::command::main().into()
}
