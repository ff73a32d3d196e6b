use proptest::prelude::*;

use super::*;
use crate::display::testing::TestInput;

const A: u16 = 30;
const ONE: u16 = 2;
const SHIFT: u16 = codes::LEFT_SHIFT;

fn keyboard() -> (TestInput, Hand) {
    let keyboard = TestInput::new(InputKind::Keyboard);
    let hand = Hand::new(Hands::of(std::slice::from_ref(&keyboard.input)));
    (keyboard, hand)
}

#[test]
fn each_kind_of_event_goes_to_the_first_device_of_its_kind() {
    let inputs = [InputKind::Mouse, InputKind::Keyboard, InputKind::Tablet, InputKind::Keyboard]
        .map(|kind| TestInput::new(kind).input);
    let Hands { keyboard, tablet, mouse } = Hands::of(&inputs);
    for (found, at) in [(mouse, 0), (keyboard, 1), (tablet, 2)] {
        assert!(Arc::ptr_eq(&found.unwrap(), &inputs[at]));
    }
    // Without devices nothing happens.
    let mut hand = Hand::new(Hands::default());
    assert!(hand.keysym(0x61, true));
    hand.point((1, 1), (2, 2), 1);
}

#[test]
fn every_printable_character_types_itself() {
    let (mut keyboard, mut hand) = keyboard();
    for char in ' '..='~' {
        let stroke = crate::display::keys::us::stroke(char).unwrap();
        assert!(hand.keysym(char.into(), true) && hand.keysym(char.into(), false));
        let key = [(stroke.code, true), (stroke.code, false)];
        let wanted = match stroke.shift {
            false => key.to_vec(),
            true => vec![(SHIFT, true), key[0], (SHIFT, false), key[1]],
        };
        assert_eq!(keyboard.keys(), wanted, "{char}");
    }
    assert!(!hand.keysym(0xe4, true));
    assert_eq!(keyboard.keys(), []);
}

#[test]
fn shift_is_not_pressed_for_a_client_that_presses_it() {
    let (mut keyboard, mut hand) = keyboard();
    for (keysym, down) in [(0xffe2, true), (0x41, true), (0x41, false), (0xffe2, false)] {
        hand.keysym(keysym, down);
    }
    let right = codes::RIGHT_SHIFT;
    assert_eq!(keyboard.keys(), [(right, true), (A, true), (A, false), (right, false)]);
    // Nor for a command, but for a character that the key has only with Shift.
    for keysym in [0xffe3, 0x41, 0x21] {
        hand.keysym(keysym, true);
    }
    let ctrl = codes::LEFT_CTRL;
    let wanted = [(ctrl, true), (A, true), (SHIFT, true), (ONE, true), (SHIFT, false)];
    assert_eq!(keyboard.keys(), wanted);
}

#[test]
fn caps_lock_of_the_guest_counts() {
    let (mut keyboard, mut hand) = keyboard();
    keyboard.set_caps_lock(true);
    for (char, shift) in [('A', false), ('a', true), ('1', false), ('!', true)] {
        hand.keysym(char.into(), true);
        hand.keysym(char.into(), false);
        let keys = keyboard.keys();
        assert_eq!(keys.iter().any(|(code, _)| *code == SHIFT), shift, "{char}: {keys:?}");
    }
}

#[test]
fn what_a_client_holds_is_released_when_it_goes() {
    let mut devices =
        [InputKind::Keyboard, InputKind::Tablet, InputKind::Mouse].map(TestInput::new);
    let hands = Hands::of(&devices.each_ref().map(|device| device.input.clone()));
    let mut hand = Hand::new(hands);
    hand.key(A, true);
    hand.key(SHIFT, true);
    hand.point((0, 0), (10, 10), 5);
    hand.pointer(Motion::By(1, 0), Some(bit(Button::Side)), 0);
    for device in &mut devices {
        assert!(!device.groups().is_empty());
    }
    drop(hand);
    let [keyboard, tablet, mouse] = &mut devices;
    assert_eq!(keyboard.keys(), [(SHIFT, false), (A, false)]);
    let up = |button: Button| InputEvent::key(button.code(), false);
    assert_eq!(tablet.groups(), [[up(Button::Left), up(Button::Right)]]);
    assert_eq!(mouse.groups(), [[up(Button::Side)]]);
}

