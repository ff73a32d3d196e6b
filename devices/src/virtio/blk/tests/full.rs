//! A host without room (werror=stop): the request stays with its queue, the alarm is raised, and no thread sleeps.

use std::io;
use std::sync::Mutex;

use super::*;
use crate::block::FullAlarm;
use blk::T_WRITE_ZEROES;

/// Records the disk that raised the alarm.
#[derive(Default)]
struct Alarm(Mutex<Vec<String>>);

impl Alarm {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl FullAlarm for Alarm {
    fn raise(&self, disk: &str, error: &io::Error) {
        self.0.lock().unwrap().push(format!("{disk}: {:?}", error.kind()));
    }
}

/// A live device that waits for room.
fn waiting() -> (VirtioDriver, WatchedImage, Faults, Arc<Alarm>) {
    let image = WatchedImage::new(&[1; 8 * 512]);
    let storage = FaultStorage::new(Box::new(image.clone()));
    let (faults, alarm) = (storage.faults(), Arc::new(Alarm::default()));
    let disk = Disk::new(Box::new(storage), "d.img".into(), 8 * 512, false);
    let disk = disk.waiting_for_room(alarm.clone());
    let blk = Blk::new("virtio0", &disk, &named(""), Tap::default()).unwrap();
    (VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8), image, faults, alarm)
}

#[test]
fn a_write_that_finds_the_host_full_waits_and_is_done_wholly_when_there_is_room() {
    let (mut driver, image, faults, alarm) = waiting();
    driver.write(DATA, &[0xaa; 1024]);
    faults.push(Fault::After(512, libc::ENOSPC));
    assert_eq!(driver.request(T_OUT, 2, 1024), None, "not answered before it is true");
    assert_eq!((alarm.take(), driver.line.take()), (vec!["d.img: StorageFull".to_owned()], 0));
    // A doorbell takes no request past it, so the order is kept.
    driver.chain(3, &[(HEADER, 16, false), (STATUS_BYTE + 8, 1, true)]);
    driver.header(HEADER, T_FLUSH, 0);
    driver.offer(3);
    driver.kick();
    driver.mmio.service_unfinished();
    assert_eq!((driver.pop(), alarm.take().len()), (None, 0));
    driver.mmio.quiesce().unwrap();
    assert_eq!(driver.pop(), None, "what waits is kept, not failed");
    // Still no room, then there is some.
    faults.push(Fault::After(0, libc::EDQUOT));
    driver.mmio.release();
    assert_eq!((driver.pop(), alarm.take()), (None, vec!["d.img: QuotaExceeded".to_owned()]));
    driver.mmio.release();
    assert_eq!((driver.pop(), driver.pop(), driver.pop()), (Some((0, 1)), Some((3, 1)), None));
    assert_eq!((driver.status_byte(), alarm.take().len(), driver.line.take()), (S_OK, 0, 1));
    assert_eq!(image.bytes()[1024..2048], [0xaa; 1024]);
    assert_eq!(image.stable(), image.bytes());
}

#[test]
fn each_part_of_a_request_may_wait() {
    let (mut driver, image, faults, alarm) = waiting();
    for fault in [Fault::None, Fault::After(0, libc::ENOSPC), Fault::After(0, libc::ENOSPC)] {
        faults.push(fault);
    }
    driver.header(HEADER, T_WRITE_ZEROES, 0);
    for (at, sector) in [(0u64, 1u8), (16, 3), (32, 5)] {
        driver.write(DATA + at, &[sector, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
    let parts = [(HEADER, 16, false), (DATA, 48, false), (STATUS_BYTE, 1, true)];
    assert_eq!((driver.submit(&parts), alarm.take().len()), (None, 2));
    driver.mmio.release();
    assert_eq!((driver.pop(), driver.status_byte()), (Some((0, 1)), S_OK));
    for sector in 0..8 {
        let zero = [1, 3, 5].contains(&sector);
        assert_eq!(image.bytes()[sector * 512], u8::from(!zero), "{sector}");
    }
}

#[test]
fn a_reset_forgets_what_waits_and_the_device_works_again() {
    let (mut driver, image, faults, alarm) = waiting();
    faults.push(Fault::After(0, libc::ENOSPC));
    assert_eq!(driver.request(T_OUT, 2, 512), None);
    let before = image.bytes();
    driver.restart(feature::BLK_FLUSH, 8);
    assert_eq!(driver.request(T_IN, 0, 512), used(513, S_OK));
    driver.mmio.release();
    assert_eq!((image.bytes() == before, driver.pop(), alarm.take().len()), (true, None, 1));
}

#[test]
fn reads_and_other_errors_do_not_wait() {
    let (mut driver, _, faults, alarm) = waiting();
    for (kind, errno) in [(T_OUT, libc::EIO), (T_IN, libc::EIO)] {
        faults.push(Fault::After(0, errno));
        assert_eq!(driver.request(kind, 0, 512), used(1, S_IOERR), "{kind}");
    }
    // A flush that fails for lack of room may have dropped data: a retry would hide that.
    faults.push(Fault::After(0, libc::ENOSPC));
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_IOERR));
    assert_eq!(alarm.take(), [""; 0]);
}
