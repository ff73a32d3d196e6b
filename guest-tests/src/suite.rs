//! Named tests, and which of them this machine cannot run.
//!
//! Where /dev/kvm is missing its tests are listed as ignored, with one line for the reason. With `CAFEVM_REQUIRE_KVM=1` they
//! are run all the same, and so fail. The same holds for programs of the host, and `CAFEVM_REQUIRE_PROGRAMS=1`, except
//! for those that .ci/run does not install: their tests are for machines that have them.

use std::env;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::Outcome;

/// A test: its name, and what it does.
pub type Test = (&'static str, fn() -> Outcome);

/// Runs the tests of a file that the arguments ask for; `programs` are those of the host that they need, and `optional`
/// those without which they are ignored also where programs are required.
pub fn main(programs: &[&str], optional: &[&str], tests: &[Test]) -> ExitCode {
    let reason = missing_kvm()
        .or_else(|| if required("CAFEVM_REQUIRE_PROGRAMS") { None } else { missing(programs) })
        .or_else(|| missing(optional));
    if let Some(reason) = &reason {
        println!("ignored here: {reason}");
    }
    let trials = tests.iter().map(|&(name, test)| {
        Trial::test(name, test).with_kind("kvm").with_ignored_flag(reason.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Whether this variable asks for a failure in place of an ignored test.
fn required(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value == "1")
}

/// Why the tests cannot use KVM.
fn missing_kvm() -> Option<String> {
    if required("CAFEVM_REQUIRE_KVM") {
        return None;
    }
    missing_device().map(|why| format!("{why} (CAFEVM_REQUIRE_KVM=1 makes that a failure)"))
}

/// Why the device file of KVM cannot be opened.
pub(crate) fn missing_device() -> Option<String> {
    let opened = OpenOptions::new().read(true).write(true).open(cafevm::config::KVM);
    opened.err().map(|error| format!("{}: {error}", cafevm::config::KVM))
}

/// The first of these programs that this machine does not have.
fn missing(programs: &[&str]) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| env::split_paths(&path).any(|dir| is_file(&dir, program));
    let missing = programs.iter().find(|program| !there(program));
    missing.map(|program| format!("no {program} on this machine"))
}

fn is_file(directory: &Path, program: &str) -> bool {
    directory.join(program).is_file()
}

/// The main function of a file of tests: `tests! { first, second }`, or `tests! { needs ["gcc"]; first, second }`, or
/// with `optional ["Xvfb"]` for programs that .ci/run does not install.
#[macro_export]
macro_rules! tests {
    (needs $programs:expr; $($test:ident),+ $(,)?) => {
        fn main() -> std::process::ExitCode {
            $crate::suite::main(&$programs, &[], &[$((stringify!($test), $test)),+])
        }
    };
    (optional $programs:expr; $($test:ident),+ $(,)?) => {
        fn main() -> std::process::ExitCode {
            $crate::suite::main(&[], &$programs, &[$((stringify!($test), $test)),+])
        }
    };
    ($($test:ident),+ $(,)?) => { $crate::tests! { needs []; $($test),+ } };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_a_shell_would() {
        assert!(is_file(Path::new("/bin"), "sh"));
        assert!(!is_file(Path::new("/bin"), "no-such-program-anywhere"));
    }
}
