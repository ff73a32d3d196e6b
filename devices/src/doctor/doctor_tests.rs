use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::block::SECTOR_SIZE;
use crate::display::Screen;
use crate::observe::Tap;
use crate::testing::virtio_driver::{AVAIL, DATA, DESC, USED, reg};
use crate::testing::{VirtioDriver, WatchedImage};
use crate::virtio::blk::{Blk, BlkOptions};
use crate::virtio::gpu::{Gpu, GpuOptions};
use crate::virtio::spec::blk::T_IN;
use crate::virtio::spec::{feature, status};

/// A driver that the doctor watches, and the findings.
fn watched() -> (VirtioDriver, Arc<Doctor>, Receiver<(&'static str, String)>) {
    let (found, findings) = channel();
    let doctor = Arc::new(Doctor::new(move |finding| {
        found.send((finding.rule.id, finding.what.to_string())).unwrap();
    }));
    let tap = Tap::default();
    tap.attach_reporter_of_rules(doctor.clone());
    let image = WatchedImage::new(&[7; 8 * SECTOR_SIZE as usize]);
    let blk = Blk::new("virtio0", &image.disk(), &BlkOptions::default(), tap).unwrap();
    (VirtioDriver::new(blk), doctor, findings)
}

fn ids(findings: &Receiver<(&'static str, String)>) -> Vec<&'static str> {
    findings.try_iter().map(|(id, _)| id).collect()
}

/// A driver behind a whole handshake.
fn live() -> (VirtioDriver, Arc<Doctor>, Receiver<(&'static str, String)>) {
    let (driver, doctor, findings) = watched();
    let driver = driver.live(feature::BLK_FLUSH, 8);
    // The tests' driver leaves out what a test does not need.
    let _notes = ids(&findings);
    (driver, doctor, findings)
}

#[test]
fn a_rule_is_reported_once_for_a_device_and_counted() {
    let (mut driver, doctor, findings) = watched();
    for _ in 0..3 {
        driver.set(reg::QUEUE_NOTIFY, 0);
    }
    assert_eq!(ids(&findings), ["virtio.notify"]);
    let counts = doctor.counts();
    assert_eq!(counts.len(), 1);
    assert_eq!(
        (&*counts[0].device, counts[0].rule.id, counts[0].times),
        ("virtio0", "virtio.notify", 3)
    );
    // The log leaves it to the doctor.
    assert_eq!((driver.complaints.last(), driver.complaints.summary()), (None, None));
}

#[test]
fn a_handshake_shows_what_it_leaves_out() {
    let (mut driver, _, findings) = watched();
    driver.set(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
    assert_eq!(ids(&findings), ["virtio.identity", "virtio.reset-first"]);
    driver.set(reg::DRIVER_FEATURES, 0);
    assert_eq!(ids(&findings), ["virtio.features-selector"]);
    driver.set(reg::DRIVER_FEATURES_SEL, 1);
    driver.set(reg::DRIVER_FEATURES, 1);
    let three = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
    driver.set(reg::STATUS, three);
    driver.set(reg::QUEUE_SEL, 0);
    driver.set(reg::QUEUE_NUM, 8);
    assert_eq!(ids(&findings), ["virtio.queue-max-read"]);
    driver.set_pair(reg::QUEUE_DESC, DESC);
    driver.set_pair(reg::QUEUE_DRIVER, AVAIL);
    driver.set_pair(reg::QUEUE_DEVICE, USED);
    driver.set(reg::QUEUE_READY, 1);
    driver.set(reg::STATUS, three | status::DRIVER_OK);
    assert_eq!(ids(&findings), ["virtio.features-ok-read"]);
}

#[test]
fn a_doorbell_for_nothing_is_found_and_one_that_another_vcpu_overtook_is_not() {
    let (mut driver, _, findings) = live();
    driver.request(T_IN, 0, 512).unwrap();
    assert_eq!(ids(&findings), [""; 0]);
    driver.kick();
    assert_eq!(ids(&findings), ["virtio.nothing-new"]);
    let (mut driver, _, findings) = live();
    // Two chains, and the first doorbell serves both.
    driver.header(DATA, T_IN, 0);
    for head in [0, 3] {
        driver.chain(
            head,
            &[
                (DATA, 16, false),
                (DATA + 0x1000 + u64::from(head) * 0x1000, 512, true),
                (DATA + 0x100 + u64::from(head), 1, true),
            ],
        );
        driver.offer(head);
    }
    driver.kick();
    driver.kick();
    assert_eq!(ids(&findings), [""; 0]);
}

#[test]
fn a_chain_queued_twice_is_found() {
    let (mut driver, _, findings) = live();
    driver.header(DATA, T_IN, 0);
    driver.chain(0, &[(DATA, 16, false), (DATA + 0x1000, 512, true), (DATA + 0x100, 1, true)]);
    driver.offer(0);
    driver.offer(0);
    driver.kick();
    let found: Vec<_> = findings.try_iter().collect();
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["virtio.head-in-use"]);
    assert!(found[0].1.contains("entry 1 of the available ring names descriptor 0"), "{found:?}");
    // The device has returned both: the chain may be queued again.
    driver.offer(0);
    driver.kick();
    assert_eq!(ids(&findings), [""; 0]);
}

#[test]
fn a_buffer_over_a_ring_and_a_short_header_are_found() {
    let (mut driver, _, findings) = live();
    driver.header(DATA, T_IN, 0);
    driver.submit(&[(DATA, 16, false), (USED - 0x100, 0x200, true), (DATA + 0x100, 1, true)]);
    assert_eq!(ids(&findings), ["virtio.buffer-over-ring"]);
    driver.submit(&[
        (DATA, 12, false),
        (DATA + 12, 4, false),
        (DATA + 0x1000, 512, true),
        (DATA + 0x100, 1, true),
    ]);
    assert_eq!(ids(&findings), ["virtio.header"]);
}

#[test]
fn overlapping_rings_are_found() {
    let (mut driver, _, findings) = watched();
    driver.negotiate(0);
    driver.set(reg::QUEUE_SEL, 0);
    driver.set(reg::QUEUE_NUM, 8);
    driver.set_pair(reg::QUEUE_DESC, DESC);
    driver.set_pair(reg::QUEUE_DRIVER, AVAIL);
    driver.set_pair(reg::QUEUE_DEVICE, AVAIL);
    driver.set(reg::QUEUE_READY, 1);
    assert!(ids(&findings).contains(&"virtio.ring-overlap"));
}

#[test]
fn an_interrupt_that_is_never_acknowledged_is_a_note() {
    let (mut driver, _, findings) = live();
    for _ in 0..5 {
        driver.request(T_IN, 0, 512).unwrap();
    }
    assert_eq!(ids(&findings), ["virtio.irq-acknowledge"]);
    driver.set(reg::INTERRUPT_ACK, 1);
    assert_eq!(ids(&findings), ["virtio.irq-status"]);
}

#[test]
fn used_event_that_stays_is_a_note() {
    let (found, findings) = channel();
    let doctor = Doctor::new(move |finding| found.send((finding.rule.id, String::new())).unwrap());
    let event = |event| doctor.event(&Seen::now(&Arc::from("virtio0"), event));
    let place = crate::observe::Place::Split { desc: DESC, avail: AVAIL, used: USED };
    event(Event::QueueReady { queue: 0, size: 8, place });
    for used in 2..6 {
        let why = crate::observe::Suppression::Event { used_event: 0 };
        event(Event::Suppressed { queue: 0, why, used });
    }
    assert_eq!(ids(&findings), ["virtio.used-event"]);
}

#[test]
fn a_status_byte_of_two_requests_is_a_note() {
    let (mut driver, _, findings) = live();
    driver.header(DATA, T_IN, 0);
    for head in [0, 3] {
        let data = DATA + 0x1000 + u64::from(head) * 0x1000;
        driver.chain(head, &[(DATA, 16, false), (data, 512, true), (DATA + 0x100, 1, true)]);
        driver.offer(head);
    }
    driver.kick();
    let found: Vec<_> = findings.try_iter().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "virtio.buffer-shared");
    assert!(found[0].1.contains("0x10100 to 0x10100"), "{found:?}");
}

#[test]
fn a_status_byte_in_the_data_is_a_note() {
    let (mut driver, _, findings) = live();
    driver.header(DATA, T_IN, 0);
    driver.submit(&[(DATA, 16, false), (DATA + 0x1000, 512, true), (DATA + 0x11ff, 1, true)]);
    assert_eq!(ids(&findings), ["virtio.buffer-shared"]);
}

#[test]
fn an_acknowledge_of_nothing_is_none() {
    let (mut driver, _, findings) = live();
    for _ in 0..5 {
        driver.request(T_IN, 0, 512).unwrap();
        let _ = driver.get(reg::INTERRUPT_STATUS);
        driver.set(reg::INTERRUPT_ACK, 0);
    }
    assert_eq!(ids(&findings), ["virtio.irq-acknowledge"]);
}

#[test]
fn a_command_of_a_gpu_has_its_own_header() {
    let (found, findings) = channel();
    let doctor = Arc::new(Doctor::new(move |finding| {
        found.send((finding.rule.id, finding.what.to_string())).unwrap();
    }));
    let tap = Tap::default();
    tap.attach_reporter_of_rules(doctor.clone());
    let gpu = Gpu::new("gpu", &GpuOptions::default(), Screen::default(), tap);
    let mut driver = VirtioDriver::new(gpu).live(0, 8);
    driver.get(reg::DEVICE_ID);
    let _notes = ids(&findings);
    // GET_DISPLAY_INFO.
    driver.write(DATA, &0x100u32.to_le_bytes());
    driver.chain(0, &[(DATA, 24, false), (DATA + 0x100, 408, true)]);
    driver.offer(0);
    driver.kick();
    assert_eq!((driver.pop(), ids(&findings)), (Some((0, 408)), vec![]));
}
