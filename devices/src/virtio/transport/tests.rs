//! The core of a transport without registers: each step is a plain call.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::observe::Tap;
use crate::testing::{Ring, WatchedImage};
use crate::virtio::blk::{self, Blk};
use crate::virtio::notifier::Notifier;
use crate::virtio::queue::QueueLayout;
use crate::virtio::rules;
use crate::virtio::spec::feature;
use crate::virtio::spec::status::{
    ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_OK, FEATURES_OK,
};

/// A status, and how often the driver was interrupted.
#[derive(Debug, Default)]
struct Counts {
    status: AtomicU32,
    used: AtomicU32,
    config: AtomicU32,
}

impl Notifier for Counts {
    fn used_buffers(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }
    fn config_changed(&self) {
        self.config.fetch_add(1, Ordering::Relaxed);
    }
    fn needs_reset(&self) {
        self.add_status(DEVICE_NEEDS_RESET);
    }
    fn is_reset_needed(&self) -> bool {
        self.status() & DEVICE_NEEDS_RESET != 0
    }
}

impl Signals for Counts {
    fn status(&self) -> u32 {
        self.status.load(Ordering::Relaxed)
    }
    fn add_status(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::Relaxed);
    }
    fn reset(&self) {
        self.status.store(0, Ordering::Relaxed);
    }
}

/// A disk of two sectors behind a core whose registers are one number.
fn core(policy: Policy) -> (Core<u8>, Arc<Counts>, GuestRam) {
    let disk = WatchedImage::new(&[7; 1024]).disk();
    let blk = Blk::new("disk", &disk, &blk::BlkOptions::default(), Tap::default()).unwrap();
    let ram = GuestRam::anonymous(&[(0, 0x1_0000)]).unwrap();
    let counts = Arc::new(Counts::default());
    let options = CoreOptions { version: Version::Modern, policy, leftover: None, driver_ok: None };
    (Core::new(Arc::new(blk), ram.clone(), counts.clone(), options), counts, ram)
}

/// Brings the device up with a queue.
fn bring_up(core: &Core<u8>, ring: &Ring) {
    let mut setup = core.setup();
    core.write_status(&mut setup, ACKNOWLEDGE | DRIVER);
    setup.driver_features = feature::VERSION_1 | feature::BLK_FLUSH;
    core.write_status(&mut setup, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    let Ring { size, desc, avail, used, .. } = *ring;
    let layout = QueueLayout { size: size.into(), desc, avail, used };
    setup.change_queue(0, |queue| (queue.layout, queue.ready) = (layout, true)).unwrap();
    core.write_status(&mut setup, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    setup.registers = 1;
}

#[test]
fn a_request_needs_no_register() {
    let (core, counts, ram) = core(Policy::Lenient);
    let mut ring = Ring::new(4, 0x1000, 0x2000, 0x3000);
    bring_up(&core, &ring);
    ram.write(0x4000, &[0; 16]).unwrap();
    ring.chain(&ram, 0, &[(0x4000, 16, false), (0x5000, 513, true)]);
    ring.offer(&ram, 0);
    assert_eq!(core.ring(0), Doorbell::Serviced);
    let mut data = [0; 513];
    ram.read_into(0x5000, &mut data).unwrap();
    assert!(data[..512] == [7; 512] && data[512] == 0);
    assert_eq!((ring.pop(&ram), counts.used.load(Ordering::Relaxed)), (Some((0, 513)), 1));
}

#[test]
fn a_doorbell_that_serves_nothing_has_a_reason() {
    let (core, ..) = core(Policy::Strict);
    assert_eq!(core.ring(0), Doorbell::Early);
    bring_up(&core, &Ring::new(4, 0x1000, 0x2000, 0x3000));
    assert_eq!(core.ring(1), Doorbell::Missing);
    let changed = |index| core.setup().change_queue(index, |_| ());
    assert_eq!(changed(0), Err(QueueRefused::InUse));
    assert_eq!(changed(u32::MAX), Err(QueueRefused::Missing));
    core.stop_queue(0).unwrap();
    assert_eq!(core.ring(0), Doorbell::NotReady);
    core.breach(rules::WIDTH, format_args!("a test"), "");
    assert_eq!(core.ring(0), Doorbell::NeedsReset(Some(Some(rules::WIDTH))));
    assert_eq!(core.ring(0), Doorbell::NeedsReset(None), "reported once");
}

#[test]
fn a_reset_clears_the_registers_before_the_status() {
    let (core, counts, _) = core(Policy::Lenient);
    bring_up(&core, &Ring::new(4, 0x1000, 0x2000, 0x3000));
    core.config_changed();
    assert_eq!(counts.config.load(Ordering::Relaxed), 1);
    let mut published = None;
    core.reset(|setup| published = Some((setup.registers, setup.features(), counts.status())));
    let live = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
    assert_eq!(published, Some((0, 0, live)));
    assert!(!core.setup().queue(0).unwrap().ready && core.was_used() && core.status() == 0);
    core.config_changed();
    assert_eq!(counts.config.load(Ordering::Relaxed), 1, "without a driver there is no interrupt");
}
