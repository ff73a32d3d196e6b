//! virtio-input (virtio 1.4, 5.8): keyboards, mice and tablets.
//!
//! Events are those of Linux's evdev. They come in groups, each of which is one update of the device: the motion on two
//! axes, for example, and the end of the group (SYN_REPORT). The driver gets a group as a whole, once it has given a
//! buffer for each of its events. Until then the group waits.
//!
//! | question | file |
//! |---|---|
//! | Which events are there? | `event.rs` |
//! | What does the driver learn of the device? | `kind.rs` |
//! | Which groups wait, and which are dropped? | `pending.rs` |

mod event;
mod kind;
mod pending;

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::chain::Chain;
use super::device::{Activation, Live, ServiceResult, VirtioDevice};
use super::inline_queue::{Answer, Broken, InlineQueue, Serving};
use super::queue::{Progress, SplitQueue};
use super::rules;
use super::spec::feature;
use super::spec::input::{
    CONFIG_DATA, CONFIG_DATA_MAX, CONFIG_SELECT, CONFIG_SIZE, CONFIG_SUBSEL, DEVICE_ID, EV_LED,
    EVENT_QUEUE, EVENT_SIZE, LED_CAPSL, LED_NUML, LED_SCROLLL, STATUS_QUEUE,
};
use crate::memory::{Buffers, GuestRam};
use crate::observe::{Event, Reporter, Rule, Tap, Words};
use crate::stuck::Stuck;
pub use event::InputEvent;
pub use kind::InputKind;
use pending::{PENDING_MAX, Pending};

/// The entries of each queue.
const QUEUE_SIZE: u16 = 64;
/// How often a thread that sends looks again because another one came in the meantime.
const LOOKS: u32 = 64;

/// A virtio-input device.
#[derive(Debug)]
pub struct Input {
    reporter: Reporter,
    kind: InputKind,
    serial: String,
    /// `select` and `subsel`.
    selection: Mutex<(u8, u8)>,
    pending: Mutex<Pending>,
    /// The event queue, with the buffers for a group that needs more of them.
    events: InlineQueue<Vec<EventBuffer>>,
    status: InlineQueue,
    /// The LEDs that are on: a bit each.
    leds: AtomicU8,
}

/// A buffer for an event.
#[derive(Debug)]
struct EventBuffer {
    /// The descriptor chain that it is in.
    head: u16,
    buffers: Buffers,
}

/// The LEDs of a keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leds {
    /// Num Lock is on.
    pub num_lock: bool,
    /// Caps Lock is on.
    pub caps_lock: bool,
    /// Scroll Lock is on.
    pub scroll_lock: bool,
}

impl Input {
    /// A device with the name `name` in the log, and the serial number `serial`, of which the driver sees the first 128
    /// bytes. Observers attach to `tap`.
    pub fn new(name: &str, kind: InputKind, serial: &str, tap: Tap) -> Self {
        let reporter = Reporter::new(name, tap);
        Self {
            kind,
            serial: serial.to_owned(),
            selection: Mutex::default(),
            pending: Mutex::default(),
            events: InlineQueue::new(EVENT_QUEUE, reporter.clone()),
            status: InlineQueue::new(STATUS_QUEUE, reporter.clone()),
            leds: AtomicU8::new(0),
            reporter,
        }
    }

    /// Sends one group of events, without SYN_REPORT, which is added.
    ///
    /// The driver gets it at once if it has given enough buffers, else when it gives them. At most 1024 events wait;
    /// then the oldest groups are dropped, as is every group while no driver runs. A key whose release is dropped is
    /// released before the next group.
    ///
    /// Any thread may call this. It does not block, but it may write to guest RAM and interrupt the guest.
    pub fn send(&self, group: &[InputEvent]) {
        self.pending().add(group);
        for _ in 0..LOOKS {
            match self.service_events() {
                ServiceResult::Drained => break,
                ServiceResult::MoreWork => {}
                ServiceResult::NotRunning => {
                    self.pending().drop_all();
                    break;
                }
            }
        }
    }

    /// The kind of device.
    pub const fn kind(&self) -> InputKind {
        self.kind
    }

    /// The number of events that wait for buffers of the driver, of at most 1024. A sender of a long text waits while
    /// there are many.
    pub fn waiting(&self) -> usize {
        self.pending().events()
    }

