//! virtio-input from the driver's side.

use super::*;
use crate::bus::BusDevice;
use crate::testing::virtio_driver::{DATA, LARGE, VirtioDriver, reg};
use crate::testing::{Recorded, Recorder, Ring};
use crate::virtio::mmio::MmioOptions;
use crate::virtio::spec::feature::VERSION_1;
use crate::virtio::spec::input::{EV_ABS, EV_KEY, EV_REL, EV_REP};

const A: InputEvent = InputEvent::key(30, true);
const A_UP: InputEvent = InputEvent::key(30, false);

/// A driver, its device, and the ring of the status queue.
struct Tested {
    driver: VirtioDriver,
    input: Arc<Input>,
    status: Ring,
}

impl Tested {
    fn new(kind: InputKind, size: u32) -> Self {
        Self::observed(kind, size, Tap::default())
    }

    fn observed(kind: InputKind, size: u32, tap: Tap) -> Self {
        let input = Arc::new(Input::new("input", kind, "7", tap));
        let driver = VirtioDriver::of(input.clone(), MmioOptions::default());
        let status = Ring::contiguous(8, LARGE, 4);
        let mut tested = Self { driver, input, status };
        tested.start(size);
        tested
    }

    fn start(&mut self, size: u32) {
        assert!(self.driver.negotiate(VERSION_1 | feature::RING_INDIRECT_DESC));
        assert!(self.driver.set_up_queue(size));
        assert!(self.driver.set_up_ring(1, &mut self.status));
        self.driver.go_live();
    }

    /// Makes a buffer for an event available at each of these descriptors, without a doorbell.
    fn give(&mut self, descriptors: std::ops::Range<u16>) {
        for index in descriptors {
            self.driver.chain(index, &[(DATA + 8 * u64::from(index), 8, true)]);
            self.driver.offer(index);
        }
    }

    /// The events that the driver got since the last call.
    fn events(&mut self) -> Vec<InputEvent> {
        let mut events = Vec::new();
        while let Some((head, len)) = self.driver.pop() {
            assert_eq!(len, 8);
            let bytes = self.driver.bytes(DATA + 8 * u64::from(head), 8);
            events.push(InputEvent::from_bytes(bytes.try_into().unwrap()));
        }
        events
    }

    /// What the configuration space shows for `select` and `subsel`.
    fn information(&mut self, select: u8, subsel: u8) -> Vec<u8> {
        self.driver.mmio.write(reg::CONFIG, &[select]);
        self.driver.mmio.write(reg::CONFIG + 1, &[subsel]);
        let mut config = [0; 136];
        for (at, byte) in config.iter_mut().enumerate() {
            self.driver.mmio.read(reg::CONFIG + at as u64, std::slice::from_mut(byte));
        }
        assert_eq!((config[0], config[1]), (select, subsel));
        let (size, data) = (usize::from(config[2]), &config[8..]);
        assert_eq!(config[3..8], [0; 5]);
        assert!(data[size..].iter().all(|byte| *byte == 0));
        data[..size].to_vec()
    }

    fn bits(&mut self, kind: u16) -> Vec<u16> {
        let bytes = self.information(0x11, kind as u8);
        (0..8 * bytes.len() as u16)
            .filter(|bit| bytes[usize::from(bit / 8)] & 1 << (bit % 8) != 0)
            .collect()
    }
}

#[test]
fn a_keyboard_is_that_of_qemu() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    assert_eq!(tested.driver.get(reg::DEVICE_ID), 18);
    assert_eq!(tested.information(1, 0), b"QEMU Virtio Keyboard");
    assert_eq!(tested.information(2, 0), b"7");
    assert_eq!(tested.information(3, 0), [6, 0, 0x27, 6, 1, 0, 1, 0]);
    // Properties, sound, an axis: there are none.
    for (select, subsel) in [(0, 0), (0x10, 0), (0x11, 0x12), (0x12, 0), (1, 1), (0xff, 0xff)] {
        assert_eq!(tested.information(select, subsel), [], "{select:#x} {subsel:#x}");
    }
    assert_eq!(tested.information(0x11, 0x11), [7]);
    assert_eq!(tested.information(0x11, EV_REP as u8), [0]);
    let keys = tested.bits(EV_KEY);
    assert_eq!((keys.len(), keys.last()), (159, Some(&226)));
    assert!((1..=83).all(|key| keys.contains(&key)) && !keys.contains(&84) && !keys.contains(&0));
    assert_eq!((tested.bits(EV_REL), tested.bits(EV_ABS)), (vec![], vec![]));
}

