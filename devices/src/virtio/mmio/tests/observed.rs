//! The events of the transport, as an observer sees them.

use super::*;
use crate::testing::{Recorded, Recorder};

/// A driver of a probe, and the recorder of its events.
fn observed() -> (VirtioDriver, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let reporter = Reporter::new("probe", Tap::to(recorder.clone()));
    let device = Probe { reporter, log: Log::default(), live: Mutex::default() };
    let driver = VirtioDriver::with(device, MmioOptions::default());
    (driver, recorder)
}

#[test]
fn an_observer_sees_each_access_by_name() {
    let (mut d, recorder) = observed();
    d.get(reg::DEVICE_ID);
    d.set(reg::STATUS, 3);
    d.set(reg::DEVICE_FEATURES_SEL, 1);
    d.get(reg::DEVICE_FEATURES);
    d.get(reg::CONFIG);
    let seen: Vec<_> = recorder.take().into_iter().filter_map(accessed).collect();
    assert_eq!(
        seen,
        [
            "Read DeviceID: a block device",
            "Write Status: the status is now ACKNOWLEDGE | DRIVER",
            "Write DeviceFeaturesSel: features 32 to 63 are meant",
            "Read DeviceFeatures: the device offers VERSION_1 | RING_RESET | 0x800000000",
            "Read Config: configuration space, byte 0x0, 4 bytes",
        ]
    );
}

/// An access to a register, in a line.
fn accessed(recorded: Recorded) -> Option<String> {
    match recorded {
        Recorded::Register { register, direction, meaning, .. } => {
            Some(format!("{direction:?} {register}: {meaning}"))
        }
        _ => None,
    }
}

/// Takes the events that are no accesses to registers.
fn events(recorder: &Recorder) -> Vec<String> {
    recorder.take().iter().filter_map(|recorded| recorded.other().map(str::to_owned)).collect()
}

#[test]
fn an_observer_sees_what_a_driver_sets_up_rings_and_breaks() {
    let (recorder, tap) = (Arc::new(Recorder::default()), Tap::default());
    let reporter = Reporter::new("probe", tap.clone());
    let device = Probe { reporter, log: Log::default(), live: Mutex::default() };
    let mut d = VirtioDriver::with(device, MmioOptions::default());
    d.set(reg::STATUS, 1);
    let id = tap.attach(recorder.clone());
    d.set(reg::STATUS, 3);
    d.set(reg::STATUS, 3);
    assert_eq!(events(&recorder), ["Status { before: 1, now: 3 }"]);
    assert!(d.negotiate(feature::VERSION_1) && d.set_up_queue(8));
    d.go_live();
    assert_eq!(
        events(&recorder),
        [
            "Status { before: 3, now: 0 }",
            "Status { before: 0, now: 1 }",
            "Status { before: 1, now: 3 }",
            "Status { before: 3, now: 11 }",
            "QueueReady { queue: 0, size: 8, place: Split { desc: 4096, avail: 12288, used: 20480 } }",
            "Status { before: 11, now: 15 }",
        ]
    );
    d.kick();
    d.mmio.signals.used_buffers();
    d.take_interrupts();
    d.set(reg::QUEUE_READY, 0);
    assert_eq!(
        events(&recorder),
        [
            "Notified { queue: 0 }",
            "Raised { reasons: 1 }",
            "Acknowledged { reasons: 1 }",
            "QueueStopped { queue: 0 }",
        ]
    );
    d.set(reg::QUEUE_NOTIFY, 7);
    assert_eq!(
        events(&recorder),
        [
            "Notified { queue: 7 }".to_owned(),
            format!(
                "Broken {{ rule: \"{}\", what: \"QueueNotify was written with queue 7, but the device has no \
                 such queue; ignored\" }}",
                rules::NOTIFY
            ),
        ]
    );
    tap.detach(id);
    d.set(reg::STATUS, 0);
    assert_eq!(recorder.take(), []);
}

#[test]
fn an_observer_sees_a_queue_that_is_refused() {
    let (mut d, recorder) = observed();
    assert!(d.negotiate(feature::VERSION_1));
    events(&recorder);
    assert!(!d.set_up_queue(3));
    let seen = events(&recorder);
    assert!(
        seen[0].starts_with("QueueRefused { queue: 0, why: \"") && seen[0].contains('3'),
        "{seen:?}"
    );
    assert!(seen[1].starts_with("Broken") && seen[1].contains("queue 0 is refused"), "{seen:?}");
}
