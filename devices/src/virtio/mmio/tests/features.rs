//! When the driver's features become final: once, at FEATURES_OK, or at DRIVER_OK without it.

use super::*;
use crate::testing::WatchedImage;
use crate::virtio::blk::{self, Blk};

/// Writes the upper half of the driver's features.
fn set_upper_features(d: &mut VirtioDriver, features: u64) {
    d.set(reg::DRIVER_FEATURES_SEL, 1);
    d.set(reg::DRIVER_FEATURES, (features >> 32) as u32);
}

#[test]
fn after_a_refusal_driver_ok_decides_and_no_write_changes_that() {
    let (mut d, log, complaints) = probe();
    assert!(!d.negotiate(feature::VERSION_1 | feature::BLK_FLUSH | 1 << 5));
    assert!(d.set_up_queue(8));
    d.go_live();
    assert_eq!(told(&log), ["reset", "activate 0x100000200 [Some(8), None]"]);
    set_upper_features(&mut d, feature::VERSION_1 | feature::RING_RESET);
    assert_eq!(
        complaints.last().unwrap(),
        format!(
            "probe: DriverFeatures was written after DRIVER_OK; ignored [{}]",
            rules::FEATURES_SETTLED
        )
    );
    d.set(reg::QUEUE_RESET, 1);
    assert_eq!((told(&log), complaints.count(rules::QUEUE_RESET)), (vec![], 1));
    d.kick();
    assert_eq!(told(&log), ["service 0"]);
}

#[test]
fn features_ok_after_driver_ok_decides_nothing() {
    let image = WatchedImage::new(&[1; 512]);
    let blk =
        Blk::new("virtio0", &image.disk(), &blk::BlkOptions::default(), Tap::default()).unwrap();
    let mut d = VirtioDriver::new(blk);
    let writeback = |d: &mut VirtioDriver| d.get(reg::CONFIG + 32) & 0xff;
    for status in [0, 1, 3] {
        d.set(reg::STATUS, status);
    }
    let features = feature::BLK_FLUSH | feature::BLK_CONFIG_WCE;
    d.set(reg::DRIVER_FEATURES, features as u32);
    assert!(d.set_up_queue(8));
    d.set(reg::STATUS, 7);
    // Without FLUSH the cache would be written through from FEATURES_OK on (5.2.5.2).
    d.set(reg::DRIVER_FEATURES, feature::BLK_CONFIG_WCE as u32);
    d.set(reg::STATUS, 15);
    assert_eq!((d.get(reg::STATUS), writeback(&mut d)), (15, 1));
    assert_eq!(d.complaints.count(rules::FEATURES_SETTLED), 1);
}

#[test]
fn a_legacy_driver_decides_by_driver_ok() {
    let (mut d, log, complaints) =
        probe_with(MmioOptions { version: Version::Legacy, ..MmioOptions::default() });
    d.negotiate_legacy(1 << 9, 4096);
    let mut ring = crate::testing::Ring::contiguous(8, 0x4_0000, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, 0x40));
    d.set(reg::STATUS, 7);
    d.set(reg::DRIVER_FEATURES, 0);
    assert_eq!(told(&log), ["reset", "activate 0x200 [Some(8), None]"]);
    assert_eq!(complaints.count(rules::FEATURES_SETTLED), 1);
}

#[test]
fn a_reset_lets_the_driver_decide_anew() {
    let (mut d, log, complaints) = probe();
    assert!(d.negotiate(feature::VERSION_1 | feature::BLK_FLUSH));
    assert!(d.negotiate(feature::VERSION_1));
    d.go_live();
    assert_eq!(told(&log), ["reset", "reset", "activate 0x100000000 [None, None]"]);
    assert_eq!(complaints.count(rules::FEATURES_SETTLED), 0);
}

#[test]
fn the_configuration_space_is_not_written_before_features_ok() {
    for (policy, strict) in [(Policy::Lenient, false), (Policy::Strict, true)] {
        let (mut d, log, complaints) = probe_with(MmioOptions { policy, ..MmioOptions::default() });
        for status in [1, 3] {
            d.set(reg::STATUS, status);
        }
        d.mmio.write(reg::CONFIG + 32, &[1]);
        assert_eq!((complaints.count(rules::CONFIG_EARLY), d.needs_reset()), (1, strict));
        // An impossible write is one mistake, not two.
        d.mmio.write(reg::CONFIG, &[1]);
        assert_eq!(complaints.count(rules::CONFIG_WRITE), 1);
        assert_eq!(complaints.count(rules::CONFIG_EARLY), 1);
        assert!(d.negotiate(feature::VERSION_1));
        told(&log);
        d.mmio.write(reg::CONFIG + 32, &[0]);
        assert_eq!((told(&log), d.needs_reset()), (vec!["config 32 [0]".to_owned()], false));
    }
    // Legacy drivers have no FEATURES_OK to wait for.
    let (mut d, log, complaints) =
        probe_with(MmioOptions { version: Version::Legacy, ..MmioOptions::default() });
    d.set(reg::STATUS, 3);
    d.mmio.write(reg::CONFIG + 32, &[1]);
    assert_eq!((told(&log), complaints.last()), (vec!["config 32 [1]".to_owned()], None));
}

#[test]
fn a_queue_that_was_dropped_may_be_described_anew_but_not_used() {
    let (mut d, log, complaints) = probe();
    assert!(d.negotiate(feature::VERSION_1));
    assert!(d.set_up_queue(8));
    d.go_live();
    // The sequence of rCore's driver at its end: QueueReady 0, read back, then every register of the queue (4.2.2.2).
    d.set(reg::QUEUE_READY, 0);
    assert_eq!(d.get(reg::QUEUE_READY), 0);
    d.set(reg::QUEUE_NUM, 0);
    for register in [reg::QUEUE_DESC, reg::QUEUE_DRIVER, reg::QUEUE_DEVICE] {
        d.set_pair(register, 0);
    }
    assert_eq!(complaints.last(), None);
    told(&log);
    assert!(!d.set_up_queue(8));
    assert_eq!((told(&log), complaints.count(rules::QUEUE_LIVE)), (vec![], 1));
}