#[test]
fn a_mouse_and_a_tablet_are_those_of_qemu() {
    let buttons = [0x110, 0x111, 0x112, 0x113, 0x114, 0x14a, 0x150, 0x151];
    let mut mouse = Tested::new(InputKind::Mouse, 8);
    assert_eq!(mouse.information(1, 0), b"QEMU Virtio Mouse");
    assert_eq!(mouse.information(3, 0), [6, 0, 0x27, 6, 2, 0, 2, 0]);
    assert_eq!((mouse.bits(EV_KEY), mouse.bits(EV_REL)), (buttons.to_vec(), vec![0, 1, 8]));
    assert_eq!((mouse.bits(EV_ABS), mouse.information(0x12, 0)), (vec![], vec![]));

    let mut tablet = Tested::new(InputKind::Tablet, 8);
    assert_eq!(tablet.information(1, 0), b"QEMU Virtio Tablet");
    assert_eq!(tablet.information(3, 0), [6, 0, 0x27, 6, 3, 0, 2, 0]);
    assert_eq!((tablet.bits(EV_KEY), tablet.bits(EV_REL)), (buttons.to_vec(), vec![8]));
    assert_eq!(tablet.bits(EV_ABS), [0, 1]);
    let range = [[0; 4], 0x7fff_u32.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
    assert_eq!((tablet.information(0x12, 0), tablet.information(0x12, 1)), (range.clone(), range));
    assert_eq!(tablet.information(0x12, 2), []);
}

#[test]
fn only_select_and_subsel_are_written() {
    let tested = Tested::new(InputKind::Mouse, 8);
    tested.driver.mmio.write(reg::CONFIG, &[1, 0]);
    assert_eq!(tested.driver.complaints.count(rules::CONFIG_WRITE), 0);
    let mut size = [0];
    tested.driver.mmio.read(reg::CONFIG + 2, &mut size);
    assert_eq!(size, [17]);
    tested.driver.mmio.write(reg::CONFIG + 2, &[9]);
    tested.driver.mmio.write(reg::CONFIG, &[9; 4]);
    tested.driver.mmio.write(reg::CONFIG + 8, &[9; 4]);
    assert_eq!(tested.driver.complaints.count(rules::CONFIG_WRITE), 3);
    tested.driver.mmio.read(reg::CONFIG + 2, &mut size);
    assert_eq!(size, [17]);
    // A reset forgets what was selected.
    tested.driver.mmio.write(reg::STATUS, &[0; 4]);
    let mut selected = [9; 4];
    tested.driver.mmio.read(reg::CONFIG, &mut selected);
    assert_eq!(selected, [0; 4]);
}

#[test]
fn a_group_comes_whole_with_one_interrupt() {
    let mut tested = Tested::new(InputKind::Mouse, 8);
    tested.give(0..2);
    tested.input.send(&[InputEvent::rel(0, 3), InputEvent::rel(1, -4)]);
    assert_eq!((tested.events(), tested.driver.take_interrupts()), (vec![], 0));
    assert_eq!(tested.input.waiting(), 3);
    tested.give(2..3);
    tested.driver.kick();
    let group = [InputEvent::rel(0, 3), InputEvent::rel(1, -4), InputEvent::REPORT];
    assert_eq!((tested.events(), tested.driver.take_interrupts()), (group.to_vec(), 1));
    tested.give(3..6);
    tested.input.send(&[A]);
    // One for each group.
    assert_eq!((tested.events(), tested.driver.line.take()), (vec![A, InputEvent::REPORT], 2));
    assert_eq!((tested.input.dropped(), tested.driver.complaints.last()), (0, None));
}

#[test]
fn what_waits_too_long_goes_by_whole_groups_and_no_key_stays_pressed() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    tested.give(0..2);
    tested.input.send(&[A]);
    assert_eq!(tested.events(), [A, InputEvent::REPORT]);
    tested.input.send(&[A_UP]);
    for key in 0..512 {
        tested.input.send(&[InputEvent::key(key, true)]);
    }
    assert_eq!(tested.input.dropped(), 1);
    tested.give(2..8);
    tested.driver.kick();
    let keys: Vec<_> = tested.events().chunks(2).map(|group| group[0]).collect();
    assert_eq!(keys, [A_UP, InputEvent::key(0, true), InputEvent::key(1, true)]);
}

