//! A limited disk: the doorbell waits for tokens, because all is finished when it returns.

use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::block::{Limits, Rate};
use crate::testing::ManualPace;

fn limited() -> (SvirtbDriver<Device>, Disk, Arc<ManualPace>) {
    let (ram, pace) = (GuestRam::anonymous(&RAM).unwrap(), Arc::<ManualPace>::default());
    let disk = WatchedImage::new(&[0; 16 * 512]).disk().paced_by(pace.clone());
    let second = NonZeroU64::MIN;
    let requests = Some(Rate { per_second: second, burst: second });
    disk.set_limits(Limits { requests, bytes: None });
    let device = Device::new(&disk, ram.clone(), EntrySize::Padded, Tap::default()).unwrap();
    let mut driver = SvirtbDriver::new(device, ram, RING);
    driver.handshake().unwrap();
    (driver, disk, pace)
}

/// Queues entries that are not neighbours.
fn queue(driver: &mut SvirtbDriver<Device>, entries: impl Iterator<Item = SvirtbEntry>) {
    entries.for_each(|entry| {
        driver.queue(entry).unwrap();
    });
}

#[test]
fn a_doorbell_waits_for_the_tokens_of_its_transfers() {
    let (mut driver, disk, pace) = limited();
    queue(&mut driver, (0..3).map(|n| SvirtbEntry::write(2 * n, BUFFER, 512)));
    driver.ring();
    assert_eq!((driver.status(), driver.tail()), (Status::Ready.value(), 3));
    assert_eq!((pace.passed(), disk.delayed()), (Duration::from_secs(2), 0));
    // The flush after the writes did not wait; the next entry pays for it.
    queue(&mut driver, [SvirtbEntry::read(0, BUFFER, 512)].into_iter());
    driver.ring();
    assert_eq!(pace.passed(), Duration::from_secs(4));
}

#[test]
fn a_pause_ends_the_waiting() {
    let (mut driver, _disk, pace) = limited();
    pace.hurry_at(Duration::from_millis(1500));
    queue(&mut driver, (0..8).map(|n| SvirtbEntry::read(2 * n, BUFFER, 512)));
    driver.ring();
    assert_eq!((driver.status(), driver.tail()), (Status::Ready.value(), 8));
    assert!(pace.passed() <= Duration::from_millis(1600), "{:?}", pace.passed());
}
