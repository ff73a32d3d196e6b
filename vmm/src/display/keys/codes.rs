//! The codes of keys and buttons, as Linux's evdev has them, and their names.
//!
//! The name of a key is that of Linux's `input-event-codes.h`, without `KEY_`, in lower case. Some keys have further
//! names: those by which QEMU's monitor knows them.

pub(crate) const BACKSPACE: u16 = 14;
pub(crate) const TAB: u16 = 15;
pub(crate) const ENTER: u16 = 28;
pub(crate) const LEFT_CTRL: u16 = 29;
pub(crate) const LEFT_SHIFT: u16 = 42;
pub(crate) const RIGHT_SHIFT: u16 = 54;
pub(crate) const LEFT_ALT: u16 = 56;
pub(crate) const SPACE: u16 = 57;
pub(crate) const CAPS_LOCK: u16 = 58;
pub(crate) const RIGHT_CTRL: u16 = 97;
pub(crate) const RIGHT_ALT: u16 = 100;
pub(crate) const LEFT_META: u16 = 125;
pub(crate) const RIGHT_META: u16 = 126;

/// The keys that make a character another one.
pub(crate) const SHIFTS: [u16; 2] = [LEFT_SHIFT, RIGHT_SHIFT];
/// The keys that make a character a command.
pub(crate) const COMMANDS: [u16; 6] =
    [LEFT_CTRL, RIGHT_CTRL, LEFT_ALT, RIGHT_ALT, LEFT_META, RIGHT_META];

/// Whether Caps Lock has an effect on the key.
pub(crate) const fn is_letter(code: u16) -> bool {
    matches!(code, 16..=25 | 30..=38 | 44..=50)
}

