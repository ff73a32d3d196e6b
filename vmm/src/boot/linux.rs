//! Handling of Linux kernels only: the setup header, the limits, and words for the command line.
//!
//! A kernel counts as Linux if it is a bzImage, or if it has the ELF notes that Linux's build puts into vmlinux. Every
//! other guest gets the command line that the user gave, and the words for the virtio devices.

use std::ops::Range;

/// What the files of a Linux kernel state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linux {
    /// The place of a bzImage's setup header in the file; the kernel expects a copy in the zero page.
    pub setup_header: Option<Range<usize>>,
    /// The last address that an initrd may occupy.
    pub initrd_max: u64,
    /// The longest command line that the kernel accepts, in bytes, without the closing zero.
    pub command_line_max: Option<usize>,
}

impl Default for Linux {
    /// A kernel that states nothing about itself.
    fn default() -> Self {
        Self { setup_header: None, initrd_max: u64::MAX, command_line_max: None }
    }
}

/// Words that Linux needs to print to the console of cafevm, and to reset after a panic. Each is added unless the
/// command line has a word with the same beginning. Without `panic=-1`, Linux halts forever after a panic; the reset
/// ends cafevm.
const WORDS: [(&str, &str); 2] = [("console=", "console=ttyS0"), ("panic=", "panic=-1")];

/// The command line with the missing words added.
pub(super) fn complete(command_line: &str) -> String {
    let has = |start: &str| {
        // The words after "--" are for init.
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
