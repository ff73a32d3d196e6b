//! The keysyms of X11, by which an RFB client names keys (RFC 6143, 7.5.4).

use super::codes;
use super::us::{self, Stroke};

/// The keysyms of characters beyond Latin-1 are 0x01000000 plus the code point; some clients send ASCII so, too.
const UNICODE: u32 = 0x0100_0000;

/// Keysyms that are no characters, in ascending order.
const KEYS: &[(u32, u16)] = &[
    // ISO_Level3_Shift and _Latch are AltGr; Shift-Tab is a keysym of its own.
    (0xfe03, codes::RIGHT_ALT),
    (0xfe04, codes::RIGHT_ALT),
    (0xfe20, codes::TAB),
    (0xff08, codes::BACKSPACE),
    (0xff09, codes::TAB),
    (0xff0a, 101), // Linefeed
    (0xff0b, 76),  // Clear is the 5 of the keypad without Num Lock.
    (0xff0d, codes::ENTER),
    (0xff13, 119), // Pause
    (0xff14, 70),  // Scroll_Lock
    (0xff15, 99),  // Sys_Req
    (0xff1b, 1),   // Escape
    (0xff20, 127), // Multi_key
    (0xff22, 94),  // Muhenkan
    (0xff23, 92),  // Henkan
    (0xff25, 91),  // Hiragana
    (0xff27, 93),  // Hiragana_Katakana
    (0xff31, 122), // Hangul
    (0xff34, 123), // Hangul_Hanja
    (0xff50, 102), // Home
    (0xff51, 105), // Left
    (0xff52, 103), // Up
    (0xff53, 106), // Right
    (0xff54, 108), // Down
    (0xff55, 104), // Page_Up
    (0xff56, 109), // Page_Down
    (0xff57, 107), // End
    (0xff61, 99),  // Print
    (0xff63, 110), // Insert
    (0xff65, 131), // Undo
    (0xff66, 129), // Redo
    // The key between the right Super and the right Ctrl of a PC's keyboard has the scan code of Compose.
    (0xff67, 127),              // Menu
    (0xff68, 136),              // Find
    (0xff69, 128),              // Cancel
    (0xff6a, 138),              // Help
    (0xff6b, 119),              // Break
    (0xff7e, codes::RIGHT_ALT), // Mode_switch
    (0xff7f, 69),               // Num_Lock
    (0xff80, codes::SPACE),     // KP_Space
    (0xff89, codes::TAB),       // KP_Tab
    (0xff8d, 96),               // KP_Enter
    (0xff91, 59),               // KP_F1
    (0xff92, 60),
    (0xff93, 61),
    (0xff94, 62),
    // The keypad without Num Lock: the guest has a Num Lock of its own.
    (0xff95, 71),  // KP_Home
    (0xff96, 75),  // KP_Left
    (0xff97, 72),  // KP_Up
    (0xff98, 77),  // KP_Right
    (0xff99, 80),  // KP_Down
    (0xff9a, 73),  // KP_Page_Up
    (0xff9b, 81),  // KP_Page_Down
    (0xff9c, 79),  // KP_End
    (0xff9d, 76),  // KP_Begin
    (0xff9e, 82),  // KP_Insert
    (0xff9f, 83),  // KP_Delete
    (0xffaa, 55),  // KP_Multiply
    (0xffab, 78),  // KP_Add
    (0xffac, 121), // KP_Separator
    (0xffad, 74),  // KP_Subtract
    (0xffae, 83),  // KP_Decimal
    (0xffaf, 98),  // KP_Divide
    (0xffb0, 82),  // KP_0
    (0xffb1, 79),
    (0xffb2, 80),
    (0xffb3, 81),
    (0xffb4, 75),
    (0xffb5, 76),
    (0xffb6, 77),
    (0xffb7, 71),
    (0xffb8, 72),
    (0xffb9, 73),
    (0xffbd, 117), // KP_Equal
    (0xffbe, 59),  // F1
    (0xffbf, 60),
    (0xffc0, 61),
    (0xffc1, 62),
    (0xffc2, 63),
    (0xffc3, 64),
    (0xffc4, 65),
    (0xffc5, 66),
    (0xffc6, 67),
    (0xffc7, 68),
    (0xffc8, 87),
    (0xffc9, 88),
    (0xffca, 183), // F13
    (0xffcb, 184),
    (0xffcc, 185),
    (0xffcd, 186),
    (0xffce, 187),
    (0xffcf, 188),
    (0xffd0, 189),
    (0xffd1, 190),
    (0xffd2, 191),
    (0xffd3, 192),
    (0xffd4, 193),
    (0xffd5, 194),
    (0xffe1, codes::LEFT_SHIFT),
    (0xffe2, codes::RIGHT_SHIFT),
    (0xffe3, codes::LEFT_CTRL),
    (0xffe4, codes::RIGHT_CTRL),
    (0xffe5, codes::CAPS_LOCK),
    (0xffe6, codes::CAPS_LOCK), // Shift_Lock
    // X11 gives the Alt key this keysym while Shift is held.
    (0xffe7, codes::LEFT_ALT),  // Meta_L
    (0xffe8, codes::RIGHT_ALT), // Meta_R
    (0xffe9, codes::LEFT_ALT),
    (0xffea, codes::RIGHT_ALT),
    (0xffeb, codes::LEFT_META),  // Super_L
    (0xffec, codes::RIGHT_META), // Super_R
    (0xffed, codes::LEFT_META),  // Hyper_L
    (0xffee, codes::RIGHT_META), // Hyper_R
    (0xffff, 111),               // Delete
    // The multimedia keys of XFree86.
    (0x1008_ff11, 114), // AudioLowerVolume
    (0x1008_ff12, 113), // AudioMute
    (0x1008_ff13, 115), // AudioRaiseVolume
    (0x1008_ff14, 164), // AudioPlay
    (0x1008_ff15, 166), // AudioStop
    (0x1008_ff16, 165), // AudioPrev
    (0x1008_ff17, 163), // AudioNext
    (0x1008_ff18, 172), // HomePage
    (0x1008_ff19, 155), // Mail
    (0x1008_ff1d, 140), // Calculator
    (0x1008_ff21, 116), // PowerDown
    (0x1008_ff26, 158), // Back
    (0x1008_ff27, 159), // Forward
    (0x1008_ff28, 128), // Stop
    (0x1008_ff29, 173), // Refresh
    (0x1008_ff2a, 116), // PowerOff
    (0x1008_ff2b, 143), // WakeUp
    (0x1008_ff2f, 142), // Sleep
    (0x1008_ff30, 156), // Favorites
    (0x1008_ff31, 164), // AudioPause
    (0x1008_ff32, 226), // AudioMedia
    (0x1008_ff33, 157), // MyComputer
    (0x1008_ff57, 133), // Copy
    (0x1008_ff58, 137), // Cut
    (0x1008_ff65, 139), // MenuKB
    (0x1008_ff6b, 134), // Open
    (0x1008_ff6d, 135), // Paste
];

