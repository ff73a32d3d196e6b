//! The transport from the driver's side: each register, each step of the handshake, each step out of order.

mod features;
mod legacy;
mod legacy_drivers;
mod observed;
mod reads;
mod strict;

use std::sync::Mutex;

use super::*;
use crate::irq::Wake;
use crate::observe::{Reporter, RuleLog, Tap};
use crate::testing::VirtioDriver;
use crate::testing::virtio_driver::{AVAIL, DESC, USED, reg};
use crate::virtio::device::{Activation, Live, ServiceResult};
use crate::virtio::notifier::Notifier;
use crate::virtio::queue::SplitQueue;
use crate::virtio::rules;
use crate::virtio::spec::{feature, status};

const OFFERED: u64 = feature::BLK_FLUSH | 1 << 35;

/// A device with two queues that records the calls it gets.
struct Probe {
    reporter: Reporter,
    log: Log,
    live: Mutex<[bool; 2]>,
}

impl Probe {
    fn set_live(&self, queue: u16, live: bool) {
        self.live.lock().unwrap()[usize::from(queue)] = live;
    }
}

type Log = Arc<std::sync::Mutex<Vec<String>>>;

impl VirtioDevice for Probe {
    fn reporter(&self) -> &Reporter {
        &self.reporter
    }
    fn device_id(&self) -> u32 {
        2
    }
    fn kind(&self) -> &'static str {
        "a block device"
    }
    fn feature_names(&self) -> &'static [(u64, &'static str)] {
        &feature::BLK_NAMES
    }
    fn features(&self) -> u64 {
        OFFERED
    }
    fn queue_max(&self) -> &[u16] {
        &[256, 4]
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = (at as u8).wrapping_add(1);
        }
    }
    fn write_config(&self, offset: u64, data: &[u8]) -> bool {
        self.log.lock().unwrap().push(format!("config {offset} {data:?}"));
        offset == 32
    }
    fn activate(&self, activation: Activation) {
        let sizes: Vec<_> =
            activation.queues.iter().map(|q| q.as_ref().map(SplitQueue::size)).collect();
        for (index, queue) in (0..).zip(&activation.queues) {
            self.set_live(index, queue.is_some());
        }
        let features = activation.live.features;
        self.log.lock().unwrap().push(format!("activate {features:#x} {sizes:?}"));
    }
    fn service(&self, queue: u16) -> ServiceResult {
        if !self.live.lock().unwrap()[usize::from(queue)] {
            return ServiceResult::NotRunning;
        }
        self.log.lock().unwrap().push(format!("service {queue}"));
        ServiceResult::Drained
    }
    fn start_queue(&self, index: u16, queue: SplitQueue, _: Live) {
        self.set_live(index, true);
        self.log.lock().unwrap().push(format!("start {index} {}", queue.size()));
    }
    fn stop_queue(&self, queue: u16) -> Result<(), Stuck> {
        self.set_live(queue, false);
        self.log.lock().unwrap().push(format!("stop {queue}"));
        Ok(())
    }
    fn reset(&self) -> Result<(), Stuck> {
        *self.live.lock().unwrap() = [false; 2];
        self.log.lock().unwrap().push("reset".into());
        Ok(())
    }
    fn hold(&self) {}
    fn quiesce(&self) -> Result<(), Stuck> {
        Ok(())
    }
    fn release(&self) {}
    fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        Vec::new()
    }
}

fn probe() -> (VirtioDriver, Log, RuleLog) {
    probe_with(MmioOptions::default())
}

fn probe_with(options: MmioOptions) -> (VirtioDriver, Log, RuleLog) {
    let (log, reporter) = (Log::default(), Reporter::new("probe", Tap::default()));
    let complaints = reporter.log().clone();
    let device = Probe { reporter, log: log.clone(), live: Mutex::default() };
    (VirtioDriver::with(device, options), log, complaints)
}

