//! Scenarios and what came of them.

use rt::println;
use rt::text::Text;

/// Why a scenario failed, in one line.
pub type Failure = Text<240>;
/// What came of a scenario.
pub type Outcome = Result<(), Failure>;

/// `return Err` with a formatted [`Failure`].
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::Failure::format(format_args!($($text)*))) };
}

/// [`fail!`] with the text, where the condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => { if !$condition { $crate::fail!($($text)*) } };
}

/// [`fail!`] where the two numbers differ; the text names the first one.
#[macro_export]
macro_rules! ensure_eq {
    ($seen:expr, $wanted:expr, $($text:tt)*) => {{
        let (seen, wanted) = ($seen, $wanted);
        if seen != wanted {
            $crate::fail!("{}: {seen:#x}, not {wanted:#x}", format_args!($($text)*))
        }
    }};
}

/// The scenarios of a guest.
#[derive(Debug, Default)]
pub struct Report {
    failed: bool,
}

impl Report {
    /// No scenario yet.
    pub fn new() -> Report {
        Report::default()
    }

    /// Runs a scenario and prints what came of it.
    pub fn run(&mut self, name: &str, scenario: impl FnOnce() -> Outcome) {
        match scenario() {
            Ok(()) => println!("ok {name}"),
            Err(failure) => {
                println!("FAIL {name}: {failure}");
                self.failed = true;
            }
        }
    }

    /// The guest's exit code.
    pub fn code(&self) -> u32 {
        u32::from(self.failed)
    }
}
