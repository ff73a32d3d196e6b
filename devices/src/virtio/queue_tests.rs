use super::*;

const LAYOUT: QueueLayout = QueueLayout { size: 8, desc: 0x1000, avail: 0x2000, used: 0x3000 };

fn ram() -> GuestRam {
    GuestRam::anonymous(&[(0, 0x1_0000)]).unwrap()
}

fn queue(event_idx: bool) -> (SplitQueue, GuestRam) {
    let ram = ram();
    let rules = RingRules { event_idx, ..RingRules::default() };
    (SplitQueue::new(&ram, LAYOUT, 256, rules).unwrap(), ram)
}

#[test]
fn a_size_is_a_power_of_two_and_compared_before_it_is_narrowed() {
    let make = |size| {
        SplitQueue::new(&ram(), QueueLayout { size, ..LAYOUT }, 256, RingRules::default()).map(drop)
    };
    for size in [1, 2, 4, 128, 256] {
        assert_eq!(make(size), Ok(()), "{size}");
    }
    for size in [0, 3, 5, 255, 257, 512, 0x8000, 0x1_0000, 0x1_0008, 0x8000_0000, u32::MAX] {
        assert_eq!(make(size), Err(QueueError::Size { size, max: 256 }), "{size}");
    }
}

#[test]
fn each_part_is_aligned() {
    for (layout, area, addr, align) in [
        (QueueLayout { desc: 0x1008, ..LAYOUT }, "descriptor table", 0x1008, 16),
        (QueueLayout { avail: 0x2001, ..LAYOUT }, "available ring", 0x2001, 2),
        (QueueLayout { used: 0x3002, ..LAYOUT }, "used ring", 0x3002, 4),
    ] {
        let made = SplitQueue::new(&ram(), layout, 256, RingRules::default()).map(drop);
        assert_eq!(made, Err(QueueError::Unaligned { area, addr, align }));
    }
}

#[test]
fn each_part_lies_in_ram_to_its_last_byte() {
    // The last places at which each part of 8 entries fits: 128, 22 and 70 bytes.
    let (desc, avail, used) = (0x1_0000 - 128, 0x1_0000 - 22, 0x1_0000 - 72);
    for layout in [
        QueueLayout { desc, ..LAYOUT },
        QueueLayout { avail, ..LAYOUT },
        QueueLayout { used, ..LAYOUT },
    ] {
        assert!(SplitQueue::new(&ram(), layout, 256, RingRules::default()).is_ok(), "{layout:x?}");
    }
    for layout in [
        QueueLayout { desc: desc + 16, ..LAYOUT },
        QueueLayout { avail: avail + 2, ..LAYOUT },
        QueueLayout { used: used + 4, ..LAYOUT },
        QueueLayout { desc: u64::MAX - 15, ..LAYOUT },
        QueueLayout { avail: u64::MAX - 1, ..LAYOUT },
        QueueLayout { used: u64::MAX - 3, ..LAYOUT },
        QueueLayout { desc: 0xcafe_0000, ..LAYOUT },
    ] {
        let error =
            SplitQueue::new(&ram(), layout, 256, RingRules::default()).map(drop).unwrap_err();
        assert!(matches!(error, QueueError::NotInRam { .. }), "{layout:x?}: {error}");
    }
}

#[test]
fn heads_come_in_order_and_wrap_around() {
    let (mut queue, ram) = queue(false);
    let mut idx = 0u16;
    // Three times around all 65536 values of the index, in uneven steps.
    for step in (1..=8u16).cycle().take(40_000) {
        for n in 0..step {
            let slot = u64::from(idx.wrapping_add(n) % 8);
            ram.write(0x2004 + 2 * slot, &(idx.wrapping_add(n) & 0xff).to_le_bytes()).unwrap();
        }
        ram.store_u16(0x2002, idx.wrapping_add(step)).unwrap();
        for n in 0..step {
            assert_eq!(queue.pop(), Ok(Some(idx.wrapping_add(n) & 0xff)));
            queue.push(0, 1);
        }
        assert_eq!(queue.pop(), Ok(None));
        idx = idx.wrapping_add(step);
    }
}

#[test]
fn an_index_too_far_ahead_is_no_work() {
    for ahead in [9, 0x8000, 0xffff] {
        let (mut queue, ram) = queue(false);
        ram.store_u16(0x2002, ahead).unwrap();
        for _ in 0..2 {
            assert_eq!(queue.pop(), Err(QueueError::TooFarAhead { idx: ahead, ahead, size: 8 }));
        }
    }
    let (mut queue, ram) = queue(false);
    ram.store_u16(0x2002, 8).unwrap();
    for _ in 0..8 {
        assert_eq!(queue.pop(), Ok(Some(0)));
    }
    assert_eq!(queue.pop(), Ok(None));
}

