//! Colours for terminals that support them, unless NO_COLOR is set.

use std::fmt::{self, Display};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use rustix::stdio::stderr;
use rustix::termios::isatty;

/// The program's name at the beginning of a line.
pub(crate) const NAME: Style = Style::new().bold();
/// An error that ends cafevm.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// A warning.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// A debug message.
pub(crate) const DEBUG: Style = Style::new().dimmed();

/// Whether to colour output to this file.
pub(crate) fn wanted(file: impl AsFd) -> bool {
    isatty(file) && is_ansi() && !anstyle_query::no_color()
}

/// Whether the terminal supports escape sequences.
pub(crate) fn is_ansi() -> bool {
    anstyle_query::term_supports_ansi_color()
}

/// Whether to colour standard error.
pub(crate) fn on_stderr() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| wanted(stderr()))
}

/// The text, in this style if `wanted`.
pub(crate) fn paint<T: Display>(wanted: bool, style: Style, text: T) -> Painted<T> {
    Painted { style: if wanted { style } else { Style::new() }, text }
}

/// A text with its style.
pub(crate) struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:#}", self.style, self.text, self.style)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_painted_only_where_that_is_wanted() {
        assert_eq!(paint(true, NAME, "a").to_string(), "\x1b[1ma\x1b[0m");
        assert_eq!(paint(false, NAME, "a").to_string(), "a");
    }

    #[test]
    fn no_file_that_is_no_terminal_is_coloured() {
        assert!(!wanted(tempfile::tempfile().unwrap()));
    }
}
