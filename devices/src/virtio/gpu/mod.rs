//! virtio-gpu in 2D (virtio 1.4, 5.7): one display, and a cursor.
//!
//! The driver creates resources, which are pictures in the host's memory, and fills them from guest RAM. It shows one of
//! them on the display (a scanout), and flushes what it changed. The device then draws that on its [`Screen`], from which
//! viewers read it.
//!
//! ```text
//!  guest RAM ──TRANSFER_TO_HOST_2D──▶ resource ──RESOURCE_FLUSH──▶ Screen ──▶ viewers
//! ```
//!
//! | question | file |
//! |---|---|
//! | Which commands are there, and what do they look like? | `command.rs` |
//! | What does a command do? | `state.rs` |
//! | What is a resource, and which limits are there? | `resource.rs` |
//! | In which order are the bytes of a pixel? | `format.rs` |
//! | What does the display tell of itself? | `edid.rs` |
//! | Why does a command fail? | `error.rs` |

mod command;
mod edid;
mod error;
mod format;
mod resource;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::chain::Chain;
use super::device::{Activation, Live, ServiceResult, VirtioDevice};
use super::inline_queue::{Answer, InlineQueue};
use super::queue::{Progress, SplitQueue};
use super::rules;
use super::spec::feature;
use super::spec::gpu::{
    CONFIG_EVENTS_CLEAR, CONFIG_EVENTS_READ, CONFIG_NUM_SCANOUTS, CONFIG_SIZE, CONTROL_QUEUE,
    CURSOR_QUEUE, DEVICE_ID, EVENT_DISPLAY, HEADER_SIZE, RESP_ERR_UNSPEC,
};
use crate::display::{Rect, Screen};
use crate::memory::GuestRam;
use crate::observe::{Event, Outcome, Reporter, RequestInfo, Rule, Tap, Words};
use crate::stuck::Stuck;
use command::{Bytes, COMMAND_MAX, Command, Header};
use edid::TIMING_MAX;
use error::GpuError;
use state::{Reply, State};

/// The smallest width and height of the display.
pub const DISPLAY_MIN: u32 = 16;
/// The largest width and height of the display.
pub const DISPLAY_MAX: u32 = TIMING_MAX;

/// The most entries of the control queue: a backing of 64 MiB in single pages is a chain of 67 buffers.
const CONTROL_QUEUE_SIZE: u16 = 256;
/// The most entries of the cursor queue.
const CURSOR_QUEUE_SIZE: u16 = 16;
/// The bytes moved, after which a call of `service` takes no more commands: two pictures of 1920x1080. One command moves
/// at most as many bytes as all resources have.
const WORK_MAX: u64 = 16 << 20;

/// The options of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuOptions {
    /// The width of the display in pixels, from [`DISPLAY_MIN`] to [`DISPLAY_MAX`]; others are moved into the range.
    pub width: u32,
    /// The height, as above.
    pub height: u32,
    /// The most bytes of all resources. The picture on the screen has at most as many again.
    pub max_host_memory: u64,
}

impl Default for GpuOptions {
    /// 1024x768, and 256 MiB.
    fn default() -> Self {
        Self { width: 1024, height: 768, max_host_memory: 256 << 20 }
    }
}

/// A virtio-gpu device.
#[derive(Debug)]
pub struct Gpu {
    reporter: Reporter,
    screen: Screen,
    memory_max: u64,
    /// The display's width and height.
    display: Mutex<(u32, u32)>,
    /// `events_read`.
    events: AtomicU32,
    state: Mutex<State>,
    control: InlineQueue,
    cursor: InlineQueue,
}

impl Gpu {
    /// A device with the name `name` in the log, which draws on `screen`. Observers attach to `tap`.
    pub fn new(name: &str, options: &GpuOptions, screen: Screen, tap: Tap) -> Self {
        let reporter = Reporter::new(name, tap);
        let display = within_limits(options.width, options.height);
        let memory_max = options.max_host_memory;
        Self {
            state: Mutex::new(State::new(screen.clone(), memory_max, display)),
            screen,
            memory_max,
            display: Mutex::new(display),
            events: AtomicU32::new(0),
            control: InlineQueue::new(CONTROL_QUEUE, reporter.clone()),
            cursor: InlineQueue::new(CURSOR_QUEUE, reporter.clone()),
            reporter,
        }
    }