#[test]
fn used_elements_stand_before_the_index_moves_on() {
    let (mut queue, ram) = queue(false);
    for n in 0..20u16 {
        queue.push(n, 0x1234_5678);
        let slot = u64::from(n % 8);
        let mut expected = [0; 8];
        expected[..2].copy_from_slice(&n.to_le_bytes());
        expected[4..].copy_from_slice(&0x1234_5678u32.to_le_bytes());
        assert_eq!(ram.read::<8>(0x3004 + 8 * slot), Ok(expected));
        // The driver sees it after the publication.
        assert_eq!(ram.load_u16(0x3002), Ok(n));
        queue.publish();
        assert_eq!(ram.load_u16(0x3002), Ok(n + 1));
    }
    // Neither the flags nor what lies behind the ring was touched.
    assert_eq!(ram.read::<2>(0x3000), Ok([0; 2]));
    assert_eq!(ram.read::<2>(0x3004 + 64), Ok([0; 2]));
}

#[test]
fn an_interrupt_is_wanted_once_for_what_is_new_and_never_against_the_flag() {
    let (mut queue, ram) = queue(false);
    assert_eq!(queue.wants_interrupt(), None);
    queue.push(0, 1);
    queue.push(1, 1);
    assert_eq!(queue.wants_interrupt(), None);
    queue.publish();
    assert_eq!(queue.wants_interrupt(), Some(Interrupt::Wanted));
    assert_eq!(queue.wants_interrupt(), None);
    ram.store_u16(0x2000, AVAIL_NO_INTERRUPT).unwrap();
    queue.push(2, 1);
    queue.publish();
    assert_eq!(queue.wants_interrupt(), Some(Interrupt::Suppressed(Suppression::Flag)));
}

#[test]
fn with_event_idx_an_interrupt_is_wanted_when_the_event_is_crossed() {
    let used_event = 0x2004 + 2 * 8;
    for start in [0, 5, 0xfffd, 0xffff] {
        for pushed in 0..6u16 {
            for event in 0..8u16 {
                let (mut queue, ram) = queue(true);
                queue.next_used = start;
                queue.published = start;
                queue.signalled = start;
                // NO_INTERRUPT means nothing here.
                ram.store_u16(0x2000, AVAIL_NO_INTERRUPT).unwrap();
                ram.store_u16(used_event, start.wrapping_add(event)).unwrap();
                for n in 0..pushed {
                    queue.push(n, 0);
                }
                queue.publish();
                assert_eq!(
                    queue.wants_interrupt() == Some(Interrupt::Wanted),
                    event < pushed,
                    "{start} {pushed} {event}"
                );
            }
        }
    }
}

#[test]
fn what_came_before_avail_event_was_written_is_not_left_lying() {
    let (mut queue, ram) = queue(true);
    let avail_event = 0x3004 + 8 * 8;
    ram.store_u16(0x2002, 1).unwrap();
    assert_eq!((queue.pop(), queue.pop()), (Ok(Some(0)), Ok(None)));
    // The driver saw the old avail_event, and rings no bell for this one.
    ram.store_u16(0x2002, 2).unwrap();
    assert!(queue.rearm());
    assert_eq!(ram.load_u16(avail_event), Ok(1));
    assert_eq!((queue.pop(), queue.pop()), (Ok(Some(0)), Ok(None)));
    assert!(!queue.rearm());
    assert_eq!(ram.load_u16(avail_event), Ok(2));
    let (mut queue, ram) = self::queue(false);
    ram.store_u16(0x2002, 1).unwrap();
    assert!(!queue.rearm());
    assert_eq!(ram.load_u16(avail_event), Ok(0));
}

#[test]
fn no_more_chains_are_in_use_than_there_are_entries() {
    let (mut queue, ram) = queue(false);
    ram.store_u16(0x2002, 8).unwrap();
    for _ in 0..8 {
        assert_eq!(queue.pop(), Ok(Some(0)));
    }
    ram.store_u16(0x2002, 10).unwrap();
    assert_eq!(queue.pop(), Err(QueueError::TooManyInUse { size: 8 }));
    queue.push(0, 1);
    assert_eq!(queue.pop(), Ok(Some(0)));
    assert_eq!(queue.pop(), Err(QueueError::TooManyInUse { size: 8 }));
}
