use super::*;
use crate::virtio::queue::{QueueLayout, RingRules};

const DESC: u64 = 0x1000;
const TABLE: u64 = 0x8000;
const SIZE: u16 = 8;

fn queue() -> SplitQueue {
    let ram = GuestRam::anonymous(&[(0, 0x1_0000)]).unwrap();
    let layout = QueueLayout { size: SIZE.into(), desc: DESC, avail: 0x2000, used: 0x3000 };
    SplitQueue::new(&ram, layout, 256, RingRules::default()).unwrap()
}

/// A walk without an observer.
fn walk(queue: &SplitQueue, head: u16, indirect: bool) -> Result<Chain, ChainError> {
    let mut chain = Chain::default();
    chain.walk(queue, head, indirect, |_| ()).map(|()| chain)
}

fn put(queue: &SplitQueue, at: u64, addr: u64, len: u32, flags: u16, next: u16) {
    let mut bytes = addr.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    queue.ram().write(at, &bytes).unwrap();
}

fn desc(queue: &SplitQueue, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
    put(queue, DESC + 16 * u64::from(index), addr, len, flags, next);
}

#[test]
fn a_chain_is_split_into_what_is_read_and_what_is_written() {
    let queue = queue();
    desc(&queue, 5, 0x4000, 16, DESC_NEXT, 2);
    desc(&queue, 2, 0x5000, 0, DESC_NEXT, 7);
    desc(&queue, 7, 0x6000, 100, DESC_NEXT | DESC_WRITE, 0);
    desc(&queue, 0, 0x7000, 1, DESC_WRITE, 3);
    let chain = walk(&queue, 5, false).unwrap();
    assert_eq!((chain.head, chain.readable.len(), chain.writable.len()), (5, 16, 101));
    assert_eq!((chain.last_writable, chain.flaw), (Some(0x7000), None));
    // An empty buffer at the end does not hide the last byte.
    desc(&queue, 0, 0x7000, 0, DESC_WRITE, 0);
    assert_eq!(walk(&queue, 5, false).unwrap().last_writable, Some(0x6063));
}

#[test]
fn a_chain_may_be_as_long_as_the_queue_but_not_longer_and_no_circle() {
    let queue = queue();
    for n in 0..SIZE {
        desc(&queue, n, 0x4000, 1, if n == SIZE - 1 { 0 } else { DESC_NEXT }, n + 1);
    }
    assert_eq!(walk(&queue, 0, false).unwrap().readable.len(), 8);
    for back_to in 0..SIZE {
        desc(&queue, SIZE - 1, 0x4000, 1, DESC_NEXT, back_to);
        assert_eq!(
            walk(&queue, 0, false).unwrap_err(),
            ChainError::TooLong { head: 0, most: SIZE }
        );
    }
}

#[test]
fn indices_outside_the_table_are_seen() {
    let queue = queue();
    for head in [SIZE, SIZE + 1, 0xffff] {
        let error = walk(&queue, head, false).unwrap_err();
        assert_eq!(error, ChainError::HeadOutOfTable { head, size: SIZE });
    }
    for next in [SIZE, 0xffff] {
        desc(&queue, 3, 0x4000, 1, DESC_NEXT, next);
        let error = walk(&queue, 3, false).unwrap_err();
        assert_eq!(error, ChainError::NextOutOfTable { index: 3, next, size: SIZE.into() });
    }
    // Without NEXT the field means nothing.
    desc(&queue, 3, 0x4000, 1, 0, 0xffff);
    assert!(walk(&queue, 3, false).is_ok());
}

#[test]
fn buffers_out_of_ram_are_a_flaw_of_a_chain_that_has_an_end() {
    let queue = queue();
    for (addr, len) in [
        (0x1_0000, 1),
        (0xffff, 2),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX - 1, 0xffff_ffff),
        (0xcafe_0000, 4),
    ] {
        for flag in [0, DESC_WRITE] {
            desc(&queue, 0, addr, len, DESC_NEXT | flag, 1);
            desc(&queue, 1, 0x4000, 1, DESC_WRITE, 0);
            let chain = walk(&queue, 0, false).unwrap();
            let error = OutOfRam { addr, len: len.into() };
            assert_eq!(chain.flaw, Some(Flaw::NotInRam(error)));
            assert_eq!(chain.last_writable, Some(0x4000));
        }
    }
}

#[test]
fn what_is_read_stands_before_what_is_written() {
    let queue = queue();
    desc(&queue, 0, 0x4000, 16, DESC_NEXT, 1);
    desc(&queue, 1, 0x5000, 1, DESC_NEXT | DESC_WRITE, 2);
    desc(&queue, 2, 0x6000, 512, 0, 0);
    let chain = walk(&queue, 0, false).unwrap();
    assert_eq!((chain.flaw, chain.last_writable), (Some(Flaw::OutOfOrder), Some(0x5000)));
}