#[test]
fn without_a_driver_nothing_waits() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    tested.give(0..2);
    tested.input.send(&[A]);
    tested.driver.set(reg::STATUS, 0);
    tested.input.send(&[A_UP]);
    assert_eq!(tested.input.dropped(), 1);
    tested.start(8);
    tested.give(0..8);
    tested.driver.kick();
    assert_eq!(tested.events(), []);
    tested.input.send(&[InputEvent::key(48, true)]);
    assert_eq!(tested.events(), [InputEvent::key(48, true), InputEvent::REPORT]);
}

#[test]
fn an_update_with_more_events_than_the_queue_has_entries_is_dropped() {
    let mut tested = Tested::new(InputKind::Mouse, 2);
    tested.give(0..2);
    tested.input.send(&[InputEvent::rel(0, 3), InputEvent::rel(1, -4)]);
    tested.input.send(&[InputEvent::rel(0, 5)]);
    assert_eq!(tested.events(), [InputEvent::rel(0, 5), InputEvent::REPORT]);
    assert_eq!(tested.input.dropped(), 1);
    assert_eq!(tested.driver.complaints.count(rules::INPUT_BUFFERS), 1);
}

#[test]
fn unsuitable_buffers_are_returned_and_reported() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    tested.driver.chain(0, &[(DATA, 7, true)]);
    tested.driver.chain(1, &[(DATA, 8, false)]);
    tested.driver.chain(2, &[(u64::MAX - 3, 8, true)]);
    for head in 0..3 {
        tested.driver.offer(head);
    }
    // An event in two parts.
    tested.driver.chain(3, &[(DATA, 3, true), (DATA + 0x100, 5, true)]);
    tested.driver.offer(3);
    tested.driver.indirect(5, DATA + 0x200, &[(DATA + 0x300, 100, true)]);
    tested.driver.offer(5);
    tested.input.send(&[A]);
    let answers: Vec<_> = std::iter::from_fn(|| tested.driver.pop()).collect();
    assert_eq!(answers, [(0, 0), (1, 0), (2, 0), (3, 8), (5, 8)]);
    let bytes = [tested.driver.bytes(DATA, 3), tested.driver.bytes(DATA + 0x100, 5)].concat();
    assert_eq!(bytes, A.to_bytes());
    assert_eq!(tested.driver.bytes(DATA + 0x300, 10), [0; 10]);
    assert_eq!(tested.driver.complaints.count(rules::INPUT_BUFFERS), 2);
    assert_eq!(tested.driver.complaints.count(rules::FRAMING), 1);
}

#[test]
fn a_broken_ring_needs_a_reset_and_the_device_works_after_it() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    tested.driver.offer(200);
    tested.input.send(&[A]);
    assert!(tested.driver.needs_reset());
    assert_eq!(tested.driver.complaints.count(rules::CHAIN), 1);
    tested.input.send(&[A]);
    tested.start(8);
    tested.give(0..2);
    tested.input.send(&[A]);
    assert_eq!(tested.events(), [A, InputEvent::REPORT]);
}