fn told(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn a_fresh_device_reads_as_the_specification_says() {
    let (mut d, ..) = probe();
    let expected = [
        (reg::MAGIC_VALUE, 0x7472_6976),
        (reg::VERSION, 2),
        (reg::DEVICE_ID, 2),
        (reg::VENDOR_ID, 0x554d_4551),
        (reg::DEVICE_FEATURES, 1 << 9),
        (reg::QUEUE_NUM_MAX, 256),
        (reg::QUEUE_READY, 0),
        (reg::INTERRUPT_STATUS, 0),
        (reg::STATUS, 0),
        (0xb0, u32::MAX),
        (0xb4, u32::MAX),
        (0xb8, u32::MAX),
        (0xbc, u32::MAX),
        (0xc0, 0),
        (reg::CONFIG_GENERATION, 0),
    ];
    for offset in (0..0x100).step_by(4) {
        let value = expected.iter().find(|(at, _)| *at == offset).map_or(0, |(_, v)| *v);
        assert_eq!(d.get(offset), value, "{offset:#x}");
    }
    assert_eq!(d.offered(), OFFERED | feature::VERSION_1 | feature::RING_RESET);
    for sel in [2, 3, u32::MAX] {
        d.set(reg::DEVICE_FEATURES_SEL, sel);
        assert_eq!(d.get(reg::DEVICE_FEATURES), 0);
    }
}

#[test]
fn the_status_is_a_table() {
    use status::{ACKNOWLEDGE as A, DRIVER as D, DRIVER_OK as OK, FAILED as X, FEATURES_OK as F};
    let reached = [&[][..], &[A], &[A, D], &[A, D, F], &[A, D, F, OK], &[A, X]];
    let writes = [0, A, D, F, OK, X, A | D, A | D | F, A | D | F | OK, 0x10, 0x40, u32::MAX];
    for steps in reached {
        for write in writes {
            let (mut d, log, _) = probe();
            let mut now = 0;
            for step in steps {
                now |= step;
                d.set(reg::STATUS, now);
                assert_eq!(d.get(reg::STATUS), now);
            }
            let was_live = now & OK != 0;
            told(&log);
            d.set(reg::STATUS, write);
            // 0 resets; otherwise bits are only added, and only those that a driver may set.
            let expected = if write == 0 { 0 } else { now | write & (A | D | F | OK | X) };
            assert_eq!(d.get(reg::STATUS), expected, "{now:#x} then {write:#x}");
            let becomes_live = !was_live && expected & OK != 0;
            let expected_log = match (write, becomes_live) {
                (0, _) => vec!["reset".to_owned()],
                (_, true) => vec!["activate 0x0 [None, None]".to_owned()],
                _ => vec![],
            };
            assert_eq!(told(&log), expected_log, "{now:#x} then {write:#x}");
        }
    }
}

#[test]
fn features_not_offered_are_refused_and_a_missing_version_1_is_borne() {
    let (mut d, _, complaints) = probe();
    assert!(!d.negotiate(feature::VERSION_1 | 1 << 5));
    assert_eq!(complaints.count(rules::FEATURES_SUBSET), 1);
    assert!(d.negotiate(OFFERED | feature::VERSION_1));
    assert!(d.negotiate(0));
    assert_eq!(complaints.count(rules::VERSION_1), 1);
    // xv6 never selects, and writes only the low half.
    let (mut d, log, _) = probe();
    for step in [0, 1, 3] {
        d.set(reg::STATUS, step);
    }
    let low = d.get(reg::DEVICE_FEATURES);
    d.set(reg::DRIVER_FEATURES, low);
    d.set(reg::STATUS, 11);
    assert_eq!(d.get(reg::STATUS), 11);
    d.set(reg::STATUS, 15);
    assert_eq!(told(&log), ["reset", "activate 0x200 [None, None]"]);
}

#[test]
fn features_are_settled_by_features_ok_and_forgotten_by_a_reset() {
    let (mut d, log, complaints) = probe();
    assert!(d.negotiate(feature::VERSION_1 | feature::BLK_FLUSH));
    d.set(reg::DRIVER_FEATURES_SEL, 0);
    d.set(reg::DRIVER_FEATURES, 0);
    assert_eq!(complaints.count(rules::FEATURES_SETTLED), 1);
    d.go_live();
    assert_eq!(told(&log), ["reset", "activate 0x100000200 [None, None]"]);
    assert_eq!(complaints.count(rules::NO_QUEUE), 1);
    d.set(reg::STATUS, 0);
    d.set(reg::STATUS, 11);
    d.set(reg::STATUS, 15);
    assert_eq!(told(&log), ["reset", "activate 0x0 [None, None]"]);
}

#[test]
fn a_queue_with_a_wrong_size_or_place_never_becomes_ready() {
    for size in [0, 3, 257, 0x1_0008, u32::MAX] {
        let (mut d, _, complaints) = probe();
        assert!(d.negotiate(feature::VERSION_1));
        assert!(!d.set_up_queue(size), "{size}");
        assert_eq!(complaints.count(rules::QUEUE_LAYOUT), 1);
        assert!(d.set_up_queue(8));
    }
    for (register, addr) in [
        (reg::QUEUE_DESC, !15),
        (reg::QUEUE_DESC, DESC + 8),
        (reg::QUEUE_DRIVER, AVAIL + 1),
        (reg::QUEUE_DRIVER, 0x8_0000_0000),
        (reg::QUEUE_DEVICE, USED + 2),
        (reg::QUEUE_DEVICE, 0xf_fffc),
    ] {
        let (mut d, log, _) = probe();
        assert!(d.negotiate(feature::VERSION_1));
        assert!(d.set_up_queue(8));
        d.set(reg::QUEUE_READY, 0);
        d.set_pair(register, addr);
        d.set(reg::QUEUE_READY, 1);
        assert_eq!(d.get(reg::QUEUE_READY), 0, "{register:#x} {addr:#x}");
        d.go_live();
        d.kick();
        assert_eq!(told(&log), ["reset", "activate 0x100000000 [None, None]"]);
    }
}

#[test]
fn queue_registers_in_every_status() {
    let registers = [
        (reg::QUEUE_NUM, 4),
        (reg::QUEUE_DESC, 0x6000),
        (reg::QUEUE_DESC + 4, 0),
        (reg::QUEUE_DRIVER, 0x6000),
        (reg::QUEUE_DEVICE, 0x6000),
        (reg::QUEUE_READY, 1),
    ];
    // Ready, or live: nothing moves the queue any more.
    for (register, value) in registers {
        let (mut d, log, complaints) = probe();
        assert!(d.negotiate(feature::VERSION_1));
        assert!(d.set_up_queue(8));
        d.set(register, value);
        d.go_live();
        assert_eq!(told(&log), ["reset", "activate 0x100000000 [Some(8), None]"]);
        d.set(register, value);
        d.kick();
        assert_eq!(told(&log), ["service 0"]);
        // Writing READY again does not set the queue up again, until the queue is live.
        let expected = if register == reg::QUEUE_READY { 1 } else { 2 };
        assert_eq!(complaints.count(rules::QUEUE_LIVE), expected, "{register:#x}");
    }
    // Before FEATURES_OK it is tolerated.
    let (mut d, log, complaints) = probe();
    d.set(reg::STATUS, 3);
    assert!(d.set_up_queue(8));
    assert_ne!(complaints.count(rules::QUEUE_EARLY), 0);
    d.set(reg::STATUS, 11);
    d.set(reg::STATUS, 15);
    assert_eq!(told(&log), ["activate 0x0 [Some(8), None]"]);
}

#[test]
fn a_queue_that_is_not_there_has_no_entries_and_takes_nothing() {
    let (mut d, _, complaints) = probe();
    assert!(d.negotiate(feature::VERSION_1));
    d.set(reg::QUEUE_SEL, 1);
    assert_eq!(d.get(reg::QUEUE_NUM_MAX), 4);
    for sel in [2, 0xffff, 0x1_0000, u32::MAX] {
        d.set(reg::QUEUE_SEL, sel);
        assert_eq!(d.get(reg::QUEUE_NUM_MAX), 0);
        d.set(reg::QUEUE_NUM, 4);
        d.set(reg::QUEUE_READY, 1);
        assert_eq!(d.get(reg::QUEUE_READY), 0);
    }
    assert_eq!(complaints.count(rules::QUEUE_SEL), 8);
}

#[test]
fn a_stopped_queue_is_taken_from_the_device() {
    let (mut d, log, complaints) = probe();
    assert!(d.negotiate(feature::VERSION_1));
    assert!(d.set_up_queue(8));
    d.go_live();
    told(&log);
    d.set(reg::QUEUE_READY, 0);
    assert_eq!(d.get(reg::QUEUE_READY), 0);
    assert_eq!(told(&log), ["stop 0"]);
    d.kick();
    assert_eq!((told(&log), complaints.count(rules::NOTIFY)), (vec![], 1));
    d.set(reg::QUEUE_READY, 1);
    assert_eq!(d.get(reg::QUEUE_READY), 0);
}

#[test]
fn a_doorbell_goes_only_to_a_live_queue() {
    let (mut d, log, complaints) = probe();
    d.kick();
    assert!(d.negotiate(feature::VERSION_1));
    assert!(d.set_up_queue(8));
    d.kick();
    assert_eq!(told(&log), ["reset"]);
    d.go_live();
    told(&log);
    for queue in [1, 2, 0xffff, 0x1_0000, u32::MAX] {
        d.set(reg::QUEUE_NOTIFY, queue);
    }
    assert_eq!((told(&log), complaints.count(rules::NOTIFY)), (vec![], 7));
    d.kick();
    assert_eq!(told(&log), ["service 0"]);
}

#[test]
fn an_address_that_is_written_with_64_bits_counts_as_two_writes() {
    let (mut d, _, complaints) = probe();
    assert!(d.negotiate(feature::VERSION_1));
    d.set(reg::QUEUE_SEL, 0);
    d.set(reg::QUEUE_NUM, 8);
    for (at, addr) in [(0x80, 0x1000_u64), (0x90, 0x2000), (0xa0, 0x3000)] {
        d.mmio.write(at, &addr.to_le_bytes());
    }
    d.set(reg::QUEUE_READY, 1);
    assert_eq!((d.get(reg::QUEUE_READY), complaints.count(rules::WIDTH)), (1, 3));
    // Not in RAM: the upper half counts, too.
    d.set(reg::QUEUE_READY, 0);
    d.mmio.write(0x80, &0x1_0000_0000_0000_u64.to_le_bytes());
    d.set(reg::QUEUE_READY, 1);
    assert_eq!(d.get(reg::QUEUE_READY), 0);
}

#[test]
fn wrong_widths_and_directions_have_no_effect() {
    let (mut d, log, complaints) = probe();
    for (offset, width) in [(0x70, 1), (0x70, 2), (0x70, 8), (0x71, 4), (0x4, 8), (0x102, 4)] {
        let mut data = vec![0xee; width];
        d.mmio.write(offset, &data);
        d.mmio.read(offset, &mut data);
        assert_eq!(data, vec![0; width], "{offset:#x} {width}");
    }
    assert_eq!(complaints.count(rules::WIDTH), 12);
    for offset in [0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x60, 0xb0, 0xb8, 0xfc] {
        let before = d.get(offset);
        d.set(offset, 0x1234_5678);
        assert_eq!(d.get(offset), before);
    }
    assert_eq!(complaints.count(rules::DIRECTION), 10);
    for offset in [0x28, 0x3c, 0x40] {
        d.set(offset, 4096);
        assert_eq!(d.get(offset), 0);
    }
    assert_eq!(complaints.count(rules::LEGACY), 6);
    assert_eq!((d.get(reg::STATUS), told(&log)), (0, vec![]));
}

#[test]
fn a_reset_forgets_all_but_the_generation() {
    let (mut d, log, _) = probe();
    assert!(d.negotiate(feature::VERSION_1));
    assert!(d.set_up_queue(8));
    d.go_live();
    d.mmio.signals.used_buffers();
    d.mmio.signals.needs_reset();
    assert_eq!(d.get(reg::STATUS), 15 | 64);
    assert_eq!(d.get(reg::INTERRUPT_STATUS), 3);
    d.set(reg::INTERRUPT_ACK, 1);
    assert_eq!(d.get(reg::INTERRUPT_STATUS), 2);
    d.set(reg::QUEUE_SEL, 1);
    told(&log);
    d.set(reg::STATUS, 0);
    assert_eq!(told(&log), ["reset"]);
    for register in [reg::STATUS, reg::INTERRUPT_STATUS, reg::QUEUE_READY] {
        assert_eq!(d.get(register), 0);
    }
    // Queue 0 is selected again, and not ready; its old layout is gone.
    assert_eq!(d.get(reg::QUEUE_NUM_MAX), 256);
    assert!(d.negotiate(feature::VERSION_1));
    d.set(reg::QUEUE_READY, 1);
    assert_eq!(d.get(reg::QUEUE_READY), 0);
}