    /// What the guest shows.
    pub fn screen(&self) -> Screen {
        self.screen.clone()
    }

    /// The width and height of the display, which the driver is told. The guest may show another size.
    pub fn display_size(&self) -> (u32, u32) {
        *self.display()
    }

    /// Changes the size of the display, within [`DISPLAY_MIN`] and [`DISPLAY_MAX`]. Returns whether the configuration
    /// has changed: call it through [`Mmio::reconfigure`](super::mmio::Mmio::reconfigure), which tells the driver. The
    /// guest may follow or not.
    ///
    /// Waits for a command that is being carried out.
    pub fn set_display_size(&self, width: u32, height: u32) -> bool {
        let size = within_limits(width, height);
        if std::mem::replace(&mut *self.display(), size) == size {
            return false;
        }
        self.state().display_changed(size);
        self.events.fetch_or(EVENT_DISPLAY, Ordering::AcqRel);
        true
    }

    fn display(&self) -> MutexGuard<'_, (u32, u32)> {
        self.display.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, rule: Rule, queue: u16, head: u16, what: &dyn fmt::Display) {
        self.reporter
            .broken(rule, format_args!("queue {queue}, the command at descriptor {head}: {what}"));
    }

    /// Carries out the command in a chain, and answers it.
    fn answer(&self, queue: u16, chain: &Chain, ram: &GuestRam, features: u64) -> Answer {
        if let Some(flaw) = &chain.flaw {
            self.report(rules::FRAMING, queue, chain.head, &format_args!("{flaw}; it is ignored"));
            return Answer::default();
        }
        let mut bytes = [0; COMMAND_MAX];
        let given = chain.readable.len();
        chain.readable.part(0, COMMAND_MAX as u64).in_ram(ram.clone()).copy_to(&mut bytes);
        let bytes = Bytes::new(bytes, given);
        if given < HEADER_SIZE as u64 {
            let error = GpuError::TooShort { name: "its header", len: given, needed: 24 };
            self.report(error.rule(), queue, chain.head, &error);
            let response = Header::default().response(RESP_ERR_UNSPEC);
            return Answer { written: self.respond(queue, chain, ram, &response, &[]), work: 0 };
        }
        let header = Header::of(&bytes);
        let (name, result) = match Command::decode(header, &bytes) {
            Ok(command) => (command.name(), self.carry_out(queue, command, chain, ram, features)),
            Err(error) => ("unknown command", Err(error)),
        };
        self.reporter.emit(|| {
            let index = chain.head.into();
            let request = RequestInfo { queue, index, operation: name, sector: 0, bytes: 0 };
            let outcome = match &result {
                Ok(_) => Outcome::Done,
                Err(error) => Outcome::Failed(Words(error)),
            };
            Event::Finished { request, outcome }
        });
        let Reply { kind, data, work } = result.unwrap_or_else(|error| {
            self.report(error.rule(), queue, chain.head, &error);
            Reply { kind: error.response(), ..Reply::default() }
        });
        Answer { written: self.respond(queue, chain, ram, &header.response(kind), &data), work }
    }

    fn carry_out(
        &self,
        queue: u16,
        command: Command,
        chain: &Chain,
        ram: &GuestRam,
        features: u64,
    ) -> Result<Reply, GpuError> {
        self.reporter.emit(|| Event::Content { queue, what: Words(&command) });
        if command.is_for_cursor() != (queue == CURSOR_QUEUE) {
            return Err(GpuError::WrongQueue(command.name()));
        }
        if matches!(command, Command::GetEdid { .. }) && features & feature::GPU_EDID == 0 {
            return Err(GpuError::NoEdid);
        }
        let size = self.display_size();
        self.state().carry_out(command, &chain.readable, ram, size)
    }

    /// Writes a response. Returns the number of bytes, which is lower if the driver's buffers are too short.
    fn respond(
        &self,
        queue: u16,
        chain: &Chain,
        ram: &GuestRam,
        header: &[u8; HEADER_SIZE],
        data: &[u8],
    ) -> u32 {
        let space = chain.writable.len();
        let needed = (header.len() + data.len()) as u64;
        // Drivers need not wait for cursor commands.
        if space < needed && !(queue == CURSOR_QUEUE && space == 0) {
            let what = format_args!(
                "it has {space} bytes for the response, which has {needed}; the rest is lost"
            );
            self.report(rules::GPU_RESPONSE, queue, chain.head, &what);
        }
        let mut written = 0;
        for part in [header, data] {
            let buffers = chain.writable.part(written, needed).in_ram(ram.clone());
            written += buffers.copy_from(part) as u64;
        }
        u32::try_from(written).unwrap_or_default()
    }
}

