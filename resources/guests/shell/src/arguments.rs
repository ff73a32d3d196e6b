//! The words after a command's name.

use rt::command_line::parse_number;
use rt::text::Text;

/// Why a command could not be done, in one line.
pub(crate) type Complaint = Text<200>;

/// A formatted [`Complaint`].
macro_rules! complaint {
    ($($text:tt)*) => { $crate::arguments::Complaint::format(format_args!($($text)*)) };
}
/// `Err` with a formatted [`Complaint`].
macro_rules! complain {
    ($($text:tt)*) => { Err($crate::arguments::complaint!($($text)*)) };
}
pub(crate) use {complain, complaint};

/// The words after a command's name, taken one by one.
pub(crate) struct Arguments<'a> {
    rest: &'a str,
    usage: &'static str,
}

impl<'a> Arguments<'a> {
    /// The words of `rest`, for a command with this `usage`.
    pub(crate) fn new(rest: &'a str, usage: &'static str) -> Arguments<'a> {
        Arguments { rest: rest.trim_ascii_start(), usage }
    }

    /// The same words, for a command with this `usage`.
    pub(crate) fn for_usage(self, usage: &'static str) -> Arguments<'a> {
        Arguments { usage, ..self }
    }

    /// The next word, if there is one.
    pub(crate) fn word(&mut self) -> Option<&'a str> {
        let end = self
            .rest
            .bytes()
            .position(|byte| byte.is_ascii_whitespace())
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_ascii_start();
        (!word.is_empty()).then_some(word)
    }

    /// The next word as the number that the usage calls `name`.
    pub(crate) fn number(&mut self, name: &str) -> Result<u64, Complaint> {
        match self.optional_number(name)? {
            Some(number) => Ok(number),
            None => complain!("{name} is missing; usage: {}", self.usage),
        }
    }

    /// The next word as a number, if there is one.
    pub(crate) fn optional_number(&mut self, name: &str) -> Result<Option<u64>, Complaint> {
        match self.word() {
            None => Ok(None),
            Some(word) => match parse_number(word) {
                Some(number) => Ok(Some(number)),
                None => complain!(
                    "{name} is '{word:.40}', no number (decimal, or hexadecimal after 0x)"
                ),
            },
        }
    }

    /// All that is left, which must be something.
    pub(crate) fn text(&mut self, name: &str) -> Result<&'a str, Complaint> {
        match core::mem::take(&mut self.rest) {
            "" => complain!("{name} is missing; usage: {}", self.usage),
            text => Ok(text),
        }
    }

    /// Nothing is left.
    pub(crate) fn end(&mut self) -> Result<(), Complaint> {
        match self.word() {
            None => Ok(()),
            Some(word) => complain!("'{word:.40}' is one word too many; usage: {}", self.usage),
        }
    }

    /// What is wrong with the arguments as a whole.
    pub(crate) fn usage<T>(&self) -> Result<T, Complaint> {
        complain!("usage: {}", self.usage)
    }
}
