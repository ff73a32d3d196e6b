//! A keyboard and mouse in one, typed on while its driver does anything.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::bus::BusDevice;
use crate::observe::Tap;
use crate::testing::input::Input;
use crate::testing::virtio_driver::{DATA, LARGE, VirtioDriver, reg};
use crate::testing::{LogLines, Ring};
use crate::virtio::input::{self, InputEvent, InputKind};
use crate::virtio::mmio::MmioOptions;
use crate::virtio::spec::feature::{RING_INDIRECT_DESC, VERSION_1};
use crate::virtio::spec::input::{EV_KEY, EV_LED, EV_SYN};

/// Steps of one run.
const STEPS: usize = 500;
/// The most log lines of one device: 40, and a summary.
const LINES: u64 = 41;
/// The most events that wait.
const PENDING_MAX: usize = 1024;

struct Fuzzed {
    driver: VirtioDriver,
    device: Arc<input::Input>,
    status: Ring,
    /// The heads that the driver may use.
    free: Vec<u16>,
    /// For each head, whether its buffer is large enough for an event.
    suits: Vec<bool>,
    /// The groups that were sent since the start, oldest first, until the driver has got them.
    sent: VecDeque<Vec<InputEvent>>,
    /// The keys that the user holds, and those that the driver believes pressed.
    held: BTreeSet<u16>,
    believed: BTreeSet<u16>,
    /// What the driver got of a group.
    partial: Vec<InputEvent>,
    /// Groups of this session: sent, received.
    counts: [u64; 2],
    /// Groups that the device had dropped at the start of the session.
    dropped: u64,
    /// The number in the next group.
    next: i32,
    tally: InputTally,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputTally {
    /// Groups that the driver got.
    pub received: u64,
    /// Groups that were dropped while a driver ran.
    pub dropped: u64,
    /// Keys that were released in place of a dropped release.
    pub owed: u64,
}

/// For any driver: groups come whole and in their order, what is missing was counted as dropped, no key stays pressed
/// that the user has released, and the log is limited.
///
/// # Panics
///
/// If one of these does not hold.
pub fn virtio_input(bytes: &[u8]) -> InputTally {
    let mut tally = InputTally::default();
    let lines = LogLines::of(|| {
        let mut input = Input::new(bytes);
        let mut fuzzed = Fuzzed::new();
        fuzzed.start(&mut input);
        for _ in 0..STEPS {
            if input.is_over() {
                break;
            }
            fuzzed.step(&mut input);
        }
        fuzzed.end();
        tally = fuzzed.tally;
    });
    assert!(lines <= LINES, "{lines} lines in the log");
    tally
}

impl Fuzzed {
    fn new() -> Self {
        let device = input::Input::new("input", InputKind::Keyboard, "7", Tap::default());
        let device = Arc::new(device);
        Self {
            driver: VirtioDriver::of(device.clone(), MmioOptions::default()),
            device,
            status: Ring::contiguous(8, LARGE, 4),
            free: Vec::new(),
            suits: Vec::new(),
            sent: VecDeque::new(),
            held: BTreeSet::new(),
            believed: BTreeSet::new(),
            partial: Vec::new(),
            counts: [0; 2],
            dropped: 0,
            next: 0,
            tally: InputTally::default(),
        }
    }

    fn start(&mut self, input: &mut Input<'_>) {
        let size = 64 >> input.below(7);
        assert!(self.driver.negotiate(VERSION_1 | RING_INDIRECT_DESC));
        assert!(self.driver.set_up_queue(size));
        assert!(self.driver.set_up_ring(1, &mut self.status));
        self.driver.go_live();
        self.free = (0..size as u16).collect();
        self.suits = vec![true; size as usize];
        self.sent.clear();
        self.believed.clear();
        self.partial.clear();
        self.counts = [0; 2];
        self.dropped = self.device.dropped();
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            0..90 => self.send(input),
            90..190 => self.give(input),
            190..200 => self.type_much(input),
            200..215 => self.say(input),
            215..230 => {
                let (offset, width) = (u64::from(input.below(140)), 1 + input.below(4) as usize);
                let mut data = input.word().to_le_bytes();
                self.driver.mmio.write(reg::CONFIG + offset, &data[..width]);
                self.driver.mmio.read(reg::CONFIG + offset, &mut data[..width]);
            }
            230..240 => self.start(input),
            240..250 => {
                self.driver.mmio.hold();
                self.driver.mmio.quiesce().unwrap();
                self.send(input);
                self.driver.mmio.release();
            }
            250.. => {
                self.driver.offer(self.driver.ring.size + u16::from(input.byte()));
                self.driver.kick();
                self.send(input);
                self.start(input);
                return;
            }
        }
        self.receive();
    }

    /// The user presses or releases a key, with up to four other events.
    fn send(&mut self, input: &mut Input<'_>) {
        let code = 1 + input.below(12) as u16;
        let pressed = !self.held.remove(&code);
        if pressed {
            self.held.insert(code);
        }
        let mut group = vec![InputEvent::key(code, pressed), InputEvent::rel(0, self.next)];
        self.next += 1;
        for axis in 1..=input.below(5) {
            group.push(InputEvent::rel(axis as u16, -1));
        }
        self.send_group(group);
    }

