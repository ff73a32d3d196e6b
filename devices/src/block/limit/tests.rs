//! Lanes of a limited disk, with a clock that the test moves.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::block::{
    BlockError, Completion, Disk, Lane, Limits, Operation, Pace, Rate, Request, Storage,
};
use crate::memory::{Buffers, GuestRam};
use crate::testing::{LateStorage, ManualPace, WatchedImage};

const SIZE: usize = 64 << 10;

fn rate(per_second: u64, burst: u64) -> Option<Rate> {
    let number = |n| NonZeroU64::new(n).unwrap();
    Some(Rate { per_second: number(per_second), burst: number(burst) })
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A disk in memory and its clock.
struct Limited {
    disk: Disk,
    image: WatchedImage,
    pace: Arc<ManualPace>,
    ram: GuestRam,
}

impl Limited {
    fn new(limits: Limits) -> Self {
        let image = WatchedImage::new(&[0; SIZE]);
        Self::on(Box::new(image.clone()), image, limits)
    }

    fn on(storage: Box<dyn Storage>, image: WatchedImage, limits: Limits) -> Self {
        let pace = Arc::<ManualPace>::default();
        let disk = Disk::new(storage, "in memory".into(), SIZE as u64, false);
        let disk = disk.paced_by(pace.clone());
        disk.set_limits(limits);
        Self { disk, image, pace, ram: GuestRam::anonymous(&[(0, SIZE)]).unwrap() }
    }

    fn requests(per_second: u64, burst: u64) -> Self {
        Self::new(Limits { requests: rate(per_second, burst), bytes: None })
    }

    fn bytes(per_second: u64, burst: u64) -> Self {
        Self::new(Limits { bytes: rate(per_second, burst), requests: None })
    }

    fn read(&self, len: u64) -> Operation {
        Operation::Read(Buffers::single(self.ram.clone(), 0, len).unwrap())
    }

    fn write(&self, len: u64) -> Operation {
        let data = Buffers::single(self.ram.clone(), 0, len).unwrap();
        Operation::Write { data, durable: false }
    }
}

fn push(lane: &mut Lane, tag: u64, operation: Operation) {
    lane.push(Request { tag, operation, offset: 0 });
    lane.commit();
}

/// The tags of the requests that are finished.
fn reap(lane: &mut Lane) -> Vec<u64> {
    let mut done = Vec::new();
    lane.reap(&mut done);
    done.iter().for_each(|Completion { result, .. }| assert!(result.is_ok(), "{result:?}"));
    done.iter().map(|done| done.request.tag).collect()
}

#[test]
fn requests_begin_in_their_order_when_their_time_has_come() {
    let limited = Limited::requests(100, 2);
    let mut lane = limited.disk.lane().unwrap();
    for tag in 0..5 {
        push(&mut lane, tag, limited.read(512));
    }
    assert_eq!(reap(&mut lane), [0, 1]);
    assert_eq!((limited.disk.delayed(), limited.disk.in_flight()), (3, 0));
    assert_eq!(limited.pace.take_wake(), Some(ms(10)));
    limited.pace.pass(ms(9));
    assert!(reap(&mut lane).is_empty());
    assert_eq!(limited.pace.take_wake(), Some(ms(10)), "asked again");
    limited.pace.pass(ms(1));
    assert_eq!(reap(&mut lane), [2]);
    assert_eq!(limited.pace.take_wake(), Some(ms(20)));
    // Two are due, if the thread comes late.
    limited.pace.pass(ms(25));
    assert_eq!(reap(&mut lane), [3, 4]);
    assert_eq!((limited.disk.delayed(), limited.pace.take_wake()), (0, None));
    assert_eq!(limited.image.log().len(), 5);
}

#[test]
fn bytes_and_requests_are_limited_together_and_each_operation_has_its_cost() {
    let limits = Limits { requests: rate(1000, 1000), bytes: rate(100_000, 1000) };
    let limited = Limited::new(limits);
    assert_eq!(limited.disk.limits(), limits);
    let mut lane = limited.disk.lane().unwrap();
    // The bucket of bytes is empty after this.
    push(&mut lane, 0, limited.write(1000));
    assert_eq!(reap(&mut lane), [0]);
    // These have no bytes that count, and find the debt of none.
    push(&mut lane, 1, Operation::Flush);
    push(&mut lane, 2, Operation::Discard { len: 4096 });
    assert_eq!(reap(&mut lane), [1, 2]);
    push(&mut lane, 3, Operation::WriteZeroes { len: 500, unmap: true, durable: false });
    push(&mut lane, 4, limited.read(500));
    assert_eq!((reap(&mut lane), limited.pace.take_wake()), (vec![], Some(ms(5))));
    limited.pace.pass(ms(10));
    assert_eq!(reap(&mut lane), [3, 4]);
}

#[test]
fn a_request_larger_than_the_burst_begins_and_the_next_one_pays() {
    let limited = Limited::bytes(1000, 100);
    let mut lane = limited.disk.lane().unwrap();
    push(&mut lane, 0, limited.read(600));
    push(&mut lane, 1, limited.read(100));
    assert_eq!(reap(&mut lane), [0]);
    assert_eq!(limited.pace.take_wake(), Some(ms(600)));
}

#[test]
fn lanes_share_the_limits_and_none_starves() {
    let limited = Limited::requests(100, 1);
    let mut lanes: Vec<_> = (0..3).map(|_| limited.disk.lane().unwrap()).collect();
    for round in 0..4 {
        for lane in &mut lanes {
            push(lane, round, limited.read(512));
        }
    }
    let mut finished = Vec::new();
    for _ in 0..12 {
        for (n, lane) in lanes.iter_mut().enumerate() {
            finished.extend(reap(lane).into_iter().map(|tag| (n, tag)));
        }
        limited.pace.pass(ms(10));
    }
    let fair: Vec<_> = (0..4).flat_map(|round| (0..3).map(move |lane| (lane, round))).collect();
    assert_eq!(finished, fair);
}

#[test]
fn a_change_of_the_limits_counts_for_what_is_held() {
    let limited = Limited::requests(1, 1);
    let mut lane = limited.disk.lane().unwrap();
    for tag in 0..6 {
        push(&mut lane, tag, limited.read(512));
    }
    assert_eq!((reap(&mut lane), limited.pace.take_wake()), (vec![0], Some(ms(1000))));
    // Faster: a full bucket of two, then one each 10 ms.
    limited.disk.set_limits(Limits { requests: rate(100, 2), bytes: None });
    assert_eq!((reap(&mut lane), limited.pace.take_wake()), (vec![1, 2], Some(ms(10))));
    // None: everything begins.
    limited.disk.set_limits(Limits::default());
    push(&mut lane, 6, limited.read(512));
    let mut rest = reap(&mut lane);
    rest.sort_unstable();
    assert_eq!((rest, limited.disk.delayed()), (vec![3, 4, 5, 6], 0));
    // And limits again.
    limited.disk.set_limits(Limits { requests: rate(100, 1), bytes: None });
    push(&mut lane, 7, limited.read(512));
    push(&mut lane, 8, limited.read(512));
    assert_eq!((reap(&mut lane), limited.disk.delayed()), (vec![7], 1));
}

#[test]
fn what_is_started_early_is_paid_later_and_what_is_dropped_never() {
    let limited = Limited::requests(100, 1);
    let mut lane = limited.disk.lane().unwrap();
    (0..4).for_each(|tag| push(&mut lane, tag, limited.write(512)));
    assert_eq!(reap(&mut lane), [0]);
    lane.start_held();
    assert_eq!((reap(&mut lane), limited.disk.delayed()), (vec![1, 2, 3], 0));
    limited.pace.take_wake();
    push(&mut lane, 4, limited.read(512));
    assert_eq!((reap(&mut lane), limited.pace.take_wake()), (vec![], Some(ms(40))));
    (5..8).for_each(|tag| push(&mut lane, tag, limited.read(512)));
    assert!(reap(&mut lane).is_empty());
    let dropped: Vec<_> = std::iter::from_fn(|| lane.drop_held()).map(|held| held.tag).collect();
    assert_eq!((dropped, limited.disk.delayed()), (vec![4, 5, 6, 7], 0));
    // As if they had never been there.
    limited.pace.take_wake();
    push(&mut lane, 8, limited.read(512));
    assert_eq!((reap(&mut lane), limited.pace.take_wake()), (vec![], Some(ms(40))));
}

#[test]
fn held_writes_can_be_made_durable() {
    let limited = Limited::requests(100, 1);
    let mut lane = limited.disk.lane().unwrap();
    (0..2).for_each(|tag| push(&mut lane, tag, limited.write(512)));
    push(&mut lane, 2, Operation::WriteZeroes { len: 512, unmap: false, durable: false });
    reap(&mut lane);
    lane.harden_held();
    lane.start_held();
    assert_eq!(
        limited.image.log(),
        ["write 512 at 0", "write through 512 at 0", "zero through 512 at 0"]
    );
}

#[test]
fn a_stopped_disk_starts_nothing_that_is_held() {
    let limited = Limited::requests(100, 1);
    let mut lane = limited.disk.lane().unwrap();
    (0..3).for_each(|tag| push(&mut lane, tag, limited.write(512)));
    assert_eq!(reap(&mut lane), [0]);
    limited.disk.stop_handle().stop();
    lane.start_held();
    let mut done = Vec::new();
    lane.reap(&mut done);
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|done| matches!(done.result, Err(BlockError::Stopped))));
    assert_eq!(limited.image.log().len(), 1);
}

