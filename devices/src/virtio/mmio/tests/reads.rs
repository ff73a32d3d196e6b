//! The values of registers, which are in memory at any time.

use super::*;
use crate::register_page::RegisterPage;
use crate::testing::CountingLine;

#[test]
fn the_configuration_space_takes_any_aligned_width() {
    let (d, log, complaints) = probe();
    for (offset, width) in [(0x100, 8), (0x104, 4), (0x106, 2), (0x107, 1), (0x1ff, 1)] {
        let mut data = vec![0; width];
        d.mmio.read(offset, &mut data);
        let expected: Vec<_> =
            (0..width).map(|n| (offset as u8).wrapping_add(n as u8 + 1)).collect();
        assert_eq!(data, expected);
    }
    d.mmio.write(0x120, &[1]);
    assert_eq!(complaints.count(rules::CONFIG_WRITE), 0);
    d.mmio.write(0x124, &[7, 7]);
    assert_eq!(complaints.count(rules::CONFIG_WRITE), 1);
    assert_eq!(told(&log), ["config 32 [1]", "config 36 [7, 7]"]);
}

#[test]
fn an_empty_slot_is_a_slot_with_no_device() {
    let slot = EmptySlot::new(
        7,
        Version::Modern,
        Window::default(),
        Reporter::new("slots", Tap::default()),
    );
    for offset in (0..SLOT_SIZE).step_by(4) {
        let mut data = [0xee; 4];
        slot.write(offset, &[0xff; 4]);
        slot.read(offset, &mut data);
        let expected = match offset {
            0x0 => 0x7472_6976,
            0x4 => 2,
            0xc => 0x554d_4551,
            _ => 0,
        };
        assert_eq!(u32::from_le_bytes(data), expected, "{offset:#x}");
    }
    for width in [1, 2, 8] {
        let mut data = vec![0xee; width];
        slot.read(0, &mut data);
        assert_eq!(data, vec![0; width]);
    }
}

/// Every status, reached in a legal way, and every write of a status to it.
/// A guest that reads the mapped memory gets the same values as from the device, after any action.
#[test]
fn the_registers_can_be_read_without_the_device() {
    let page = RegisterPage::new();
    let window = page.slot(0x600).unwrap();
    let (mut d, ..) = probe_with(MmioOptions { window: window.clone(), ..MmioOptions::default() });
    let seen = |register| {
        let mut word = [0; 4];
        window.read(register, &mut word);
        u32::from_le_bytes(word)
    };
    assert_eq!((seen(0), seen(4), seen(8), seen(12)), (0x7472_6976, 2, 2, 0x554d_4551));
    assert_eq!((seen(reg::STATUS), seen(0x100), seen(0x1fc)), (0, 0x0403_0201, 0x00ff_fefd));
    d.set(reg::DEVICE_FEATURES_SEL, 1);
    let offered = OFFERED | feature::VERSION_1 | feature::RING_RESET;
    assert_eq!(u64::from(seen(reg::DEVICE_FEATURES)), offered >> 32);
    assert!(d.negotiate(feature::VERSION_1));
    assert_eq!(seen(reg::STATUS), 11);
    assert!(d.set_up_queue(8));
    assert_eq!((seen(reg::QUEUE_READY), seen(reg::QUEUE_NUM_MAX)), (1, 256));
    d.set(reg::QUEUE_SEL, 1);
    assert_eq!((seen(reg::QUEUE_READY), seen(reg::QUEUE_NUM_MAX)), (0, 4));
    d.set(reg::QUEUE_SEL, 2);
    assert_eq!((seen(reg::QUEUE_READY), seen(reg::QUEUE_NUM_MAX)), (0, 0));
    d.go_live();
    assert_eq!((seen(reg::STATUS), seen(reg::INTERRUPT_STATUS)), (15, 0));
    d.mmio.signals.used_buffers();
    assert_eq!(seen(reg::INTERRUPT_STATUS), 1);
    d.set(reg::INTERRUPT_ACK, 1);
    assert_eq!(seen(reg::INTERRUPT_STATUS), 0);
    assert_eq!(seen(reg::CONFIG_GENERATION), 0);
    d.mmio.reconfigure(|| Ok::<_, ()>(true)).unwrap();
    assert_eq!((seen(reg::CONFIG_GENERATION), seen(reg::INTERRUPT_STATUS)), (1, 2));
    d.mmio.signals.needs_reset();
    assert_eq!(seen(reg::STATUS), 15 | 64);
    d.set(reg::STATUS, 0);
    assert_eq!((seen(reg::STATUS), seen(reg::INTERRUPT_STATUS)), (0, 0));
}

#[test]
fn whoever_asked_is_told_of_the_drivers_taking_over() {
    let told = CountingLine::default();
    let driver_ok: Option<Arc<dyn Wake>> = Some(Arc::new(told.clone()));
    let (mut d, ..) = probe_with(MmioOptions { driver_ok, ..MmioOptions::default() });
    assert!(d.negotiate(feature::VERSION_1));
    assert!(d.set_up_queue(8));
    assert_eq!((told.take(), d.mmio.was_used()), (0, false));
    d.go_live();
    assert_eq!((told.take(), d.mmio.was_used()), (1, true));
}