    fn type_much(&mut self, input: &mut Input<'_>) {
        for _ in 0..input.below(600) {
            self.send(&mut Input::new(&[self.next.to_le_bytes()[0], 0]));
        }
    }

    fn send_group(&mut self, mut group: Vec<InputEvent>) {
        self.device.send(&group);
        group.push(InputEvent { kind: EV_SYN, code: 0, value: 0 });
        self.sent.push_back(group);
        self.counts[0] += 1;
        assert!(self.device.waiting() <= PENDING_MAX);
    }

    /// The driver gives buffers, most of which suit.
    fn give(&mut self, input: &mut Input<'_>) {
        for _ in 0..1 + input.below(40) {
            let Some(head) = self.free.pop() else { break };
            let at = DATA + 64 * u64::from(head);
            let suits = !input.one_in(16);
            self.suits[usize::from(head)] = suits;
            let part = match input.below(4) {
                _ if suits => (at, 8 + input.below(8), true),
                0 => (at, 8, false),
                1 => (u64::MAX - u64::from(input.byte()), 8, true),
                _ => (at, input.below(8), true),
            };
            self.driver.chain(head, &[part]);
            self.driver.offer(head);
        }
        self.driver.kick();
    }

    /// The driver sets an LED.
    fn say(&mut self, input: &mut Input<'_>) {
        let kind = input.pick(&[EV_LED, EV_KEY, 0xffff], EV_LED);
        let event = InputEvent { kind, code: input.below(5) as u16, value: input.word() as i32 };
        let (before, len) = (self.device.leds(), input.below(16));
        self.driver.write(DATA + 0x8000, &event.to_bytes());
        let ram = self.driver.ram.clone();
        self.status.chain(&ram, 0, &[(DATA + 0x8000, len, input.one_in(8))]);
        let works = ram.read::<2>(self.status.desc + 12).is_ok_and(|flags| flags == [0, 0]);
        self.status.offer(&ram, 0);
        self.driver.kick_queue(1);
        assert_eq!(self.status.pop(&ram), Some((0, 0)));
        let leds = self.device.leds();
        if works && len >= 8 && kind == EV_LED && event.code < 3 {
            let seen = [leds.num_lock, leds.caps_lock, leds.scroll_lock];
            assert_eq!(seen[usize::from(event.code)], event.value != 0);
        } else {
            assert_eq!(leds, before);
        }
    }

    /// The driver takes what it got.
    fn receive(&mut self) {
        while let Some((head, len)) = self.driver.pop() {
            let head = head as u16;
            let suits = self.suits[usize::from(head)];
            assert_eq!(len, if suits { 8 } else { 0 });
            self.free.push(head);
            if !suits {
                continue;
            }
            let bytes = self.driver.bytes(DATA + 64 * u64::from(head), 8);
            self.partial.push(InputEvent::from_bytes(bytes.try_into().unwrap()));
            if self.partial.last().is_some_and(|event| event.kind == EV_SYN) {
                let group = std::mem::take(&mut self.partial);
                self.received(&group);
            }
        }
        // The used index moves once for a whole group.
        assert_eq!(self.partial, [], "half a group");
        self.driver.take_interrupts();
    }

    fn received(&mut self, group: &[InputEvent]) {
        let is_owed = group.len() == 2;
        if is_owed {
            // The release of a key, in place of one that was dropped.
            assert_eq!((group[0].kind, group[0].value), (EV_KEY, 0));
            assert!(self.believed.contains(&group[0].code));
            self.tally.owed += 1;
        } else {
            self.counts[1] += 1;
            self.tally.received += 1;
            while self.sent.pop_front().is_some_and(|sent| sent != group) {
                assert!(!self.sent.is_empty(), "{group:?} was not sent, or earlier");
            }
        }
        for event in group.iter().filter(|event| event.kind == EV_KEY) {
            if event.value == 0 {
                self.believed.remove(&event.code);
            } else {
                self.believed.insert(event.code);
            }
        }
    }

    /// The user releases all keys, and the driver takes everything.
    fn end(&mut self) {
        // A queue that has room for each group.
        if self.driver.ring.size < 16 {
            self.start(&mut Input::new(&[0]));
        }
        for code in std::mem::take(&mut self.held) {
            self.send_group(vec![InputEvent::key(code, false), InputEvent::rel(0, self.next)]);
            self.next += 1;
        }
        for _ in 0..PENDING_MAX {
            while let Some(head) = self.free.pop() {
                self.suits[usize::from(head)] = true;
                self.driver.chain(head, &[(DATA + 64 * u64::from(head), 8, true)]);
                self.driver.offer(head);
            }
            self.driver.kick();
            self.receive();
        }
        assert_eq!((self.device.waiting(), &self.believed), (0, &BTreeSet::new()));
        let dropped = self.device.dropped() - self.dropped;
        assert_eq!(self.counts[0], self.counts[1] + dropped);
        self.tally.dropped += dropped;
    }
}
