//! What a client of the control socket types and points at: one event after the other, each when the guest's driver took
//! the one before.
//!
//! A device drops events that the driver gives no buffers for. So a text of any length is typed at the pace of the
//! guest, and no faster than [`PACE`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cafevm_devices::virtio::input::Input;
use event_manager::{EventOps, Events};
use serde_json::json;

use super::hands::{Buttons, Hand, Hands, Motion};
use super::keys::codes;
use super::keys::us::{self, Stroke};
use crate::error::HostError;
use crate::runtime::event_loop::{Subscriber, watch};
use crate::runtime::messages::{Answer, Ticket};
use crate::runtime::timer::Timer;
use crate::threads::mailbox::Outbox;

/// The time between two events. A guest whose programs read slowly has a buffer of its own, which is small.
const PACE: Duration = Duration::from_millis(2);
/// How long the driver may take for an event.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a message may take.
const LIMIT: Duration = Duration::from_secs(600);

/// A part of a text or a chord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Press(u16),
    Release(u16),
    /// Presses Shift if the character needs it, as Caps Lock is then.
    ShiftFor(Stroke),
    /// Releases Shift if [`Step::ShiftFor`] pressed it.
    NoShift,
    Point(Pointing),
}

/// What the pointer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointing {
    pub(crate) motion: Motion,
    /// The buttons that are held from now on; if none, they stay as they are.
    pub(crate) buttons: Option<Buttons>,
    /// The steps of the wheel, up if positive.
    pub(crate) wheel: i32,
}

/// The steps of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strokes(VecDeque<Step>);

impl Strokes {
    /// All keys pressed in this order, then released in the reverse order.
    pub(crate) fn chord(keys: &[u16]) -> Self {
        let press = keys.iter().copied().map(Step::Press);
        Self(press.chain(keys.iter().rev().copied().map(Step::Release)).collect())
    }

    /// The keys for a text, on a US keyboard.
    ///
    /// # Errors
    ///
    /// The characters that have no key.
    pub(crate) fn text(text: &str) -> Result<Self, Vec<char>> {
        let mut steps = VecDeque::new();
        let mut unknown = Vec::new();
        for char in text.chars() {
            match us::stroke(char) {
                Some(stroke) => steps.extend([
                    Step::ShiftFor(stroke),
                    Step::Press(stroke.code),
                    Step::Release(stroke.code),
                    Step::NoShift,
                ]),
                None if unknown.contains(&char) => {}
                None => unknown.push(char),
            }
        }
        if unknown.is_empty() { Ok(Self(steps)) } else { Err(unknown) }
    }

    /// The pointer does this.
    pub(crate) fn pointing(pointing: Pointing) -> Self {
        Self([Step::Point(pointing)].into())
    }

    /// The device that gets the events.
    fn device(&self, hands: &Hands) -> Option<Arc<Input>> {
        match self.0.front() {
            Some(Step::Point(pointing)) => hands.pointer(pointing.motion).cloned(),
            _ => hands.keyboard.clone(),
        }
    }
}

/// A message that is carried out.
struct Task {
    ticket: Ticket,
    device: Arc<Input>,
    steps: VecDeque<Step>,
    /// The number of keys at the begin.
    presses: usize,
    /// When the first step was possible.
    begun: Instant,
    /// When the last step was made.
    since: Instant,
}

/// Carries out strokes, on the main thread.
pub(crate) struct Typist {
    hand: Hand,
    tasks: VecDeque<Task>,
    answers: Outbox<(Ticket, Answer)>,
    timer: Timer,
    /// Shift is held for a character.
    shifted: bool,
}

