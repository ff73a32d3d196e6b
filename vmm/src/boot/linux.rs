//! What is done for a kernel that is known to be Linux, and for no other: its setup header, its limits, and the
//! words that its command line should not lack.
//!
//! A kernel is known to be Linux by being a bzImage, or by the ELF notes that Linux's build puts into vmlinux. The
//! guest of a driver's author gets the command line as it was given, whichever way it is entered.

use std::ops::Range;

/// What was learnt of a Linux kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linux {
    /// A bzImage's setup header in the file, which the kernel wants to find in the zero page.
    pub setup_header: Option<Range<usize>>,
    /// The last address that an initrd may have.
    pub initrd_max: u64,
    /// The longest command line that the kernel takes, without the closing zero.
    pub command_line_max: Option<usize>,
}

impl Default for Linux {
    /// A kernel that says nothing of itself.
    fn default() -> Self {
        Self { setup_header: None, initrd_max: u64::MAX, command_line_max: None }
    }
}

/// Words without which a person would see nothing, or wait for ever: each is put in front unless the command
/// line has one that begins in the same way. The console is cafevm's only one; and a kernel that panicked resets
/// the machine at once, which ends cafevm, where Linux would by itself halt for ever.
const WORDS: [(&str, &str); 2] = [("console=", "console=ttyS0"), ("panic=", "panic=-1")];

/// The command line with what it should not lack.
pub(super) fn complete(command_line: &str) -> String {
    let has = |start: &str| {
        // What follows "--" is for init.
        let mut words = command_line.split_ascii_whitespace().take_while(|&word| word != "--");
        words.any(|word| word.starts_with(start))
    };
    let missing = WORDS.iter().filter(|(start, _)| !has(start)).map(|&(_, word)| word);
    let given = Some(command_line).filter(|text| !text.is_empty());
    missing.chain(given).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_and_an_end_are_added_where_none_is_given() {
        assert_eq!(complete(""), "console=ttyS0 panic=-1");
        assert_eq!(complete("root=/dev/vda rw"), "console=ttyS0 panic=-1 root=/dev/vda rw");
        assert_eq!(complete("console=tty0 quiet"), "panic=-1 console=tty0 quiet");
        assert_eq!(complete("panic=5  console=ttyS0,9600"), "panic=5  console=ttyS0,9600");
        assert_eq!(complete("quiet -- panic=1"), "console=ttyS0 panic=-1 quiet -- panic=1");
        assert_eq!(complete("oops=panic"), "console=ttyS0 panic=-1 oops=panic");
    }
}
