use super::*;

const LAYOUT: QueueLayout = QueueLayout { size: 8, desc: 0x1000, avail: 0x2000, used: 0x3000 };
const LIVE: u32 = 0xf;

fn ram() -> GuestRam {
    GuestRam::anonymous(&[(0, 0x1_0000)]).unwrap()
}

fn device(status: u32, progress: Option<Progress>) -> Snapshot {
    let queue = Queue { index: 0, is_ready: true, layout: LAYOUT, receives: false, progress };
    Snapshot { status, interrupt_status: 0, features: 0, queues: vec![queue] }
}

fn first(device: &Snapshot, ram: &GuestRam) -> (bool, String) {
    let waiting = examine(device, ram).unwrap();
    (waiting.is_outstanding, waiting.lines[0].clone())
}

#[test]
fn a_device_without_a_driver_waits_for_nothing() {
    assert_eq!(examine(&device(0, None), &ram()), None);
}

#[test]
fn a_handshake_that_stopped_is_named_by_its_last_step() {
    let (outstanding, line) = first(&device(3, None), &ram());
    assert!(outstanding && line.contains("did not set DRIVER_OK"), "{line}");
    let (_, line) = first(&device(LIVE | DEVICE_NEEDS_RESET, None), &ram());
    assert!(line.contains("until the driver writes 0 to Status"), "{line}");
    let mut no_queue = device(LIVE, None);
    no_queue.queues[0].is_ready = false;
    assert!(first(&no_queue, &ram()).1.contains("no queue is ready"));
}

#[test]
fn each_step_of_a_request_can_be_the_missing_one() {
    let ram = ram();
    let at = |taken, returned| device(LIVE, Some(Progress { taken, returned }));
    assert!(first(&at(0, 0), &ram).1.contains("the available index at 0x2002 is still 0"));
    ram.store_u16(0x2002, 3).unwrap();
    assert!(first(&at(1, 1), &ram).1.contains("2 wait for a doorbell"));
    assert!(first(&at(3, 2), &ram).1.contains("the host has not finished 1"));
    ram.store_u16(0x2002, 300).unwrap();
    assert!(first(&at(3, 3), &ram).1.contains("is ahead by more than the queue's 8 entries"));
    ram.store_u16(0x2002, 3).unwrap();
    let (outstanding, line) = first(&at(3, 3), &ram);
    assert!(
        !outstanding
            && line.ends_with("the used index at 0x3002 is 3, the last entry is at 0x3014"),
        "{line}"
    );
    ram.store_u16(0x2000, AVAIL_NO_INTERRUPT).unwrap();
    assert!(first(&at(3, 3), &ram).1.ends_with("as the flag NO_INTERRUPT is set"));
    let mut with_events = at(3, 3);
    with_events.features = feature::RING_EVENT_IDX;
    assert!(first(&with_events, &ram).1.ends_with("as used_event is 0"));
    ram.store_u16(0x2004 + 16, 3).unwrap();
    assert!(first(&with_events, &ram).1.ends_with("0x3014"));
}

#[test]
fn an_interrupt_without_an_acknowledge_is_outstanding() {
    let ram = ram();
    ram.store_u16(0x2002, 1).unwrap();
    let answered =
        Snapshot { interrupt_status: 1, ..device(LIVE, Some(Progress { taken: 1, returned: 1 })) };
    let waiting = examine(&answered, &ram).unwrap();
    assert!(waiting.is_outstanding && waiting.is_unacknowledged);
    assert!(waiting.lines[1].starts_with("InterruptStatus is 0x1"), "{waiting:?}");
}