#[test]
fn an_indirect_table_stands_for_its_descriptors() {
    let queue = queue();
    desc(&queue, 0, 0x4000, 8, DESC_NEXT, 1);
    // WRITE on the descriptor of the table means nothing (2.7.5.3.2).
    desc(&queue, 1, TABLE, 48, DESC_INDIRECT | DESC_WRITE, 0xffff);
    put(&queue, TABLE, 0x4008, 8, DESC_NEXT, 2);
    put(&queue, TABLE + 32, 0x5000, 512, DESC_NEXT | DESC_WRITE, 1);
    put(&queue, TABLE + 16, 0x6000, 1, DESC_WRITE, 0);
    let chain = walk(&queue, 0, true).unwrap();
    assert_eq!((chain.readable.len(), chain.writable.len()), (16, 513));
    assert_eq!((chain.last_writable, chain.flaw), (Some(0x6000), None));
}

#[test]
fn an_observer_sees_each_descriptor_as_it_was_read_also_the_one_that_breaks_the_chain() {
    let queue = queue();
    desc(&queue, 3, 0x4000, 16, DESC_NEXT, 1);
    desc(&queue, 1, TABLE, 32, DESC_INDIRECT, 7);
    put(&queue, TABLE, 0x5000, 512, DESC_NEXT | DESC_WRITE, 1);
    put(&queue, TABLE + 16, 0x6000, 1, DESC_NEXT | DESC_WRITE, 9);
    let seen = std::cell::RefCell::new(vec![]);
    let walked = Chain::default().walk(&queue, 3, true, |descriptor| {
        let DescriptorInfo { index, in_indirect_table, addr, len, flags, next } = descriptor;
        seen.borrow_mut().push((index, in_indirect_table, addr, len, flags, next));
    });
    assert_eq!(walked.unwrap_err(), ChainError::NextOutOfTable { index: 1, next: 9, size: 2 });
    assert_eq!(
        seen.into_inner(),
        [
            (3, false, 0x4000, 16, DESC_NEXT, 1),
            (1, false, TABLE, 32, DESC_INDIRECT, 7),
            (0, true, 0x5000, 512, DESC_NEXT | DESC_WRITE, 1),
            (1, true, 0x6000, 1, DESC_NEXT | DESC_WRITE, 9),
        ]
    );
}

#[test]
fn an_indirect_table_is_bounded_by_its_own_length_and_the_queues() {
    let queue = queue();
    let walked = || walk(&queue, 0, true).map(drop);
    let tables = u32::from(SIZE) + 1;
    for n in 0..u64::from(tables) {
        put(&queue, TABLE + 16 * n, 0x4000, 1, DESC_NEXT, n as u16 + 1);
    }
    desc(&queue, 0, TABLE, 16 * 3, DESC_INDIRECT, 0);
    assert_eq!(walked(), Err(ChainError::NextOutOfTable { index: 2, next: 3, size: 3 }));
    // Longer than the queue, or a circle.
    desc(&queue, 0, TABLE, 16 * tables, DESC_INDIRECT, 0);
    assert_eq!(walked(), Err(ChainError::TooLong { head: 0, most: SIZE }));
    put(&queue, TABLE + 16 * 7, 0x4000, 1, 0, 0);
    assert_eq!(walked(), Ok(()));
    for len in [0, 1, 15, 17, 0xffff_ffff] {
        desc(&queue, 0, TABLE, len, DESC_INDIRECT, 0);
        assert_eq!(walked(), Err(ChainError::IndirectLength { index: 0, len }));
    }
    for (addr, len) in [(0xfff0, 32), (u64::MAX - 15, 16), (TABLE, 0xffff_fff0)] {
        desc(&queue, 0, addr, len, DESC_INDIRECT, 0);
        assert!(matches!(walked(), Err(ChainError::IndirectNotInRam { index: 0, .. })));
    }
}

#[test]
fn an_indirect_table_is_nowhere_but_at_the_end_of_the_queues_own_chain() {
    let queue = queue();
    let misplaced = |e| matches!(e, ChainError::IndirectMisplaced { index: 0, .. });
    desc(&queue, 0, TABLE, 16, DESC_INDIRECT, 0);
    assert_eq!(walk(&queue, 0, false).unwrap_err(), ChainError::IndirectNotNegotiated { index: 0 });
    put(&queue, TABLE, TABLE, 16, DESC_INDIRECT, 0);
    assert!(misplaced(walk(&queue, 0, true).unwrap_err()));
    put(&queue, TABLE, 0x4000, 1, 0, 0);
    desc(&queue, 0, TABLE, 16, DESC_INDIRECT | DESC_NEXT, 1);
    assert!(misplaced(walk(&queue, 0, true).unwrap_err()));
}
