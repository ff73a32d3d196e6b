//! The key commands of a terminal: Ctrl-A, then a letter.

use std::collections::VecDeque;

/// Ctrl-A.
const PREFIX: u8 = 0x01;

/// The help for the keys.
pub const HELP: &str = "keys: Ctrl-A X ends cafevm, Ctrl-A D explains what the guest waits for, Ctrl-A H shows this line, Ctrl-A Ctrl-A sends Ctrl-A to the guest";

/// How to end cafevm, for a new user.
pub const WAY_OUT: &str = "Ctrl-A X ends cafevm";

/// Ctrl-C, and how many of them in a row show that the user wants to end something.
const INTERRUPT: u8 = 0x03;
const PATIENCE: u8 = 3;

/// A key command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// End cafevm.
    Quit,
    /// Explain what the guest waits for.
    Explain,
    /// Show the keys.
    Help,
    /// Several Ctrl-C in a row, which went to the guest: the user may want to end cafevm.
    WayOut,
}

/// Separates key commands from the guest's input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keys {
    prefixed: bool,
    /// The number of Ctrl-C in a row.
    interrupts: u8,
}

impl Keys {
    /// Appends the guest's bytes to `input`. Returns the last key command among the bytes. Bytes after the command to
    /// end are dropped.
    pub fn filter(&mut self, bytes: &[u8], input: &mut VecDeque<u8>) -> Option<Wish> {
        let mut wish = None;
        for &byte in bytes {
            let interrupts = std::mem::take(&mut self.interrupts) + 1;
            if byte == INTERRUPT && interrupts == PATIENCE {
                wish = Some(Wish::WayOut);
            } else if byte == INTERRUPT {
                self.interrupts = interrupts;
            }
            match (std::mem::take(&mut self.prefixed), byte) {
                (false, PREFIX) => self.prefixed = true,
                (false, other) => input.push_back(other),
                (true, PREFIX) => input.push_back(PREFIX),
                (true, b'x' | b'X') => return Some(Wish::Quit),
                (true, b'd' | b'D') => wish = Some(Wish::Explain),
                // An unknown command shows the help.
                (true, _) => wish = Some(Wish::Help),
            }
        }
        wish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(keys: &mut Keys, bytes: &[u8]) -> (Vec<u8>, Option<Wish>) {
        let mut input = VecDeque::new();
        let wish = keys.filter(bytes, &mut input);
        (input.into(), wish)
    }

    #[test]
    fn ctrl_a_is_ours_and_all_else_the_guests() {
        let mut keys = Keys::default();
        assert_eq!(filter(&mut keys, b"ls\r\x03\x04"), (b"ls\r\x03\x04".to_vec(), None));
        assert_eq!(filter(&mut keys, b"a\x01hb"), (b"ab".to_vec(), Some(Wish::Help)));
        assert_eq!(filter(&mut keys, b"\x01\x01x"), (b"\x01x".to_vec(), None));
        assert_eq!(filter(&mut keys, b"a\x01xlost"), (b"a".to_vec(), Some(Wish::Quit)));
    }

    #[test]
    fn three_ctrl_c_in_a_row_are_the_guests_and_a_wish() {
        let mut keys = Keys::default();
        assert_eq!(filter(&mut keys, b"\x03\x03a\x03\x03"), (b"\x03\x03a\x03\x03".to_vec(), None));
        assert_eq!(filter(&mut keys, b"\x03"), (b"\x03".to_vec(), Some(Wish::WayOut)));
        assert_eq!(filter(&mut keys, b"\x03\x03"), (b"\x03\x03".to_vec(), None));
        assert_eq!(filter(&mut keys, b"\x03"), (b"\x03".to_vec(), Some(Wish::WayOut)));
    }

    #[test]
    fn the_two_keys_may_come_one_by_one() {
        let mut keys = Keys::default();
        assert_eq!(filter(&mut keys, b"\x01"), (vec![], None));
        assert_eq!(filter(&mut keys, b"X"), (vec![], Some(Wish::Quit)));
    }
}
