//! A model of a virtio-blk device without a transport, after the specification, on plain vectors. It shares no code
//! with the device.

mod owner;

use std::collections::VecDeque;

use super::machine::Machine;
use super::memory::Memory;
use super::request::{self, Broken, RequestKind};

pub(super) const INDIRECT_DESC: u64 = 1 << 28;
pub(super) const EVENT_IDX: u64 = 1 << 29;
pub(super) const NOTIFY_ON_EMPTY: u64 = 1 << 24;
pub(super) const FLUSH: u64 = 1 << 9;

/// The events in the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that succeeded.
    pub done: u64,
    /// Requests that were answered with an error.
    pub refused: u64,
    /// Rings that were broken.
    pub broken: u64,
    /// Requests that finished only because the device waited for them.
    pub awaited: u64,
}

/// A queue in use, and the device's position in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    pub(super) size: u16,
    pub(super) desc: u64,
    pub(super) avail: u64,
    pub(super) used: u64,
    /// The available index as last read; all entries up to it were taken when it was read.
    seen: u16,
    pub(super) taken: u16,
    given: u16,
    /// The value of `given` that the driver sees.
    published: u16,
    /// The value of `given` at the last decision about an interrupt.
    considered: u16,
}

impl Queue {
    pub(super) const fn new(size: u16, desc: u64, avail: u64, used: u64) -> Self {
        Self { size, desc, avail, used, seen: 0, taken: 0, given: 0, published: 0, considered: 0 }
    }
}

/// The work of the host. Places are bytes of the image.
#[derive(Debug, Clone)]
enum Work {
    Read { at: usize, into: Vec<u64> },
    Write { at: usize, from: Vec<u64>, durable: bool },
    Zero { at: usize, len: usize, durable: bool },
    Discard { at: usize, len: usize },
    Flush,
}

/// A request in flight, in one or more parts.
#[derive(Debug, Clone)]
struct Pending {
    queue: usize,
    head: u16,
    status: u64,
    code: u8,
    written: u64,
    left: usize,
}

/// A device, its guest's RAM, and its image.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) machine: Machine,
    pub(super) memory: Memory,
    pub(super) image: Vec<u8>,
    /// The bytes that survive a power cut.
    pub(super) stable: Vec<u8>,
    /// In sectors.
    pub(super) capacity: u64,
    pub(super) writeback: bool,
    pub(super) features: u64,
    pub(super) queues: Vec<Option<Queue>>,
    /// Whether requests were possible at any time since the last reset. A legacy device gets its queues after
    /// DRIVER_OK, or never.
    pub(super) active: bool,
    /// Legacy: the unit of QueuePFN.
    pub(super) page_size: u64,
    pub(super) needs_reset: bool,
    /// InterruptStatus.
    pub(super) pending: u32,
    /// How often the interrupt line and the helper's were raised.
    pub(super) raised: [u64; 2],
    pub(super) unfinished: Vec<usize>,
    requests: Vec<Pending>,
    /// (request, part): held; and done but not reaped.
    waiting: VecDeque<(usize, Work)>,
    done: Vec<usize>,
    pub(super) tally: Tally,
}