    /// The number of groups that were dropped.
    pub fn dropped(&self) -> u64 {
        self.pending().dropped()
    }

    /// The LEDs, as the driver has set them.
    pub fn leds(&self) -> Leds {
        let bits = self.leds.load(Ordering::Relaxed);
        let is_on = |led: u16| bits & 1 << led != 0;
        Leds {
            num_lock: is_on(LED_NUML),
            caps_lock: is_on(LED_CAPSL),
            scroll_lock: is_on(LED_SCROLLL),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selection(&self) -> MutexGuard<'_, (u8, u8)> {
        self.selection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, rule: Rule, head: u16, what: &dyn fmt::Display) {
        self.reporter.broken(rule, format_args!("the buffer at descriptor {head}: {what}"));
    }

    fn service_events(&self) -> ServiceResult {
        self.events.service(|queue| {
            // Other threads may add groups all the time.
            for _ in 0..PENDING_MAX {
                if queue.is_stopped() {
                    return Ok(ServiceResult::Drained);
                }
                let Some(len) = self.pending().next_len() else {
                    return Ok(ServiceResult::Drained);
                };
                if len > usize::from(queue.size()) {
                    self.drop_too_long(len, queue.size());
                } else if !self.gather(queue, len)? {
                    return Ok(ServiceResult::Drained);
                } else {
                    self.deliver(queue);
                }
            }
            Ok(ServiceResult::MoreWork)
        })
    }

    /// No driver with such a small queue can get the group of `len` events.
    fn drop_too_long(&self, len: usize, size: u16) {
        self.reporter.broken(
            rules::INPUT_BUFFERS,
            format_args!(
                "an update has {len} events, and queue 0 only {size} entries; it is dropped"
            ),
        );
        self.pending().drop_next();
    }

    /// Takes buffers until there are `count`. Returns false if the driver has not given so many.
    fn gather(
        &self,
        queue: &mut Serving<'_, Vec<EventBuffer>>,
        count: usize,
    ) -> Result<bool, Broken> {
        while queue.state().len() < count {
            let Some(chain) = queue.take()? else { return Ok(false) };
            let head = chain.head;
            match self.event_buffer(chain, queue.ram()) {
                Some(buffers) => queue.state().push(EventBuffer { head, buffers }),
                None => queue.give_back(head, 0),
            }
        }
        Ok(true)
    }

    /// The chain as a buffer for an event; none, with a report, if it is not suitable.
    fn event_buffer(&self, chain: Chain, ram: &GuestRam) -> Option<Buffers> {
        if let Some(flaw) = &chain.flaw {
            self.report(rules::FRAMING, chain.head, &format_args!("{flaw}; it gets no event"));
            return None;
        }
        let len = chain.writable.len();
        if len < EVENT_SIZE.into() {
            let what = format_args!(
                "it has {len} bytes for the device to write, and an event {EVENT_SIZE} (WRITE flag missing?); it gets \
                 no event"
            );
            self.report(rules::INPUT_BUFFERS, chain.head, &what);
            return None;
        }
        Some(chain.writable.in_ram(ram.clone()))
    }

    /// Writes the next group into the buffers that were gathered, unless it has become longer than they suffice for:
    /// another thread may have dropped the one for which they were gathered.
    fn deliver(&self, queue: &mut Serving<'_, Vec<EventBuffer>>) {
        let Some(group) = self.pending().take(queue.state().len()) else { return };
        let buffers: Vec<_> = queue.state().drain(..group.len()).collect();
        for (event, EventBuffer { head, buffers }) in group.iter().zip(buffers) {
            self.reporter.emit(|| Event::Content { queue: EVENT_QUEUE, what: Words(event) });
            buffers.copy_from(&event.to_bytes());
            queue.give_back(head, EVENT_SIZE);
        }
    }

    /// Carries out an event of the driver. Those that the device does not know have no effect.
    fn answer_status(&self, chain: &Chain, ram: &GuestRam) -> Answer {
        let mut bytes = [0; EVENT_SIZE as usize];
        if let Some(flaw) = &chain.flaw {
            self.report(rules::FRAMING, chain.head, &format_args!("{flaw}; it is ignored"));
        } else if chain.readable.clone().in_ram(ram.clone()).copy_to(&mut bytes) < bytes.len() {
            let len = chain.readable.len();
            let what = format_args!(
                "it has {len} bytes for the device to read, and an event {EVENT_SIZE}; it is ignored"
            );
            self.report(rules::INPUT_STATUS, chain.head, &what);
        } else {
            let event = InputEvent::from_bytes(bytes);
            self.reporter.emit(|| Event::Content { queue: STATUS_QUEUE, what: Words(&event) });
            if event.kind == EV_LED && event.code <= LED_SCROLLL {
                let bit = 1 << event.code;
                if event.value == 0 {
                    self.leds.fetch_and(!bit, Ordering::Relaxed);
                } else {
                    self.leds.fetch_or(bit, Ordering::Relaxed);
                }
            }
        }
        Answer { written: 0, work: EVENT_SIZE.into() }
    }
}

impl VirtioDevice for Input {
    fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    fn device_id(&self) -> u32 {
        DEVICE_ID
    }

