//! An input device with a driver, for tests.

use std::sync::Arc;

use cafevm_devices::observe::Tap;
use cafevm_devices::testing::Ring;
use cafevm_devices::testing::virtio_driver::{DATA, LARGE, VirtioDriver, reg};
use cafevm_devices::virtio::input::{Input, InputEvent, InputKind};
use cafevm_devices::virtio::mmio::MmioOptions;
use cafevm_devices::virtio::spec::feature::VERSION_1;
use cafevm_devices::virtio::spec::input::{EV_LED, EV_SYN, LED_CAPSL};

/// The buffers that a driver gives.
const BUFFERS: u16 = 64;

/// A device and its driver.
pub(crate) struct TestInput {
    pub(crate) input: Arc<Input>,
    driver: VirtioDriver,
    status: Ring,
}

impl TestInput {
    /// With a driver that has given buffers.
    pub(crate) fn new(kind: InputKind) -> Self {
        let mut tested = Self::without_buffers(kind);
        tested.give();
        tested
    }

    /// With a driver that has given no buffer yet.
    pub(crate) fn without_buffers(kind: InputKind) -> Self {
        let input = Arc::new(Input::new("input", kind, "", Tap::default()));
        let mut driver = VirtioDriver::of(input.clone(), MmioOptions::default());
        let mut status = Ring::contiguous(8, LARGE, 4);
        assert!(driver.negotiate(VERSION_1));
        assert!(driver.set_up_queue(BUFFERS.into()));
        assert!(driver.set_up_ring(1, &mut status));
        driver.go_live();
        Self { input, driver, status }
    }

    /// Gives all buffers.
    pub(crate) fn give(&mut self) {
        for index in 0..BUFFERS {
            self.offer(index);
        }
        self.driver.kick();
    }

    fn offer(&mut self, index: u16) {
        self.driver.chain(index, &[(DATA + 8 * u64::from(index), 8, true)]);
        self.driver.offer(index);
    }

    /// The groups of events since the last call, without their ends; the buffers are given again.
    pub(crate) fn groups(&mut self) -> Vec<Vec<InputEvent>> {
        let (mut groups, mut group) = (Vec::new(), Vec::new());
        while let Some((head, _)) = self.driver.pop() {
            let bytes = self.driver.bytes(DATA + 8 * u64::from(head), 8);
            let event = InputEvent::from_bytes(bytes.try_into().unwrap());
            if event.kind == EV_SYN {
                groups.push(std::mem::take(&mut group));
            } else {
                group.push(event);
            }
            self.offer(u16::try_from(head).unwrap());
            self.driver.kick();
        }
        assert!(group.is_empty());
        groups
    }

    /// The keys since the last call, each with whether it went down.
    pub(crate) fn keys(&mut self) -> Vec<(u16, bool)> {
        let key = |group: Vec<InputEvent>| match group[..] {
            [InputEvent { kind: _, code, value }] => (code, value == 1),
            _ => panic!("{group:?}"),
        };
        self.groups().into_iter().map(key).collect()
    }

    /// The driver sets the LED of Caps Lock.
    pub(crate) fn set_caps_lock(&mut self, on: bool) {
        let event = InputEvent { kind: EV_LED, code: LED_CAPSL, value: on.into() };
        self.driver.write(DATA + 0x1000, &event.to_bytes());
        self.status.chain(&self.driver.ram, 0, &[(DATA + 0x1000, 8, false)]);
        self.status.offer(&self.driver.ram, 0);
        self.driver.kick_queue(1);
        assert_eq!(self.input.leds().caps_lock, on);
    }

    /// The driver resets the device.
    pub(crate) fn stop(&mut self) {
        self.driver.set(reg::STATUS, 0);
    }
}