/// Each key: its code and its names, the first of them Linux's.
const KEYS: &[(u16, &[&str])] = &[
    (1, &["esc", "escape"]),
    (2, &["1"]),
    (3, &["2"]),
    (4, &["3"]),
    (5, &["4"]),
    (6, &["5"]),
    (7, &["6"]),
    (8, &["7"]),
    (9, &["8"]),
    (10, &["9"]),
    (11, &["0"]),
    (12, &["minus"]),
    (13, &["equal"]),
    (BACKSPACE, &["backspace"]),
    (TAB, &["tab"]),
    (16, &["q"]),
    (17, &["w"]),
    (18, &["e"]),
    (19, &["r"]),
    (20, &["t"]),
    (21, &["y"]),
    (22, &["u"]),
    (23, &["i"]),
    (24, &["o"]),
    (25, &["p"]),
    (26, &["leftbrace", "bracket_left"]),
    (27, &["rightbrace", "bracket_right"]),
    (ENTER, &["enter", "ret", "return"]),
    (LEFT_CTRL, &["leftctrl", "ctrl", "control"]),
    (30, &["a"]),
    (31, &["s"]),
    (32, &["d"]),
    (33, &["f"]),
    (34, &["g"]),
    (35, &["h"]),
    (36, &["j"]),
    (37, &["k"]),
    (38, &["l"]),
    (39, &["semicolon"]),
    (40, &["apostrophe"]),
    (41, &["grave", "grave_accent"]),
    (LEFT_SHIFT, &["leftshift", "shift"]),
    (43, &["backslash"]),
    (44, &["z"]),
    (45, &["x"]),
    (46, &["c"]),
    (47, &["v"]),
    (48, &["b"]),
    (49, &["n"]),
    (50, &["m"]),
    (51, &["comma"]),
    (52, &["dot"]),
    (53, &["slash"]),
    (RIGHT_SHIFT, &["rightshift", "shift_r"]),
    (55, &["kpasterisk", "kp_multiply", "asterisk"]),
    (LEFT_ALT, &["leftalt", "alt"]),
    (SPACE, &["space", "spc"]),
    (CAPS_LOCK, &["capslock", "caps_lock"]),
    (59, &["f1"]),
    (60, &["f2"]),
    (61, &["f3"]),
    (62, &["f4"]),
    (63, &["f5"]),
    (64, &["f6"]),
    (65, &["f7"]),
    (66, &["f8"]),
    (67, &["f9"]),
    (68, &["f10"]),
    (69, &["numlock", "num_lock"]),
    (70, &["scrolllock", "scroll_lock"]),
    (71, &["kp7", "kp_7"]),
    (72, &["kp8", "kp_8"]),
    (73, &["kp9", "kp_9"]),
    (74, &["kpminus", "kp_subtract"]),
    (75, &["kp4", "kp_4"]),
    (76, &["kp5", "kp_5"]),
    (77, &["kp6", "kp_6"]),
    (78, &["kpplus", "kp_add"]),
    (79, &["kp1", "kp_1"]),
    (80, &["kp2", "kp_2"]),
    (81, &["kp3", "kp_3"]),
    (82, &["kp0", "kp_0"]),
    (83, &["kpdot", "kp_decimal"]),
    (86, &["102nd", "less"]),
    (87, &["f11"]),
    (88, &["f12"]),
    (89, &["ro"]),
    (91, &["hiragana"]),
    (92, &["henkan"]),
    (93, &["katakanahiragana"]),
    (94, &["muhenkan"]),
    (96, &["kpenter", "kp_enter"]),
    (RIGHT_CTRL, &["rightctrl", "ctrl_r"]),
    (98, &["kpslash", "kp_divide"]),
    (99, &["sysrq", "print"]),
    (RIGHT_ALT, &["rightalt", "alt_r", "altgr"]),
    (101, &["linefeed", "lf"]),
    (102, &["home"]),
    (103, &["up"]),
    (104, &["pageup", "pgup"]),
    (105, &["left"]),
    (106, &["right"]),
    (107, &["end"]),
    (108, &["down"]),
    (109, &["pagedown", "pgdn"]),
    (110, &["insert"]),
    (111, &["delete"]),
    (113, &["mute", "audiomute"]),
    (114, &["volumedown"]),
    (115, &["volumeup"]),
    (116, &["power"]),
    (117, &["kpequal", "kp_equals"]),
    (119, &["pause"]),
    (121, &["kpcomma", "kp_comma"]),
    (122, &["hangeul", "lang1"]),
    (123, &["hanja", "lang2"]),
    (124, &["yen"]),
    (LEFT_META, &["leftmeta", "meta_l", "super", "win"]),
    (RIGHT_META, &["rightmeta", "meta_r"]),
    (127, &["compose"]),
    (128, &["stop"]),
    (129, &["again"]),
    (130, &["props"]),
    (131, &["undo"]),
    (132, &["front"]),
    (133, &["copy"]),
    (134, &["open"]),
    (135, &["paste"]),
    (136, &["find"]),
    (137, &["cut"]),
    (138, &["help"]),
    (139, &["menu"]),
    (140, &["calc", "calculator"]),
    (142, &["sleep"]),
    (143, &["wakeup", "wake"]),
    (155, &["mail"]),
    (156, &["bookmarks", "ac_bookmarks"]),
    (157, &["computer"]),
    (158, &["back", "ac_back"]),
    (159, &["forward", "ac_forward"]),
    (163, &["nextsong", "audionext"]),
    (164, &["playpause", "audioplay"]),
    (165, &["previoussong", "audioprev"]),
    (166, &["stopcd", "audiostop"]),
    (172, &["homepage", "ac_home"]),
    (173, &["refresh", "ac_refresh"]),
    (183, &["f13"]),
    (184, &["f14"]),
    (185, &["f15"]),
    (186, &["f16"]),
    (187, &["f17"]),
    (188, &["f18"]),
    (189, &["f19"]),
    (190, &["f20"]),
    (191, &["f21"]),
    (192, &["f22"]),
    (193, &["f23"]),
    (194, &["f24"]),
    (226, &["media", "mediaselect"]),
];

