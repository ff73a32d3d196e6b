//! The scan codes of a PC's keyboard (set 1), by which an RFB client names the key itself, whatever its layout makes of
//! it: the extension "QEMU Extended Key Event" of the community's RFB specification.

/// Codes with the prefix 0xe0, which the extension turns into bit 7: the scan code without it, and the key.
const EXTENDED: &[(u32, u16)] = &[
    (0x10, 165), // previous
    (0x19, 163), // next
    (0x1c, 96),  // Enter of the keypad
    (0x1d, 97),  // right Ctrl
    (0x20, 113), // mute
    (0x21, 140), // calculator
    (0x22, 164), // play
    (0x24, 166), // stop
    (0x2e, 114), // volume down
    (0x30, 115), // volume up
    (0x32, 172), // home page
    (0x35, 98),  // slash of the keypad
    (0x37, 99),  // Print
    (0x38, 100), // right Alt
    (0x46, 119), // Pause
    (0x47, 102), // Home
    (0x48, 103), // Up
    (0x49, 104), // Page Up
    (0x4b, 105), // Left
    (0x4d, 106), // Right
    (0x4f, 107), // End
    (0x50, 108), // Down
    (0x51, 109), // Page Down
    (0x52, 110), // Insert
    (0x53, 111), // Delete
    (0x5b, 125), // left Super
    (0x5c, 126), // right Super
    (0x5d, 127), // Menu
    (0x5e, 116), // power
    (0x5f, 142), // sleep
    (0x63, 143), // wake
    (0x66, 156), // favourites
    (0x67, 173), // refresh
    (0x68, 128), // stop
    (0x69, 159), // forward
    (0x6a, 158), // back
    (0x6b, 157), // computer
    (0x6c, 155), // mail
    (0x6d, 226), // media
];

/// The key with this scan code, if there is one.
pub(crate) fn code(scancode: u32) -> Option<u16> {
    match scancode {
        // evdev has the codes of the PC's first keyboards.
        0x01..=0x53 | 0x56..=0x58 => u16::try_from(scancode).ok(),
        0x54 => Some(99),                                         // Alt and Print
        0x59 => Some(117),                                        // = of the keypad
        0x64..=0x6e => u16::try_from(scancode - 0x64 + 183).ok(), // F13 to F23
        0x70 => Some(93),
        0x73 => Some(89),
        0x76 => Some(194), // F24
        0x77 => Some(91),
        0x79 => Some(92),
        0x7b => Some(94),
        0x7d => Some(124),
        0x7e => Some(121),
        0x80..=0xff => {
            let at = EXTENDED.binary_search_by_key(&(scancode & 0x7f), |(code, _)| *code).ok()?;
            EXTENDED.get(at).map(|(_, code)| *code)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::keys::codes;

    #[test]
    fn all_scan_codes_are_known_keys() {
        assert!(EXTENDED.is_sorted_by(|(a, _), (b, _)| a < b));
        let known: Vec<_> = (0..=0x1ff).filter_map(code).collect();
        assert!(known.iter().all(|code| codes::name(*code).is_some()), "{known:?}");
        let keys = (1..=83)
            .chain([86, 87, 88])
            .chain(96..=100)
            .chain(102..=111)
            .chain([119, 125, 126, 127]);
        for key in keys.chain(183..=194) {
            assert!(known.contains(&key), "{key}");
        }
        for unknown in [0, 0x55, 0x7f, 0x80, 0x100, u32::MAX] {
            assert_eq!(code(unknown), None, "{unknown:#x}");
        }
    }
}