#[test]
fn a_key_that_is_not_held_is_not_released() {
    let (mut keyboard, mut hand) = keyboard();
    hand.key(A, false);
    // A client repeats keys; each counts.
    hand.key(A, true);
    hand.key(A, true);
    hand.key(A, false);
    hand.key(A, false);
    assert_eq!(keyboard.keys(), [(A, true), (A, true), (A, false)]);
}

#[test]
fn a_tablet_gets_places() {
    let mut tablet = TestInput::new(InputKind::Tablet);
    let mut mouse = TestInput::new(InputKind::Mouse);
    let mut hand = Hand::new(Hands::of(&[tablet.input.clone(), mouse.input.clone()]));
    let place = |x, y| [InputEvent::abs(ABS_X, x), InputEvent::abs(ABS_Y, y)].to_vec();
    let with = |mut group: Vec<InputEvent>, event| {
        group.push(event);
        group
    };
    let left = |down| InputEvent::key(0x110, down);
    for (at, bits, wanted) in [
        ((0, 0), 0, Some(place(0, 0))),
        ((1023, 767), 0, Some(place(0x7fff, 0x7fff))),
        ((1023, 767), 0, None),
        ((0xffff, 0xffff), 0, Some(place(0x7fff, 0x7fff))),
        ((0, 0), 1, Some(with(place(0, 0), left(true)))),
        ((0, 0), 1 | 8, Some(with(place(0, 0), InputEvent::rel(REL_WHEEL, 1)))),
        ((0, 0), 1, Some(place(0, 0))),
        ((0, 0), 1 | 16, Some(with(place(0, 0), InputEvent::rel(REL_WHEEL, -1)))),
        ((0, 0), 0, Some(with(place(0, 0), left(false)))),
        ((0, 0), 0x80, Some(with(place(0, 0), InputEvent::key(0x113, true)))),
    ] {
        hand.point(at, (1024, 768), bits);
        assert_eq!(tablet.groups(), wanted.into_iter().collect::<Vec<_>>(), "{at:?} {bits:#x}");
    }
    assert!(mouse.groups().is_empty());
    // A picture of one pixel.
    hand.point((0, 0), (1, 1), 0);
    assert_eq!(tablet.groups().len(), 1);
}

#[test]
fn a_mouse_gets_motions() {
    let mut mouse = TestInput::new(InputKind::Mouse);
    let mut hand = Hand::new(Hands::of(std::slice::from_ref(&mouse.input)));
    let by = |x, y| vec![InputEvent::rel(REL_X, x), InputEvent::rel(REL_Y, y)];
    let left = |down| vec![InputEvent::key(0x110, down)];
    for (at, bits, wanted) in [
        // Where the client begins is unknown.
        ((10, 10), 0, None),
        ((15, 8), 0, Some(by(5, -2))),
        ((15, 8), 1, Some(left(true))),
        ((0, 8), 1, Some(vec![InputEvent::rel(REL_X, -15)])),
        ((0, 8), 0, Some(left(false))),
    ] {
        hand.point(at, (100, 100), bits);
        assert_eq!(mouse.groups(), wanted.into_iter().collect::<Vec<_>>(), "{at:?} {bits:#x}");
    }
    assert!(hand.devices().pointer(Motion::To { at: (0, 0), size: (1, 1) }).is_none());
}

proptest! {
    /// A driver that spreads the tablet's range over the picture, rounding down or to the nearest, finds the pixel.
    #[test]
    fn a_place_is_found_again(len in 1..=8192_u32, seed: u32) {
        let at = seed % len;
        let place = u64::try_from(scaled(at, len)).unwrap();
        prop_assert!(place <= 0x7fff);
        prop_assert_eq!(place * u64::from(len) / 0x8000, u64::from(at));
        let last = u64::from(len - 1);
        prop_assert_eq!((place * last * 2 + 0x7fff) / (2 * 0x7fff), u64::from(at));
    }
}