    fn kind(&self) -> &'static str {
        self.kind.words()
    }

    fn features(&self) -> u64 {
        feature::RING_INDIRECT_DESC | feature::RING_EVENT_IDX
    }

    fn feature_names(&self) -> &'static [(u64, &'static str)] {
        &[]
    }

    fn queue_max(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let (select, subsel) = *self.selection();
        let information = self.kind.information(select, subsel, &self.serial);
        let mut config = [0; CONFIG_DATA + CONFIG_DATA_MAX];
        // It is not longer than 128 bytes.
        let size = u8::try_from(information.len()).unwrap_or(0);
        let head = [select, subsel, size];
        debug_assert_eq!(head.len(), CONFIG_SIZE + 1);
        for (to, from) in config.iter_mut().zip(head) {
            *to = from;
        }
        for (to, from) in config.iter_mut().skip(CONFIG_DATA).zip(&information) {
            *to = *from;
        }
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        for (to, from) in data.iter_mut().zip(from.iter().copied().chain(std::iter::repeat(0))) {
            *to = from;
        }
    }

    fn write_config(&self, offset: u64, data: &[u8]) -> bool {
        let mut selection = self.selection();
        match (offset, data) {
            (CONFIG_SELECT, [select]) => selection.0 = *select,
            (CONFIG_SUBSEL, [subsel]) => selection.1 = *subsel,
            (CONFIG_SELECT, [select, subsel]) => *selection = (*select, *subsel),
            _ => return false,
        }
        true
    }

    fn activate(&self, activation: Activation) {
        let Activation { live, queues } = activation;
        for (index, queue) in (0..).zip(queues) {
            if let Some(queue) = queue {
                self.start_queue(index, queue, live.clone());
            }
        }
    }

    fn service(&self, index: u16) -> ServiceResult {
        match index {
            EVENT_QUEUE => self.service_events(),
            STATUS_QUEUE => self.status.service(|queue| {
                queue.answer_each(u64::MAX, |chain, ram, _| self.answer_status(chain, ram))
            }),
            _ => ServiceResult::NotRunning,
        }
    }

    fn start_queue(&self, index: u16, queue: SplitQueue, live: Live) {
        match index {
            EVENT_QUEUE => self.events.start(queue, live),
            _ => self.status.start(queue, live),
        }
    }

    fn stop_queue(&self, index: u16) -> Result<(), Stuck> {
        match index {
            EVENT_QUEUE => self.events.stop(),
            _ => self.status.stop(),
        }
    }

    fn reset(&self) -> Result<(), Stuck> {
        self.events.stop()?;
        self.status.stop()?;
        self.pending().begin();
        self.leds.store(0, Ordering::Relaxed);
        *self.selection() = (0, 0);
        Ok(())
    }

    fn hold(&self) {
        self.events.hold();
        self.status.hold();
    }

    fn quiesce(&self) -> Result<(), Stuck> {
        self.events.quiesce()?;
        self.status.quiesce()
    }

    fn release(&self) {
        self.events.release();
        self.status.release();
    }

    fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        vec![None; 2]
    }

    fn progress(&self, index: u16) -> Option<(Progress, bool)> {
        match index {
            EVENT_QUEUE => self.events.progress(),
            _ => self.status.progress(),
        }
    }

    fn receives(&self, index: u16) -> bool {
        index == EVENT_QUEUE
    }
}

#[cfg(test)]
mod tests;