impl Typist {
    /// Without a task. Answers go to `answers`.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(hands: Hands, answers: Outbox<(Ticket, Answer)>) -> Result<Self, HostError> {
        let (hand, tasks) = (Hand::new(hands), VecDeque::new());
        Ok(Self { hand, tasks, answers, timer: Timer::new()?, shifted: false })
    }

    /// Begins when the tasks before are done. The answer comes when the driver has taken all events.
    ///
    /// # Errors
    ///
    /// Why nothing can be typed.
    pub(crate) fn begin(&mut self, ticket: Ticket, strokes: Strokes) -> Result<(), String> {
        let device = strokes.device(self.hand.devices()).ok_or("the machine has no such device")?;
        let (steps, now) = (strokes.0, Instant::now());
        let presses = presses(&steps);
        self.tasks.push_back(Task { ticket, device, presses, steps, begun: now, since: now });
        self.timer.set(Some(Duration::ZERO)).map_err(|error| error.to_string())
    }

    /// Makes the next step, if the driver took the one before.
    fn step(&mut self, now: Instant) {
        let Some(task) = self.tasks.front_mut() else { return };
        let device = task.device.clone();
        let late = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        let is_stuck = device.waiting() > 0 && late(task.since, PATIENCE);
        if is_stuck || late(task.begun, LIMIT) {
            let (kind, all) = (device.kind(), task.presses);
            let sent = all - presses(&task.steps);
            let how_far =
                if all > 0 { format!(", after {sent} of {all} keys") } else { String::new() };
            let why = if is_stuck {
                format!("gave no buffers for {} s", PATIENCE.as_secs())
            } else {
                format!("took longer than {} s", LIMIT.as_secs())
            };
            return self.end(Err(format!(
                "the guest's driver of the {kind} {why}{how_far}; does the guest still run?"
            )));
        }
        if device.waiting() > 0 {
            return;
        }
        task.since = now;
        let dropped = device.dropped();
        // Some steps need no event.
        loop {
            let Some(step) = self.tasks.front_mut().and_then(|task| task.steps.pop_front()) else {
                return self.end(Ok(json!({})));
            };
            if self.make(step) {
                break;
            }
        }
        if device.dropped() != dropped {
            self.end(Err(format!(
                "no driver of the guest uses the {}: none has set DRIVER_OK, or the device was reset since",
                device.kind()
            )));
        }
    }

    /// Returns whether an event was sent.
    fn make(&mut self, step: Step) -> bool {
        match step {
            Step::Press(code) => self.hand.key(code, true),
            Step::Release(code) => self.hand.key(code, false),
            Step::ShiftFor(stroke) => {
                self.shifted = self.hand.needs_shift(stroke);
                if self.shifted {
                    self.hand.key(codes::LEFT_SHIFT, true);
                }
                return self.shifted;
            }
            Step::NoShift => {
                if !std::mem::take(&mut self.shifted) {
                    return false;
                }
                self.hand.key(codes::LEFT_SHIFT, false);
            }
            Step::Point(Pointing { motion, buttons, wheel }) => {
                self.hand.pointer(motion, buttons, wheel);
            }
        }
        true
    }

    /// Ends the first task.
    fn end(&mut self, answer: Answer) {
        self.hand.release_keys();
        self.shifted = false;
        if let Some(Task { ticket, .. }) = self.tasks.pop_front() {
            self.answers.send((ticket, answer));
        }
        if let Some(next) = self.tasks.front_mut() {
            next.since = Instant::now();
            next.begun = next.since;
        }
    }

    fn tick(&mut self) -> Result<(), HostError> {
        self.step(Instant::now());
        self.timer.set((!self.tasks.is_empty()).then_some(PACE))
    }
}

/// The number of keys that are pressed.
fn presses(steps: &VecDeque<Step>) -> usize {
    steps.iter().filter(|step| matches!(step, Step::Press(_))).count()
}

/// The subscriber of a typist's timer.
pub(crate) struct TypistSubscriber(pub(crate) Rc<RefCell<Typist>>);

impl Subscriber for TypistSubscriber {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.0.borrow().timer)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        self.0.borrow_mut().tick()
    }
}

#[cfg(test)]
mod tests {
    use cafevm_devices::virtio::input::{InputEvent, InputKind};

    use super::*;
    use crate::display::testing::TestInput;
    use crate::threads::mailbox::{Inbox, mailbox};

    const TICKET: Ticket = Ticket(7);

    fn typist(keyboard: Option<&TestInput>) -> (Typist, Inbox<(Ticket, Answer)>) {
        let (answers, inbox) = mailbox().unwrap();
        let inputs: Vec<_> = keyboard.iter().map(|keyboard| keyboard.input.clone()).collect();
        (Typist::new(Hands::of(&inputs), answers).unwrap(), inbox)
    }

    fn keys(text: &str) -> Vec<(u16, bool)> {
        let key = |code| [(code, true), (code, false)];
        let shift = |on: bool, keys: [(u16, bool); 2]| match on {
            false => keys.to_vec(),
            true => vec![(42, true), keys[0], keys[1], (42, false)],
        };
        let strokes = text.chars().map(|char| us::stroke(char).unwrap());
        strokes.flat_map(|Stroke { code, shift: on }| shift(on, key(code))).collect()
    }

