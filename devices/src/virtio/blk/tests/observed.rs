//! What an observer sees of requests.

use std::sync::Mutex;

use super::*;
use crate::observe;
use crate::testing::{Recorded, Recorder};

/// Takes the events of requests, each in a line; accesses to registers are left out.
fn events(recorder: &Recorder) -> Vec<String> {
    let line = |recorded| match recorded {
        Recorded::Finished { device, request, outcome } => {
            let observe::RequestInfo { queue, index, operation, sector, bytes } = request;
            Some(format!(
                "{device} finished {queue}/{index}: {operation} {bytes} at {sector}: {outcome}"
            ))
        }
        Recorded::Descriptor { queue, descriptor } => {
            let observe::DescriptorInfo { index, len, flags, next, .. } = descriptor;
            Some(format!("{queue}: descriptor {index}: {len} bytes, flags {flags}, next {next}"))
        }
        Recorded::Other { event, .. } => Some(event),
        Recorded::Register { .. } => None,
    };
    recorder.take().into_iter().filter_map(line).collect()
}

#[test]
fn an_observer_sees_a_request_from_its_doorbell_to_its_interrupt() {
    let (recorder, tap) = (Arc::new(Recorder::default()), Tap::default());
    let image = WatchedImage::new(&[7; 8 * 512]);
    let blk = Blk::new("virtio0", &image.disk(), &named(""), tap.clone()).unwrap();
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    assert_eq!(driver.request(T_IN, 2, 512), used(513, S_OK));
    // Attached while the device is live.
    let id = tap.attach(recorder.clone());
    assert_eq!(driver.request(T_IN, 2, 1024), used(1025, S_OK));
    assert_eq!(
        events(&recorder),
        [
            "Notified { queue: 0 }",
            "ChainTaken { queue: 0, head: 0, entry: 1, available: 2, used: 1 }",
            "0: descriptor 0: 16 bytes, flags 1, next 1",
            "0: descriptor 1: 1024 bytes, flags 3, next 2",
            "0: descriptor 2: 1 bytes, flags 2, next 0",
            "Submitted(RequestInfo { queue: 0, index: 0, operation: \"read\", sector: 2, bytes: 1024 })",
            "virtio0 finished 0/0: read 1024 at 2: ok",
            "ChainReturned { queue: 0, head: 0, written: 1025, entry: 1 }",
            "Raised { reasons: 1 }",
        ]
    );
    // Past the end: never submitted, and the rule comes with the values.
    assert_eq!(driver.request(T_OUT, 8, 512), used(1, S_IOERR));
    let what =
        "a write of 512 bytes at sector 8 reaches past the end of the disk, which has 8 sectors";
    assert_eq!(
        events(&recorder),
        [
            "Notified { queue: 0 }".to_owned(),
            "ChainTaken { queue: 0, head: 0, entry: 2, available: 3, used: 2 }".to_owned(),
            "0: descriptor 0: 16 bytes, flags 1, next 1".to_owned(),
            "0: descriptor 1: 512 bytes, flags 1, next 2".to_owned(),
            "0: descriptor 2: 1 bytes, flags 2, next 0".to_owned(),
            format!("Broken {{ rule: \"{}\", what: \"{what}\" }}", rules::BLK_RANGE),
            format!("virtio0 finished 0/0: write 512 at 8: {what}"),
            "ChainReturned { queue: 0, head: 0, written: 1, entry: 2 }".to_owned(),
            "Raised { reasons: 1 }".to_owned(),
        ]
    );
    tap.detach(id);
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_OK));
    assert_eq!(events(&recorder), [""; 0]);
}

#[test]
fn an_observer_sees_what_finishes_late_when_it_is_answered() {
    let recorder = Arc::new(Recorder::default());
    let (bytes, image) = ([7; 512], WatchedImage::new(&[7; 512]));
    let storage = HeldStorage::new(Box::new(image));
    let held = storage.held();
    let disk = Disk::new(Box::new(storage), "in memory".into(), bytes.len() as u64, false);
    let blk = Blk::new("virtio0", &disk, &named(""), Tap::to(recorder.clone())).unwrap();
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    events(&recorder);
    assert_eq!(driver.request(T_IN, 0, 512), None);
    let submitted =
        "Submitted(RequestInfo { queue: 0, index: 0, operation: \"read\", sector: 0, bytes: 512 })";
    assert_eq!(events(&recorder).last().unwrap(), submitted);
    held.release_all();
    driver.mmio.service_queue(0);
    assert_eq!(
        events(&recorder),
        [
            "virtio0 finished 0/0: read 512 at 0: ok",
            "ChainReturned { queue: 0, head: 0, written: 513, entry: 0 }",
            "Raised { reasons: 1 }"
        ]
    );
}

#[test]
fn the_clock_of_events_does_not_run_backwards() {
    #[derive(Default)]
    struct Times(Mutex<Vec<Instant>>);
    impl observe::Observer for Times {
        fn event(&self, seen: &observe::Seen<'_>) {
            self.0.lock().unwrap().push(seen.at);
        }
    }
    let (before, times) = (Instant::now(), Arc::new(Times::default()));
    let disk = WatchedImage::new(&[7; 512]).disk();
    let blk = Blk::new("virtio0", &disk, &named(""), Tap::to(times.clone())).unwrap();
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    assert_eq!(driver.request(T_IN, 0, 512), used(513, S_OK));
    let times = times.0.lock().unwrap();
    assert!(times.len() > 20 && times.is_sorted() && times[0] >= before);
    assert!(*times.last().unwrap() <= Instant::now());
}
