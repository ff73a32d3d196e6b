//! The US keyboard: which key types which character.

use super::codes;

/// How a character is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stroke {
    /// The key.
    pub(crate) code: u16,
    /// Whether Shift is held.
    pub(crate) shift: bool,
}

/// Rows of keys with consecutive codes: the first code, the characters without Shift, and with it.
const ROWS: [(u16, &str, &str); 5] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (codes::SPACE, " ", ""),
];

/// The key for a character: printable ASCII, newline (Enter), tab, and backspace (0x08).
pub(crate) fn stroke(wanted: char) -> Option<Stroke> {
    let plain = |code| Some(Stroke { code, shift: false });
    match wanted {
        '\n' => return plain(codes::ENTER),
        '\t' => return plain(codes::TAB),
        '\u{8}' => return plain(codes::BACKSPACE),
        _ => {}
    }
    let find = |row: &str, first: u16, shift| {
        let code = (first..).zip(row.chars()).find(|(_, char)| *char == wanted)?.0;
        Some(Stroke { code, shift })
    };
    ROWS.iter().find_map(|(first, plain, shifted)| {
        find(plain, *first, false).or_else(|| find(shifted, *first, true))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_printable_character_has_a_stroke_of_its_own() {
        let strokes: BTreeSet<_> = (' '..='~')
            .map(|char| stroke(char).unwrap_or_else(|| panic!("{char:?} has no key")))
            .map(|stroke| (stroke.code, stroke.shift))
            .collect();
        assert_eq!(strokes.len(), 95);
        for char in ['ä', '€', '\0', '\r', '\u{7f}'] {
            assert_eq!(stroke(char), None);
        }
    }

    /// By the names of the codes, which stand in a table of their own.
    #[test]
    fn a_letter_is_on_the_key_of_its_name() {
        for char in ('a'..='z').chain('0'..='9') {
            let Stroke { code, shift } = stroke(char).unwrap();
            assert_eq!((codes::name(code), shift), (Some(char.to_string().as_str()), false));
        }
        for (char, name) in [
            ('!', "1"),
            (')', "0"),
            ('_', "minus"),
            ('"', "apostrophe"),
            ('~', "grave"),
            ('|', "backslash"),
            ('?', "slash"),
            ('A', "a"),
        ] {
            let Stroke { code, shift } = stroke(char).unwrap();
            assert_eq!((codes::name(code), shift), (Some(name), true), "{char}");
        }
    }
}
