//! One breach after the other, on a lenient device and on a strict one.

use super::*;
use crate::observe::Rule;
use crate::virtio::spec::status::{ACKNOWLEDGE, DRIVER, FEATURES_OK};

fn driver(policy: Policy) -> (VirtioDriver, Log) {
    let (log, reporter) = (Log::default(), Reporter::new("probe", Tap::default()));
    let device = Probe { reporter, log: log.clone(), live: Mutex::default() };
    (VirtioDriver::with(device, MmioOptions { policy, ..MmioOptions::default() }), log)
}

type Breach = (&'static str, Rule, fn(&mut VirtioDriver));

/// Mistakes that a driver can make at any time.
const AT_ANY_TIME: [Breach; 15] = [
    ("a register read by bytes", rules::WIDTH, |d| d.mmio.read(0x70, &mut [0])),
    ("a register written by halves", rules::WIDTH, |d| d.mmio.write(0x70, &[0, 0])),
    ("a crooked register", rules::WIDTH, |d| d.mmio.read(0x72, &mut [0; 4])),
    ("a crooked configuration field", rules::WIDTH, |d| d.mmio.read(0x101, &mut [0; 4])),
    ("a read where nothing is", rules::NO_REGISTER, |d| {
        d.get(0x18);
    }),
    ("a write where nothing is", rules::NO_REGISTER, |d| d.set(0xf8, 1)),
    ("a read-only register written", rules::DIRECTION, |d| d.set(reg::VERSION, 2)),
    ("a write-only register read", rules::DIRECTION, |d| {
        d.get(reg::QUEUE_NOTIFY);
    }),
    ("a legacy register written", rules::LEGACY, |d| d.set(reg::GUEST_PAGE_SIZE, 4096)),
    ("a legacy register read", rules::LEGACY, |d| {
        d.get(reg::QUEUE_PFN);
    }),
    ("a read-only configuration field", rules::CONFIG_WRITE, |d| d.mmio.write(0x100, &[1])),
    ("an interrupt that is none", rules::INTERRUPT_ACK, |d| d.set(reg::INTERRUPT_ACK, 4)),
    ("a status bit that is none", rules::STATUS_BITS, |d| {
        let now = d.get(reg::STATUS);
        d.set(reg::STATUS, now | 0x20);
    }),
    ("a queue that is none", rules::QUEUE_SEL, |d| {
        d.set(reg::QUEUE_SEL, 2);
        d.set(reg::QUEUE_NUM, 4);
    }),
    ("a doorbell of a queue that is none", rules::NOTIFY, |d| d.set(reg::QUEUE_NOTIFY, 7)),
];

/// Mistakes that a driver can make when the device is live.
const LIVE: [Breach; 6] = [
    ("a status bit cleared", rules::STATUS_CLEARED, |d| d.set(reg::STATUS, 7)),
    ("features after FEATURES_OK", rules::FEATURES_SETTLED, |d| d.set(reg::DRIVER_FEATURES, 0)),
    ("a live queue moved", rules::QUEUE_LIVE, |d| d.set(reg::QUEUE_DESC, 0x6000)),
    ("a live queue resized", rules::QUEUE_LIVE, |d| d.set(reg::QUEUE_NUM, 4)),
    ("a queue reset without RING_RESET", rules::QUEUE_RESET, |d| d.set(reg::QUEUE_RESET, 1)),
    ("a doorbell of a queue that is not ready", rules::NOTIFY, |d| d.set(reg::QUEUE_NOTIFY, 1)),
];

fn live(d: &mut VirtioDriver, log: &Log) {
    d.restart(0, 8);
    told(log);
    d.line.take();
}

#[test]
fn a_strict_device_needs_a_reset_after_each_breach_and_a_lenient_one_works_on() {
    for (policy, strict) in [(Policy::Lenient, false), (Policy::Strict, true)] {
        for (name, rule, breach) in AT_ANY_TIME.into_iter().chain(LIVE) {
            let (mut d, log) = driver(policy);
            live(&mut d, &log);
            assert_eq!(d.complaints.last(), None, "{name}");
            breach(&mut d);
            assert_eq!(d.complaints.count(rule), 1, "{name}");
            let said = d.complaints.last().unwrap();
            assert!(said.ends_with(&format!("[{rule}]")), "{name}: {said}");
            assert_eq!(d.needs_reset(), strict, "{name}");
            let config = u32::from(strict) * INTERRUPT_CONFIG;
            assert_eq!((d.take_interrupts(), d.line.take()), (config, strict.into()), "{name}");
            // The next doorbell: served, or ignored.
            told(&log);
            d.kick();
            let served = if strict { vec![] } else { vec!["service 0".to_owned()] };
            assert_eq!(told(&log), served, "{name}");
            live(&mut d, &log);
            d.kick();
            assert_eq!(
                (told(&log), d.needs_reset()),
                (vec!["service 0".to_owned()], false),
                "{name}"
            );
        }
    }
}

#[test]
fn a_strict_device_is_silent_on_the_line_before_it_is_live() {
    for (name, rule, breach) in AT_ANY_TIME {
        for steps in 0..3 {
            let (mut d, _) = driver(Policy::Strict);
            for status in [ACKNOWLEDGE, ACKNOWLEDGE | DRIVER].iter().take(steps) {
                d.set(reg::STATUS, *status);
            }
            breach(&mut d);
            assert_eq!((d.complaints.count(rule), d.needs_reset()), (1, true), "{name}");
            assert_eq!((d.get(reg::INTERRUPT_STATUS), d.line.take()), (0, 0), "{name}");
        }
    }
}

#[test]
fn a_strict_device_refuses_an_address_that_is_written_with_64_bits() {
    let (mut d, _) = driver(Policy::Strict);
    d.mmio.write(0x80, &[0; 8]);
    assert_eq!((d.complaints.count(rules::WIDTH), d.needs_reset()), (1, true));
}

#[test]
fn features_that_cannot_be_used_are_refused_by_features_ok() {
    // (accepted, what a lenient device says, what a strict one says)
    let version_1 = feature::VERSION_1;
    for (accepted, lenient, strict) in [
        (version_1 | OFFERED, true, true),
        (version_1, true, true),
        (0, true, false),
        (OFFERED, true, false),
        (version_1 | 1 << 5, false, false),
        (version_1 | 1 << 63, false, false),
    ] {
        for (policy, kept) in [(Policy::Lenient, lenient), (Policy::Strict, strict)] {
            let (mut d, _) = driver(policy);
            assert_eq!(d.negotiate(accepted), kept, "{accepted:#x} {policy:?}");
            let said =
                d.complaints.count(rules::VERSION_1) + d.complaints.count(rules::FEATURES_SUBSET);
            assert_eq!(said, u64::from(!kept || accepted & version_1 == 0), "{accepted:#x}");
            // A refusal does not stop the device: the driver may try again.
            assert!(!d.needs_reset());
            d.set(reg::STATUS, 0);
            assert!(d.negotiate(version_1));
        }
    }
}

#[test]
fn a_strict_device_takes_the_steps_of_the_handshake_in_their_order_only() {
    let steps: [(&str, &[u32]); 4] = [
        ("FEATURES_OK at once", &[FEATURES_OK]),
        ("FEATURES_OK without DRIVER", &[ACKNOWLEDGE, ACKNOWLEDGE | FEATURES_OK]),
        ("DRIVER_OK at once", &[DRIVER_OK]),
        (
            "DRIVER_OK without FEATURES_OK",
            &[ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | DRIVER_OK],
        ),
    ];
    for (name, writes) in steps {
        for (policy, strict) in [(Policy::Lenient, false), (Policy::Strict, true)] {
            let (mut d, log) = driver(policy);
            d.set(reg::DRIVER_FEATURES_SEL, 1);
            d.set(reg::DRIVER_FEATURES, 1);
            for write in writes {
                d.set(reg::STATUS, *write);
            }
            assert_ne!(d.complaints.count(rules::STATUS_ORDER), 0, "{name}");
            let last = writes.last().unwrap() & (FEATURES_OK | DRIVER_OK);
            let kept = d.get(reg::STATUS) & last != 0;
            assert_eq!(kept, !strict, "{name} {policy:?}");
            let activated = told(&log).iter().any(|line| line.starts_with("activate"));
            assert_eq!(activated, !strict && last == DRIVER_OK, "{name} {policy:?}");
            assert_eq!(d.needs_reset(), strict, "{name} {policy:?}");
            assert_eq!(d.line.take(), 0, "{name} {policy:?}");
        }
    }
}

#[test]
fn a_strict_device_wants_features_settled_before_queues() {
    for (policy, strict) in [(Policy::Lenient, false), (Policy::Strict, true)] {
        let (mut d, _) = driver(policy);
        d.set(reg::STATUS, ACKNOWLEDGE);
        d.set(reg::STATUS, ACKNOWLEDGE | DRIVER);
        d.set_up_queue(8);
        assert_ne!(d.complaints.count(rules::QUEUE_EARLY), 0);
        assert_eq!((d.needs_reset(), d.line.take()), (strict, 0));
    }
}

#[test]
fn a_queue_that_cannot_be_is_a_breach_and_never_ready() {
    for (policy, strict) in [(Policy::Lenient, false), (Policy::Strict, true)] {
        for size in [0, 3, 257, 0x1_0008] {
            let (mut d, _) = driver(policy);
            assert!(d.negotiate(feature::VERSION_1));
            assert!(!d.set_up_queue(size));
            assert_eq!((d.complaints.count(rules::QUEUE_LAYOUT), d.needs_reset()), (1, strict));
        }
        // Live with nothing to serve.
        let (mut d, log) = driver(policy);
        assert!(d.negotiate(feature::VERSION_1));
        d.go_live();
        assert_eq!((d.complaints.count(rules::NO_QUEUE), d.needs_reset()), (1, strict));
        assert_eq!(told(&log), ["reset", "activate 0x100000000 [None, None]"]);
    }
}

#[test]
fn a_doorbell_before_driver_ok_serves_nothing_and_what_was_offered_waits() {
    for (policy, strict) in [(Policy::Lenient, false), (Policy::Strict, true)] {
        let (mut d, log) = driver(policy);
        assert!(d.negotiate(feature::VERSION_1));
        assert!(d.set_up_queue(8));
        told(&log);
        d.kick();
        assert_eq!((d.complaints.count(rules::NOTIFY), d.needs_reset()), (1, strict));
        assert_eq!((told(&log), d.line.take()), (vec![], 0));
        d.go_live();
        assert_eq!(told(&log), ["activate 0x100000000 [Some(8), None]"]);
    }
}

#[test]
fn a_line_of_a_strict_device_says_that_it_needs_a_reset_and_one_of_a_lenient_device_what_became_of_the_write()
 {
    for (policy, strict) in [(Policy::Lenient, false), (Policy::Strict, true)] {
        for (name, _, breach) in AT_ANY_TIME.into_iter().chain(LIVE) {
            let (mut d, log) = driver(policy);
            live(&mut d, &log);
            breach(&mut d);
            let said = d.complaints.last().unwrap();
            assert_eq!(
                said.contains("strict: the device now needs a reset ["),
                strict,
                "{name}: {said}"
            );
            for word in ["ignored", "stay", "accepted"] {
                assert!(!strict || !said.contains(word), "{name}: {said}");
            }
        }
        let (mut d, _) = driver(policy);
        d.set(reg::STATUS, ACKNOWLEDGE | DRIVER);
        d.set(reg::QUEUE_NUM, 8);
        let fate = if strict { "strict: the device now needs a reset" } else { "accepted" };
        let rule = rules::QUEUE_EARLY;
        let said =
            format!("probe: QueueNum was written for queue 0 before FEATURES_OK; {fate} [{rule}]");
        assert_eq!(d.complaints.last().unwrap(), said);
    }
}

#[test]
fn the_first_doorbell_that_a_strict_device_drops_says_why() {
    let (mut d, log) = driver(Policy::Strict);
    for round in 1..3 {
        live(&mut d, &log);
        d.set(reg::QUEUE_NUM, 4);
        for _ in 0..100 {
            d.kick();
        }
        assert_eq!((told(&log), d.complaints.count(rules::NEEDS_RESET)), (vec![], round));
        let why = "the device needs a reset since this rule was broken: virtio 1.4, 4.2.2.2: a queue in use is not set \
                   up again";
        let said = format!(
            "probe: QueueNotify was written with queue 0, but {why}; ignored [{}]",
            rules::NEEDS_RESET
        );
        assert_eq!(d.complaints.last().unwrap(), said);
    }
    // Before DRIVER_OK, too.
    d.set(reg::STATUS, 0);
    d.set(reg::STATUS, ACKNOWLEDGE);
    d.set(reg::VERSION, 1);
    d.kick();
    assert_eq!(d.complaints.count(rules::NEEDS_RESET), 3);
    assert!(d.complaints.last().unwrap().contains(rules::DIRECTION));
}

#[test]
fn a_doorbell_that_a_broken_lenient_device_drops_says_why() {
    let (mut d, log) = driver(Policy::Lenient);
    live(&mut d, &log);
    d.mmio.signals.needs_reset();
    for _ in 0..100 {
        d.kick();
    }
    let said = format!(
        "probe: QueueNotify was written with queue 0, but the device needs a reset; ignored [{}]",
        rules::NEEDS_RESET
    );
    assert_eq!((d.complaints.last(), told(&log)), (Some(said), vec![]));
    assert_eq!(d.complaints.count(rules::NEEDS_RESET), 1);
}