/// The key with this name, with or without `KEY_`, in any case.
pub(crate) fn named(name: &str) -> Option<u16> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("key_").unwrap_or(&name);
    KEYS.iter().find(|(_, names)| names.contains(&name)).map(|(code, _)| *code)
}

/// The name of a key.
#[cfg(test)]
pub(crate) fn name(code: u16) -> Option<&'static str> {
    let at = KEYS.binary_search_by_key(&code, |(code, _)| *code).ok()?;
    KEYS.get(at)?.1.first().copied()
}

/// All names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|(_, names)| names.iter().copied())
}

/// All codes of keys.
#[cfg(test)]
fn all() -> impl Iterator<Item = u16> {
    KEYS.iter().map(|(code, _)| *code)
}

/// A button of a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Button {
    Left,
    Middle,
    Right,
    Side,
    Extra,
}

impl Button {
    /// All buttons, in the order of the bits of [`Buttons`](crate::display::hands::Buttons).
    pub(crate) const ALL: [Self; 5] =
        [Self::Left, Self::Middle, Self::Right, Self::Side, Self::Extra];

    /// Its code.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Left => 0x110,
            Self::Right => 0x111,
            Self::Middle => 0x112,
            Self::Side => 0x113,
            Self::Extra => 0x114,
        }
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Middle => "middle",
            Self::Right => "right",
            Self::Side => "side",
            Self::Extra => "extra",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cafevm_devices::observe::Tap;
    use cafevm_devices::virtio::device::VirtioDevice;
    use cafevm_devices::virtio::input::{Input, InputKind};
    use cafevm_devices::virtio::spec::input::{CFG_EV_BITS, CONFIG_SELECT, EV_KEY};

    use super::*;

    #[test]
    fn each_code_and_each_name_is_there_once() {
        assert!(KEYS.is_sorted_by_key(|(code, _)| *code));
        assert_eq!(all().collect::<BTreeSet<_>>().len(), KEYS.len());
        assert_eq!(names().collect::<BTreeSet<_>>().len(), names().count());
        for (code, names) in KEYS {
            assert_eq!(name(*code), Some(names[0]));
            for name in *names {
                assert_eq!(named(name), Some(*code));
                assert_eq!(named(&format!("KEY_{}", name.to_uppercase())), Some(*code));
            }
        }
        assert_eq!((named("hyper"), name(0)), (None, None));
    }

    #[test]
    fn caps_lock_concerns_the_letters() {
        let letters = (0..300).filter(|code| is_letter(*code)).filter_map(name);
        assert_eq!(letters.collect::<BTreeSet<_>>().len(), 26);
        assert!(('a'..='z').all(|letter| named(&letter.to_string()).is_some_and(is_letter)));
    }

    /// What the device does not announce, a driver drops.
    #[test]
    fn the_keyboard_of_virtio_has_all_these_keys() {
        let keyboard = Input::new("keyboard", InputKind::Keyboard, "", Tap::default());
        keyboard.write_config(CONFIG_SELECT, &[CFG_EV_BITS, EV_KEY as u8]);
        let mut config = [0; 136];
        keyboard.read_config(0, &mut config);
        let bits = &config[8..];
        for code in all() {
            let known = bits[usize::from(code / 8)] & 1 << (code % 8) != 0;
            assert!(known, "{code} ({:?})", name(code));
        }
    }

    /// The header of the host, where it is installed, is the authority.
    #[test]
    fn the_first_names_are_those_of_linux() {
        let Ok(header) = std::fs::read_to_string("/usr/include/linux/input-event-codes.h") else {
            return;
        };
        for code in all() {
            let line = format!("#define KEY_{}", name(code).unwrap().to_uppercase());
            let defined = header.lines().any(|l| {
                let mut words = l.strip_prefix(&line).unwrap_or("").split_whitespace();
                l.starts_with(&line)
                    && l[line.len()..].starts_with(['\t', ' '])
                    && words.next() == Some(&code.to_string())
            });
            assert!(defined, "{line} {code}");
        }
    }
}