#[test]
fn leds_are_what_the_driver_says() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    let mut say = |kind: u16, code: u16, value: i32, len: u32| {
        tested.driver.write(DATA, &InputEvent { kind, code, value }.to_bytes());
        tested.status.chain(&tested.driver.ram, 0, &[(DATA, len, false)]);
        tested.status.offer(&tested.driver.ram, 0);
        tested.driver.kick_queue(1);
        assert_eq!(tested.status.pop(&tested.driver.ram), Some((0, 0)));
        let Leds { num_lock, caps_lock, scroll_lock } = tested.input.leds();
        (num_lock, caps_lock, scroll_lock)
    };
    assert_eq!(say(EV_LED, 1, 1, 8), (false, true, false));
    assert_eq!(say(EV_LED, 0, 1, 8), (true, true, false));
    assert_eq!(say(EV_LED, 1, 0, 8), (true, false, false));
    assert_eq!(say(EV_LED, 2, -1, 8), (true, false, true));
    // An LED that there is not, another type, too short.
    for (kind, code, len) in [(EV_LED, 3, 8), (EV_LED, 0xffff, 8), (EV_REP, 0, 8), (EV_LED, 0, 7)] {
        assert_eq!(say(kind, code, 0, len), (true, false, true));
    }
    assert_eq!(tested.driver.complaints.count(rules::INPUT_STATUS), 1);
    tested.driver.set(reg::STATUS, 0);
    assert_eq!(tested.input.leds(), Leds::default());
}

#[test]
fn nothing_is_sent_while_it_is_held() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    // The device has taken two buffers for a group of three when it is held; the next group would fit.
    tested.give(0..2);
    tested.input.send(&[A, A_UP]);
    tested.driver.mmio.hold();
    for _ in 0..511 {
        tested.input.send(&[A]);
    }
    assert_eq!((tested.input.dropped(), tested.events()), (1, vec![]));
    tested.start(8);
    tested.driver.mmio.release();
    tested.give(0..8);
    tested.driver.mmio.hold();
    tested.driver.mmio.quiesce().unwrap();
    tested.input.send(&[A]);
    tested.input.send(&[A_UP]);
    assert_eq!(tested.events(), []);
    tested.driver.mmio.release();
    assert_eq!(tested.events(), [A, InputEvent::REPORT, A_UP, InputEvent::REPORT]);
}

#[test]
fn buffers_that_wait_for_events_are_nothing_left_undone() {
    let mut tested = Tested::new(InputKind::Keyboard, 8);
    tested.give(0..8);
    tested.driver.kick();
    tested.input.send(&[A]);
    tested.events();
    tested.driver.take_interrupts();
    let waiting = tested.driver.mmio.waiting().unwrap();
    assert!(!waiting.is_outstanding, "{waiting:?}");
    assert_eq!(waiting.lines[0], "queue 0: 6 buffers of the driver wait for an event of the host");
}

#[test]
fn groups_of_many_threads_are_not_mixed() {
    let mut tested = Tested::new(InputKind::Mouse, 64);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|thread| {
                let input = tested.input.clone();
                scope.spawn(move || {
                    for n in 0..50 {
                        input.send(&[InputEvent::rel(0, thread), InputEvent::rel(1, n)]);
                    }
                })
            })
            .collect();
        tested.give(0..64);
        tested.driver.kick();
        while seen.len() < 600 {
            let events = tested.events();
            let heads = events.len();
            for _ in 0..heads {
                let next = tested.driver.ring.offered() % 64;
                tested.give(next..next + 1);
            }
            tested.driver.kick();
            seen.extend(events);
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
    let mut next = [0; 4];
    for group in seen.chunks(3) {
        let thread = usize::try_from(group[0].value).unwrap();
        assert_eq!((group[1].value, group[2]), (next[thread], InputEvent::REPORT));
        next[thread] += 1;
    }
    assert_eq!((next, tested.input.dropped()), ([50; 4], 0));
}

#[test]
fn an_observer_sees_events_in_words() {
    let recorder = Arc::new(Recorder::default());
    let mut tested = Tested::observed(InputKind::Keyboard, 8, Tap::to(recorder.clone()));
    tested.give(0..8);
    recorder.take();
    tested.input.send(&[A]);
    let recorded = recorder.take();
    let words: Vec<_> = recorded.iter().filter_map(Recorded::other).collect();
    assert!(words.contains(&"Content { queue: 0, what: \"key 30 pressed\" }"), "{words:?}");
    assert!(words.contains(&"Content { queue: 0, what: \"SYN_REPORT\" }"), "{words:?}");
}