/// The nearest size that a display can have.
fn within_limits(width: u32, height: u32) -> (u32, u32) {
    (width.clamp(DISPLAY_MIN, DISPLAY_MAX), height.clamp(DISPLAY_MIN, DISPLAY_MAX))
}

/// A rectangle in words.
#[derive(Debug, Clone, Copy)]
struct RectWords(Rect);

impl fmt::Display for RectWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rect { x, y, width, height } = self.0;
        write!(f, "{width}x{height} at {x},{y}")
    }
}

impl VirtioDevice for Gpu {
    fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    fn device_id(&self) -> u32 {
        DEVICE_ID
    }

    fn kind(&self) -> &'static str {
        "a GPU"
    }

    fn features(&self) -> u64 {
        feature::GPU_EDID | feature::RING_INDIRECT_DESC | feature::RING_EVENT_IDX
    }

    fn feature_names(&self) -> &'static [(u64, &'static str)] {
        &feature::GPU_NAMES
    }

    fn queue_max(&self) -> &[u16] {
        &[CONTROL_QUEUE_SIZE, CURSOR_QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; CONFIG_SIZE];
        let fields =
            [(CONFIG_EVENTS_READ, self.events.load(Ordering::Acquire)), (CONFIG_NUM_SCANOUTS, 1)];
        for (at, value) in fields {
            for (to, from) in config.iter_mut().skip(at).zip(value.to_le_bytes()) {
                *to = from;
            }
        }
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        for (to, from) in data.iter_mut().zip(from.iter().copied().chain(std::iter::repeat(0))) {
            *to = from;
        }
    }

    fn write_config(&self, offset: u64, data: &[u8]) -> bool {
        let Ok(clear) = <[u8; 4]>::try_from(data) else { return false };
        if offset != CONFIG_EVENTS_CLEAR {
            return false;
        }
        self.events.fetch_and(!u32::from_le_bytes(clear), Ordering::AcqRel);
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
        let queue = match index {
            CONTROL_QUEUE => &self.control,
            CURSOR_QUEUE => &self.cursor,
            _ => return ServiceResult::NotRunning,
        };
        queue.service(|queue| {
            queue.answer_each(WORK_MAX, |chain, ram, features| {
                self.answer(index, chain, ram, features)
            })
        })
    }

    fn start_queue(&self, index: u16, queue: SplitQueue, live: Live) {
        match index {
            CONTROL_QUEUE => self.control.start(queue, live),
            _ => self.cursor.start(queue, live),
        }
    }

    fn stop_queue(&self, index: u16) -> Result<(), Stuck> {
        match index {
            CONTROL_QUEUE => self.control.stop(),
            _ => self.cursor.stop(),
        }
    }

    fn reset(&self) -> Result<(), Stuck> {
        self.control.stop()?;
        self.cursor.stop()?;
        let size = self.display_size();
        self.state().reset(self.memory_max, size);
        self.events.store(0, Ordering::Release);
        Ok(())
    }

    fn hold(&self) {
        self.control.hold();
        self.cursor.hold();
    }

    fn quiesce(&self) -> Result<(), Stuck> {
        self.control.quiesce()?;
        self.cursor.quiesce()
    }

    fn release(&self) {
        self.control.release();
        self.cursor.release();
    }

    fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        vec![None; 2]
    }

    fn progress(&self, index: u16) -> Option<(Progress, bool)> {
        match index {
            CONTROL_QUEUE => self.control.progress(),
            _ => self.cursor.progress(),
        }
    }
}

#[cfg(test)]
mod tests;