    #[test]
    fn a_chord_is_released_in_reverse() {
        let mut keyboard = TestInput::new(InputKind::Keyboard);
        let (mut typist, answers) = typist(Some(&keyboard));
        typist.begin(TICKET, Strokes::chord(&[29, 56, 111])).unwrap();
        while !typist.tasks.is_empty() {
            typist.step(Instant::now());
        }
        let wanted = [(29, true), (56, true), (111, true), (111, false), (56, false), (29, false)];
        assert_eq!(keyboard.keys(), wanted);
        assert_eq!(answers.take().collect::<Vec<_>>(), [(TICKET, Ok(json!({})))]);
    }

    /// More than the device keeps: 1024 events, and 4 for a character at least.
    #[test]
    fn a_long_text_waits_for_the_driver() {
        let mut keyboard = TestInput::without_buffers(InputKind::Keyboard);
        let (mut typist, answers) = typist(Some(&keyboard));
        let text = "Hello, World!\n".repeat(100);
        typist.begin(TICKET, Strokes::text(&text).unwrap()).unwrap();
        let mut seen = Vec::new();
        while !typist.tasks.is_empty() {
            for _ in 0..100 {
                typist.step(Instant::now());
            }
            if seen.is_empty() {
                keyboard.give();
            }
            seen.extend(keyboard.keys());
        }
        assert_eq!(seen, keys(&text));
        assert_eq!(keyboard.input.dropped(), 0);
        assert_eq!(answers.take().collect::<Vec<_>>(), [(TICKET, Ok(json!({})))]);
    }

    #[test]
    fn a_driver_that_takes_nothing_is_named_and_the_next_task_begins() {
        let keyboard = TestInput::without_buffers(InputKind::Keyboard);
        let (mut typist, answers) = typist(Some(&keyboard));
        typist.begin(TICKET, Strokes::text("ab").unwrap()).unwrap();
        typist.begin(Ticket(8), Strokes::text("c").unwrap()).unwrap();
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        for seconds in [0, 1, 4] {
            typist.step(later(seconds));
        }
        assert_eq!(answers.take().count(), 0);
        typist.step(later(20));
        let [(TICKET, Err(why))] = &answers.take().collect::<Vec<_>>()[..] else { panic!() };
        let says = "the keyboard gave no buffers for 5 s, after 1 of 2 keys";
        assert!(why.contains(says), "{why}");
        assert_eq!(typist.tasks.len(), 1);
    }

    #[test]
    fn without_a_driver_or_a_keyboard_it_is_said_at_once() {
        let mut keyboard = TestInput::new(InputKind::Keyboard);
        keyboard.stop();
        let (mut with, answers) = typist(Some(&keyboard));
        with.begin(TICKET, Strokes::text("a").unwrap()).unwrap();
        for _ in 0..4 {
            with.step(Instant::now());
        }
        let [(TICKET, Err(why))] = &answers.take().collect::<Vec<_>>()[..] else { panic!() };
        assert!(why.contains("no driver of the guest uses the keyboard"), "{why}");
        let (mut without, _) = typist(None);
        assert!(without.begin(TICKET, Strokes::text("a").unwrap()).is_err());
    }

    #[test]
    fn buttons_stay_as_they_are_until_they_are_given() {
        let mut tablet = TestInput::new(InputKind::Tablet);
        let (mut typist, answers) = typist(Some(&tablet));
        let size = (11, 11);
        for (x, buttons) in [(0, Some(1)), (10, None), (10, Some(0))] {
            let motion = Motion::To { at: (x, 0), size };
            let pointing = Pointing { motion, buttons, wheel: 0 };
            typist.begin(TICKET, Strokes::pointing(pointing)).unwrap();
            while !typist.tasks.is_empty() {
                typist.step(Instant::now());
            }
            assert_eq!(answers.take().collect::<Vec<_>>(), [(TICKET, Ok(json!({})))]);
        }
        let (x, y) = (|x| InputEvent::abs(0, x), InputEvent::abs(1, 0));
        let left = |down| InputEvent::key(0x110, down);
        let wanted =
            [vec![x(0), y, left(true)], vec![x(0x7fff), y], vec![x(0x7fff), y, left(false)]];
        assert_eq!(tablet.groups(), wanted);
    }

    #[test]
    fn what_has_no_key_is_named_before_anything_is_typed() {
        assert_eq!(Strokes::text("a\u{e4}b\u{20ac}\u{e4}"), Err(vec!['\u{e4}', '\u{20ac}']));
        assert_eq!(Strokes::text("").unwrap().0.len(), 0);
    }
}
