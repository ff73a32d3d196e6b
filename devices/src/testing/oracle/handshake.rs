//! How the oracle's guest sets up its device, and stops queues.

use super::machine::RINGS;
use super::model::{EVENT_IDX, FLUSH, INDIRECT_DESC, NOTIFY_ON_EMPTY, Queue};
use super::script::{Ring, World};
use crate::testing::input::Input;
use crate::testing::virtio_driver::reg;

const PAGE: u64 = 0x1000;
const VERSION_1: u64 = 1 << 32;
const RING_RESET: u64 = 1 << 40;
const CONFIG_WCE: u64 = 1 << 11;

impl World {
    /// A reset, the handshake, and queues.
    pub(super) fn handshake(&mut self, input: &mut Input<'_>) {
        self.set(reg::STATUS, 0);
        self.model.reset();
        self.rings.fill(None);
        let legacy = self.model.machine.legacy;
        let mut features = INDIRECT_DESC | FLUSH | CONFIG_WCE;
        if self.model.machine.helper {
            features |= EVENT_IDX;
        }
        if !legacy {
            features |= VERSION_1 | RING_RESET;
        }
        for bit in [INDIRECT_DESC, FLUSH, EVENT_IDX, RING_RESET] {
            if input.one_in(4) {
                features &= !bit;
            }
        }
        // Some legacy drivers set up their queues after DRIVER_OK, and some never write the page size.
        let late = legacy && input.one_in(4);
        let mut status = if legacy { 3 } else { 11 };
        if legacy {
            features |= NOTIFY_ON_EMPTY * u64::from(input.one_in(2));
            self.model.page_size = if input.one_in(4) { 1 } else { PAGE };
        }
        self.set(reg::STATUS, 1);
        self.set(reg::STATUS, 3);
        self.set(reg::DRIVER_FEATURES, features as u32);
        if !legacy {
            self.set(reg::DRIVER_FEATURES_SEL, 1);
            self.set(reg::DRIVER_FEATURES, (features >> 32) as u32);
            self.set(reg::STATUS, 11);
        } else if self.model.page_size == PAGE {
            self.set(reg::GUEST_PAGE_SIZE, PAGE as u32);
        }
        if late {
            status |= 4;
            self.set(reg::STATUS, status);
        }
        self.model.features = features;
        // 5.2.5.2; the legacy interface has no such moment.
        self.model.writeback &= legacy || features & FLUSH != 0;
        let mut queues = vec![None; self.rings.len()];
        for (index, queue) in queues.iter_mut().enumerate() {
            if !input.one_in(16) {
                *queue = self.set_up(input, index);
            }
        }
        assert_eq!(self.get(reg::STATUS), status);
        self.set(reg::STATUS, status | 4);
        self.model.active = !legacy || queues.iter().any(Option::is_some);
        self.model.queues = queues;
    }

    /// Sets up a queue, usually at a valid place. Returns the queue if it is valid.
    fn set_up(&mut self, input: &mut Input<'_>, index: usize) -> Option<Queue> {
        let max = self.model.machine.queue_max;
        let broken = input.one_in(24);
        let place = RINGS + 2 * PAGE * (2 * index as u64 + u64::from(input.below(2)));
        let mut size = u32::from(max >> input.below(2).min(max.trailing_zeros() - 1));
        let mut at = [place, place + 0x800, place + 0xc00];
        if self.model.machine.legacy {
            at[1] = place + 16 * u64::from(size);
            at[2] = place + PAGE;
        } else {
            // If the alignment allows it.
            for (part, align) in at.iter_mut().zip([16, 2, 4]) {
                *part += align * u64::from(input.below(8));
            }
        }
        if broken && !self.model.machine.legacy {
            let part = input.below(4) as usize;
            match at.get_mut(part) {
                Some(part) => *part = input.odd(&[place, 0x1_0000, 1 << 20, (1 << 20) + 0x8000]),
                None => size = input.odd(&[0, max.into(), 0x1_0000]) as u32,
            }
        }
        let clears = !input.one_in(24);
        let memory = &mut self.model.memory;
        let fits = |size: u32| {
            let entries = u64::from(size);
            let lens = [16 * entries, 6 + 2 * entries, 6 + 8 * entries];
            let mut parts = at.iter().zip([16, 2, 4]).zip(lens);
            parts.all(|((part, align), len)| part % align == 0 && memory.has(*part, len))
        };
        let good = size.is_power_of_two() && size <= max.into() && { fits }(size);
        if good && clears {
            let entries = size as usize;
            for (part, len) in at.iter().zip([16 * entries, 6 + 2 * entries, 6 + 8 * entries]) {
                self.poke(*part, &vec![0; len]);
            }
        }
        self.set(reg::QUEUE_SEL, index as u32);
        self.set(reg::QUEUE_NUM, size);
        if self.model.machine.legacy {
            let page = (place / self.model.page_size) as u32;
            // If it is missing or 0, it is 4096.
            match input.below(8) {
                0 => {}
                1 => self.set(reg::QUEUE_ALIGN, 0),
                _ => self.set(reg::QUEUE_ALIGN, PAGE as u32),
            }
            self.set(reg::QUEUE_PFN, page);
            assert_eq!(self.get(reg::QUEUE_PFN), if good { page } else { 0 });
        } else {
            for (register, part) in
                [reg::QUEUE_DESC, reg::QUEUE_DRIVER, reg::QUEUE_DEVICE].into_iter().zip(at)
            {
                self.set(register, part as u32);
                self.set(register + 4, (part >> 32) as u32);
            }
            self.set(reg::QUEUE_READY, 1);
            assert_eq!(self.get(reg::QUEUE_READY), u32::from(good), "{size} at {at:x?}");
        }
        let queue = good.then(|| Queue::new(size as u16, at[0], at[1], at[2]))?;
        let idx = self.model.memory.u16(queue.avail + 2);
        let step = (2 * input.below(16) + 1) as u16;
        self.rings[index] = Some(Ring { at: queue, idx, in_use: 0, step });
        Some(queue)
    }

    /// Stops one queue, and usually sets it up again.
    pub(super) fn reset_queue(&mut self, input: &mut Input<'_>, index: usize) {
        let legacy = self.model.machine.legacy;
        self.set(reg::QUEUE_SEL, index as u32);
        if !legacy && self.model.features & RING_RESET == 0 {
            // Without the feature the register has no effect, and QueueReady stops the queue permanently.
            self.set(reg::QUEUE_RESET, 1);
            if input.one_in(2) {
                self.set(reg::QUEUE_READY, 0);
                self.model.stop_queue(index);
                self.rings[index] = None;
            }
            return;
        }
        self.set(if legacy { reg::QUEUE_PFN } else { reg::QUEUE_RESET }, u32::from(!legacy));
        self.model.stop_queue(index);
        self.rings[index] = None;
        if !self.model.queues.is_empty() && !input.one_in(4) {
            let queue = self.set_up(input, index);
            self.model.active |= queue.is_some();
            self.model.queues[index] = queue;
        }
    }
}
