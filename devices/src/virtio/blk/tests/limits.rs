//! A limited disk: its requests wait for tokens, and nobody waits for them.

use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::block::{Limits, Rate};
use crate::bus::BusDevice;
use crate::testing::ManualPace;

const WRITEBACK: u64 = 0x120;

/// A driver with a disk of so many requests a second, one at once; the clock is the test's.
struct Limited {
    driver: VirtioDriver,
    disk: Disk,
    image: WatchedImage,
    pace: Arc<ManualPace>,
}

impl Limited {
    fn new(per_second: u64) -> Self {
        let image = WatchedImage::new(&[7; 64 * 512]);
        let pace = Arc::<ManualPace>::default();
        let disk = image.disk().paced_by(pace.clone());
        let requests =
            Some(Rate { per_second: NonZeroU64::new(per_second).unwrap(), burst: NonZeroU64::MIN });
        disk.set_limits(Limits { requests, bytes: None });
        let blk = Blk::new("virtio0", &disk, &named(""), Tap::default()).unwrap();
        let features = feature::BLK_FLUSH | feature::BLK_CONFIG_WCE | feature::RING_RESET;
        let driver = VirtioDriver::new(blk).live(features, 16);
        Self { driver, disk, image, pace }
    }

    /// Makes so many requests of one sector available, and rings once.
    fn offer(&mut self, kind: u32, count: u16) {
        self.driver.header(HEADER, kind, 1);
        for n in 0..count {
            let parts = [(HEADER, 16, false), (DATA, 512, kind == T_IN), (STATUS_BYTE, 1, true)];
            self.driver.chain(3 * n, &parts);
            self.driver.offer(3 * n);
        }
        self.driver.kick();
    }

    /// Lets time pass, and services the queue as the VMM does. Returns the number of answers so far.
    fn after(&mut self, millis: u64) -> usize {
        self.pace.pass(Duration::from_millis(millis));
        self.driver.mmio.service_queue(0);
        self.answers()
    }

    fn answers(&mut self) -> usize {
        std::iter::from_fn(|| self.driver.pop()).count()
    }
}

#[test]
fn a_doorbell_returns_and_the_rest_is_answered_in_time() {
    let mut limited = Limited::new(100);
    limited.offer(T_IN, 4);
    assert_eq!((limited.answers(), limited.disk.delayed()), (1, 3));
    assert_eq!(limited.pace.take_wake(), Some(Duration::from_millis(10)));
    assert_eq!(limited.driver.take_interrupts(), 1);
    assert_eq!(limited.after(5), 0);
    assert_eq!(limited.after(5), 1);
    assert_eq!(limited.driver.take_interrupts(), 1);
    // A doorbell services what is due, too.
    limited.pace.pass(Duration::from_millis(10));
    limited.driver.kick();
    assert_eq!(limited.answers(), 1);
    assert_eq!(limited.after(10), 1);
    assert_eq!((limited.disk.delayed(), limited.image.log().len()), (0, 4));
    assert_eq!(limited.driver.bytes(DATA, 512), [7; 512]);
}

#[test]
fn a_reset_drops_what_waits_and_the_queue_begins_anew() {
    let mut limited = Limited::new(1);
    limited.offer(T_OUT, 5);
    assert_eq!((limited.answers(), limited.disk.delayed()), (1, 4));
    limited.driver.restart(feature::BLK_FLUSH, 16);
    assert_eq!(limited.disk.delayed(), 0);
    assert_eq!(limited.after(60_000), 0);
    assert_eq!(limited.image.log().len(), 1, "nothing was written after the reset");
    // Dropped requests cost nothing, and their tags are free.
    limited.offer(T_IN, 2);
    assert_eq!(limited.answers(), 1);
    assert_eq!(limited.after(1000), 1);
}

#[test]
fn a_stopped_queue_drops_what_waits() {
    let mut limited = Limited::new(1);
    limited.offer(T_OUT, 5);
    limited.driver.set(reg::QUEUE_SEL, 0);
    limited.driver.set(reg::QUEUE_READY, 0);
    assert_eq!(limited.driver.get(reg::QUEUE_READY), 0);
    assert_eq!(limited.disk.delayed(), 0);
    assert_eq!(limited.after(60_000), 1, "the answer from before");
    assert_eq!(limited.image.log().len(), 1);
}

#[test]
fn a_pause_does_not_wait_for_tokens() {
    let mut limited = Limited::new(1);
    limited.offer(T_IN, 5);
    limited.driver.mmio.hold();
    limited.driver.mmio.quiesce().unwrap();
    assert_eq!((limited.answers(), limited.disk.delayed()), (5, 0));
    limited.driver.mmio.release();
    // The disk is in debt for what was started early.
    limited.offer(T_IN, 1);
    assert_eq!((limited.after(4999), limited.after(1)), (0, 1));
}

#[test]
fn a_resize_does_not_wait_for_tokens() {
    let mut limited = Limited::new(1);
    limited.offer(T_IN, 5);
    limited.driver.resize(128 * 512).unwrap();
    assert_eq!((limited.answers(), limited.disk.delayed()), (5, 0));
    assert!(limited.image.log().last().unwrap().starts_with("grow"));
}

#[test]
fn a_switch_to_write_through_starts_nothing_early_and_counts_for_what_waits() {
    let mut limited = Limited::new(100);
    limited.offer(T_OUT, 3);
    limited.driver.mmio.write(WRITEBACK, &[0]);
    assert_eq!((limited.answers(), limited.disk.delayed()), (1, 2));
    assert_eq!(limited.image.log(), ["write 512 at 512", "flush"]);
    assert_eq!(limited.after(20), 2);
    assert_eq!(limited.image.log(), ["write through 512 at 512"; 2]);
    assert_eq!(limited.image.stable(), limited.image.bytes());
}

#[test]
fn the_end_of_the_machine_leaves_nothing_that_waits() {
    let mut limited = Limited::new(1);
    limited.offer(T_OUT, 5);
    limited.disk.stop_handle().stop();
    limited.driver.mmio.hold();
    limited.driver.mmio.quiesce().unwrap();
    assert_eq!((limited.disk.delayed(), limited.disk.in_flight()), (0, 0));
    assert_eq!(limited.image.log().len(), 1);
    assert_eq!(limited.driver.status_byte(), S_IOERR);
}