impl Model {
    pub(super) fn new(machine: Machine, image: &[u8]) -> Self {
        let block = u64::from(machine.block_size);
        Self {
            machine,
            memory: Memory::new(),
            image: image.to_vec(),
            stable: image.to_vec(),
            capacity: image.len() as u64 / block * (block / 512),
            writeback: machine.writeback,
            features: 0,
            queues: Vec::new(),
            active: false,
            page_size: 1,
            needs_reset: false,
            pending: 0,
            raised: [0; 2],
            unfinished: Vec::new(),
            requests: Vec::new(),
            waiting: VecDeque::new(),
            done: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The number of parts that the host holds.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A doorbell, or the thread that continues its work.
    pub(super) fn serve(&mut self, index: usize) {
        if self.needs_reset || !matches!(self.queues.get(index), Some(Some(_))) {
            return;
        }
        self.answer_done(index);
        let mut budget = self.queues[index].map_or(0, |q| q.size);
        let mut together = (0, 0);
        loop {
            if budget == 0 {
                self.finish_batch(index);
            }
            if budget == 0 && self.has_more(index) {
                if !self.unfinished.contains(&index) && self.machine.helper {
                    self.unfinished.push(index);
                }
                self.raised[1] += u64::from(self.machine.helper);
                break;
            }
            match self.take(index) {
                Ok(Some(bytes)) => {
                    budget -= 1;
                    together = (together.0 + 1, together.1 + bytes);
                    if together.0 == 32 || together.1 >= 256 << 10 {
                        self.finish_batch(index);
                        together = (0, 0);
                    }
                }
                Ok(None) if together.0 > 0 => {
                    self.finish_batch(index);
                    together = (0, 0);
                }
                Ok(None) => {
                    self.rearm(index);
                    break;
                }
                Err(Broken) => {
                    self.finish_batch(index);
                    self.tally.broken += 1;
                    self.needs_reset = true;
                    self.pending |= 2;
                    self.raised[0] += 1;
                    break;
                }
            }
        }
        self.finish_batch(index);
        self.interrupt(index);
    }

    /// The host starts the requests that were taken so far; those that it finishes are answered together.
    fn finish_batch(&mut self, index: usize) {
        if !self.machine.held {
            while self.release(0) {}
        }
        self.answer_done(index);
    }

    /// Services all queues.
    fn serve_all(&mut self) {
        for index in 0..self.queues.len() {
            self.serve(index);
        }
    }

    /// Asks for a doorbell for the next chain.
    fn rearm(&mut self, index: usize) {
        if let (Some(Some(queue)), true) = (self.queues.get(index), self.features & EVENT_IDX != 0)
        {
            let avail_event = queue.used + 4 + 8 * u64::from(queue.size);
            self.memory.put(avail_event, &queue.taken.to_le_bytes());
        }
    }

    /// Whether the driver's index shows chains that were not taken.
    fn has_more(&mut self, index: usize) -> bool {
        let queue = self.queues[index].as_ref();
        queue.is_some_and(|queue| self.memory.u16(queue.avail + 2) != queue.taken)
    }

    /// Takes one chain. Returns the bytes that it moves; none if there is no chain.
    fn take(&mut self, index: usize) -> Result<Option<u64>, Broken> {
        let mut queue = self.queues[index].ok_or(Broken)?;
        if queue.taken == queue.seen {
            let idx = self.memory.u16(queue.avail + 2);
            if idx.wrapping_sub(queue.taken) > queue.size {
                return Err(Broken);
            }
            queue.seen = idx;
            self.queues[index] = Some(queue);
            if idx == queue.taken {
                return Ok(None);
            }
        }
        if queue.taken.wrapping_sub(queue.given) >= queue.size {
            return Err(Broken);
        }
        let slot = u64::from(queue.taken % queue.size);
        let head = self.memory.u16(queue.avail + 4 + 2 * slot);
        queue.taken = queue.taken.wrapping_add(1);
        self.queues[index] = Some(queue);
        let indirect = self.features & INDIRECT_DESC != 0;
        let (size, longest) = (queue.size, self.machine.queue_max);
        let chain = request::buffers(&mut self.memory, queue.desc, size, longest, head, indirect)?;
        let (status, ask) = request::parse(&mut self.memory, &chain)?;
        Ok(Some(self.start(index, head, status, ask)))
    }

    /// Starts a request, or answers it at once. Returns the bytes that it moves.
    fn start(&mut self, queue: usize, head: u16, status: u64, ask: RequestKind) -> u64 {
        let durable = self.features & FLUSH == 0 || !self.writeback;
        let place = |sector: u64| (sector as usize).wrapping_mul(512);
        let bytes = |sectors: u64| sectors as usize * 512;
        let mut written = 0;
        let (changes, covers, work) = match ask {
            RequestKind::Refused(code) => {
                self.answer(queue, head, status, code, 0);
                return 0;
            }
            RequestKind::GetId { into } => {
                let id = self.machine.id();
                for (addr, byte) in into.iter().zip(id) {
                    self.memory.put(*addr, &[byte]);
                }
                self.answer(queue, head, status, 0, into.len().min(20) as u64);
                return 0;
            }
            RequestKind::Flush => (false, vec![], vec![Work::Flush]),
            RequestKind::Read { sector, into } => {
                let sectors = into.len() as u64 / 512;
                written = into.len() as u64;
                (false, vec![(sector, sectors)], vec![Work::Read { at: place(sector), into }])
            }
            RequestKind::Write { sector, from } => {
                let sectors = from.len() as u64 / 512;
                (
                    true,
                    vec![(sector, sectors)],
                    vec![Work::Write { at: place(sector), from, durable }],
                )
            }
            RequestKind::Discard(ranges) => {
                let part = |&(s, n): &(u64, u64)| Work::Discard { at: place(s), len: bytes(n) };
                let work = ranges.iter().map(part).collect();
                (true, ranges, work)
            }
            RequestKind::Zero(ranges) => {
                let part =
                    |&(s, n): &(u64, u64)| Work::Zero { at: place(s), len: bytes(n), durable };
                let work = ranges.iter().map(part).collect();
                (true, ranges, work)
            }
        };
        let outside = |(sector, sectors): &(u64, u64)| {
            sector.checked_add(*sectors).is_none_or(|end| end > self.capacity)
        };
        if covers.iter().any(outside) {
            self.answer(queue, head, status, 1, 0);
            return 0;
        }
        let moved = covers.iter().map(|(_, sectors)| 512 * sectors).sum();
        let request = self.requests.len();
        let left = work.len();
        let refused = changes && self.machine.read_only;
        let code = u8::from(refused);
        let is_durable = |part: &Work| {
            matches!(
                part,
                Work::Flush | Work::Write { durable: true, .. } | Work::Zero { durable: true, .. }
            )
        };
        let ends_batch = work.iter().any(is_durable);
        self.requests.push(Pending { queue, head, status, code, written, left });
        if refused {
            // The disk refuses each part.
            self.done.extend(vec![request; left]);
        } else {
            self.waiting.extend(work.into_iter().map(|part| (request, part)));
        }
        if ends_batch {
            self.finish_batch(queue);
        }
        moved
    }

    /// Carries out one of the host's parts.
    pub(super) fn release(&mut self, at: usize) -> bool {
        let Some((request, work)) = self.waiting.remove(at) else { return false };
        let (image, stable) = (&mut self.image, &mut self.stable);
        match work {
            Work::Flush => stable.clone_from(image),
            Work::Read { at, into } => {
                for (addr, byte) in into.iter().zip(&image[at..]) {
                    self.memory.put(*addr, &[*byte]);
                }
            }
            Work::Write { at, from, durable } => {
                let bytes = request::fetch(&mut self.memory, &from);
                image[at..at + bytes.len()].copy_from_slice(&bytes);
                if durable {
                    stable[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
            Work::Zero { at, len, durable } => {
                image[at..at + len].fill(0);
                if durable {
                    stable[at..at + len].fill(0);
                }
            }
            Work::Discard { at, len } if self.machine.punches => image[at..at + len].fill(0),
            Work::Discard { .. } => {}
        }
        self.done.push(request);
        true
    }

    /// Answers a queue's finished requests, and publishes all answers.
    fn answer_done(&mut self, index: usize) {
        let (mine, others): (Vec<_>, _) =
            self.done.iter().partition(|at| self.requests[**at].queue == index);
        self.done = others;
        for at in mine {
            self.requests[at].left -= 1;
            let Pending { queue, head, status, code, written, left } = self.requests[at].clone();
            if left == 0 {
                self.answer(queue, head, status, code, written);
            }
        }
        if let Some(Some(queue)) = self.queues.get_mut(index)
            && queue.published != queue.given
        {
            queue.published = queue.given;
            self.memory.put(queue.used + 2, &queue.given.to_le_bytes());
        }
    }

    fn answer(&mut self, index: usize, head: u16, status: u64, code: u8, written: u64) {
        *(if code == 0 { &mut self.tally.done } else { &mut self.tally.refused }) += 1;
        let Some(queue) = &mut self.queues[index] else { return };
        self.memory.put(status, &[code]);
        let at = queue.used + 4 + 8 * u64::from(queue.given % queue.size);
        self.memory.put(at, &u32::from(head).to_le_bytes());
        self.memory.put(at + 4, &(written as u32 + 1).to_le_bytes());
        queue.given = queue.given.wrapping_add(1);
    }

    fn interrupt(&mut self, index: usize) {
        let Some(Some(queue)) = self.queues.get_mut(index) else { return };
        let (from, to) = (queue.considered, queue.given);
        queue.considered = to;
        let empty = queue.given == queue.taken && self.memory.u16(queue.avail + 2) == queue.taken;
        let wanted = if from != to && empty && self.features & NOTIFY_ON_EMPTY != 0 {
            true
        } else if self.features & EVENT_IDX == 0 {
            from != to && self.memory.u16(queue.avail) & 1 == 0
        } else {
            let event = self.memory.u16(queue.avail + 4 + 2 * u64::from(queue.size));
            // Whether the chain is one of from..to, which were returned.
            event.wrapping_sub(from) < to.wrapping_sub(from)
        };
        if wanted {
            self.pending |= 1;
            self.raised[0] += 1;
        }
    }
}