/// The meaning of a keysym.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A character of the US keyboard.
    Character(Stroke),
    /// Another key.
    Key(u16),
}

impl Meaning {
    /// The key.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Character(stroke) => stroke.code,
            Self::Key(code) => code,
        }
    }
}

/// What `keysym` means; none if a US keyboard has no such key.
pub(crate) fn meaning(keysym: u32) -> Option<Meaning> {
    // The keysyms of Latin-1 are the code points. '<' and '>' are characters of the comma's and the dot's keys.
    let character = match keysym {
        0x20..=0x7e => Some(keysym),
        _ => keysym.checked_sub(UNICODE).filter(|point| (0x20..=0x7e).contains(point)),
    };
    if let Some(character) = character.and_then(char::from_u32) {
        return us::stroke(character).map(Meaning::Character);
    }
    let at = KEYS.binary_search_by_key(&keysym, |(keysym, _)| *keysym).ok()?;
    KEYS.get(at).map(|(_, code)| Meaning::Key(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_types_itself() {
        for char in ' '..='~' {
            let stroke = Meaning::Character(us::stroke(char).unwrap());
            assert_eq!(meaning(u32::from(char)), Some(stroke), "{char:?}");
            assert_eq!(meaning(UNICODE + u32::from(char)), Some(stroke), "{char:?}");
        }
        for keysym in [0, 0x1f, 0x7f, 0xe4, UNICODE, UNICODE + 0x20ac, 0xfffe, u32::MAX] {
            assert_eq!(meaning(keysym), None, "{keysym:#x}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_known_keys() {
        assert!(KEYS.is_sorted_by(|(a, _), (b, _)| a < b));
        for (keysym, code) in KEYS {
            assert!(codes::name(*code).is_some(), "{keysym:#x}: {code}");
        }
    }

    /// All keys of a US keyboard with 105 keys can be reached.
    #[test]
    fn no_key_of_a_us_keyboard_is_missing() {
        let reached: Vec<u16> = KEYS
            .iter()
            .map(|(_, code)| *code)
            .chain((' '..='~').filter_map(|char| meaning(char.into())).map(Meaning::code))
            .collect();
        // 84 is free; 85 to 95 and 101 are not on it. 86 has no keysym of its own: see `scancode.rs`.
        let keys =
            (1..=83).chain([87, 88]).chain(96..=100).chain(102..=111).chain([119, 125, 126, 127]);
        for code in keys.chain(183..=194) {
            assert!(reached.contains(&code), "{code} ({:?})", codes::name(code));
        }
    }

    /// The headers of X11, where they are installed, are the authority for what the comments say.
    #[test]
    fn function_keys_and_modifiers_are_those_of_x11() {
        let name = |keysym| meaning(keysym).and_then(|meaning| codes::name(meaning.code()));
        let function = [0xffbe..=0xffd5_u32].into_iter().flatten();
        for (n, keysym) in (1..=24).zip(function) {
            assert_eq!(name(keysym).unwrap(), format!("f{n}"));
        }
        for n in 0..=9 {
            assert_eq!(name(0xffb0 + n).unwrap(), format!("kp{n}"));
        }
        for (keysym, wanted) in [
            (0xffe1, "leftshift"),
            (0xffe4, "rightctrl"),
            (0xffe9, "leftalt"),
            (0xffeb, "leftmeta"),
            (0xff61, "sysrq"),
            (0xff67, "compose"),
            (0xffff, "delete"),
            (0xff8d, "kpenter"),
            (0x1008_ff13, "volumeup"),
        ] {
            assert_eq!(name(keysym), Some(wanted), "{keysym:#x}");
        }
    }
}