#[test]
fn a_caller_that_waits_sleeps_until_its_time_or_the_stop_or_a_pause() {
    let limited = Limited::requests(1, 1);
    let mut lane = limited.disk.lane().unwrap();
    for _ in 0..3 {
        lane.run(limited.read(512), 0).unwrap();
    }
    assert_eq!(limited.pace.passed(), ms(2000));
    // The device's own flush does not wait, but costs a token.
    lane.flush().unwrap();
    assert_eq!(limited.pace.passed(), ms(2000));
    lane.run(limited.read(512), 0).unwrap();
    assert_eq!(limited.pace.passed(), ms(4000));

    limited.pace.hurry_at(ms(4250));
    lane.run(limited.read(512), 0).unwrap();
    assert!((ms(4250)..=ms(4350)).contains(&limited.pace.passed()), "{:?}", limited.pace.passed());

    let limited = Limited::requests(1, 1);
    let mut lane = limited.disk.lane().unwrap();
    lane.run(limited.read(512), 0).unwrap();
    limited.disk.stop_handle().stop();
    assert!(matches!(lane.run(limited.read(512), 0), Err(BlockError::Stopped)));
    assert_eq!((limited.pace.passed(), limited.image.log().len()), (ms(0), 1));
}

#[test]
fn a_flush_of_the_device_leaves_alone_what_is_held() {
    let limited = Limited::requests(100, 1);
    let mut lane = limited.disk.lane().unwrap();
    (0..3).for_each(|tag| push(&mut lane, tag, limited.write(512)));
    assert_eq!(reap(&mut lane), [0]);
    limited.pace.pass(ms(100));
    lane.flush().unwrap();
    assert_eq!(limited.image.log(), ["write 512 at 0", "flush"]);
    assert_eq!(reap(&mut lane), [1, 2]);
}

#[test]
fn an_engine_that_finishes_later_is_limited_alike() {
    let image = WatchedImage::new(&[0; SIZE]);
    let late = LateStorage::new(Box::new(image.clone()), Duration::ZERO);
    let limits = Limits { requests: rate(100, 2), bytes: None };
    let limited = Limited::on(Box::new(late), image, limits);
    let mut lane = limited.disk.lane().unwrap();
    for tag in 0..4 {
        push(&mut lane, tag, limited.read(512));
    }
    let mut finished = Vec::new();
    while finished.len() < 4 {
        finished.extend(reap(&mut lane));
        assert!(lane.in_flight() <= 2);
        // Either for the thread, or, by the test's clock, for tokens.
        lane.wait(Duration::from_secs(60));
    }
    assert!(limited.pace.passed() >= ms(20), "{:?}", limited.pace.passed());
    assert_eq!(limited.image.log().len(), 4);
}

#[test]
fn a_disk_without_a_pace_is_never_limited() {
    let disk = WatchedImage::new(&[0; SIZE]).disk();
    disk.set_limits(Limits { requests: rate(1, 1), bytes: rate(1, 1) });
    assert!(disk.limits().is_none());
    let pace = ManualPace::default();
    assert!(!pace.is_hurried());
}
