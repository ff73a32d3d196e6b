//! With `RUSTFLAGS="--cfg loom" cargo test -p cafevm-devices --lib turn::tests` the models below run under every
//! order in which the threads can meet; without, once, on real threads.

use std::time::Duration;

#[cfg(loom)]
use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
#[cfg(not(loom))]
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;

fn model(run: impl Fn() + Send + Sync + 'static) {
    #[cfg(loom)]
    loom::model(run);
    #[cfg(not(loom))]
    for _ in 0..1000 {
        run();
    }
}

/// A queue as its driver sees it, how much of it was served, and how often it must be looked at again.
struct Queue {
    available: AtomicUsize,
    leftover: AtomicUsize,
    served: Turn<usize>,
}

impl Queue {
    fn new() -> Arc<Self> {
        let (available, leftover) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { available, leftover, served: Turn::new(0) })
    }

    /// A vCPU makes a request available and rings.
    fn ring(&self) {
        self.available.fetch_add(1, Ordering::Release);
        self.serve();
    }

    fn serve(&self) {
        let look = |served: &mut usize| *served = self.available.load(Ordering::Acquire);
        if let Some(((), true)) = self.served.take(look) {
            self.leftover.fetch_add(1, Ordering::Release);
        }
    }

    /// The I/O thread, once.
    fn look_again(&self) {
        if self.leftover.swap(0, Ordering::Acquire) > 0 {
            self.serve();
        }
    }

    /// What was served in the end, when the I/O thread has done all it was woken for.
    fn end(&self) -> usize {
        while self.leftover.load(Ordering::Acquire) > 0 {
            self.look_again();
        }
        self.served.take(|served| *served).unwrap().0
    }
}

#[test]
fn no_doorbell_is_forgotten_whichever_thread_has_the_turn() {
    model(|| {
        let queue = Queue::new();
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.ring())
        };
        queue.ring();
        other.join().unwrap();
        assert_eq!(queue.end(), 2);
    });
}

#[test]
fn the_io_thread_and_two_vcpus_forget_nothing() {
    model(|| {
        let queue = Queue::new();
        let threads = [
            {
                let queue = queue.clone();
                thread::spawn(move || queue.ring())
            },
            {
                let queue = queue.clone();
                thread::spawn(move || queue.look_again())
            },
        ];
        queue.ring();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(queue.end(), 2);
    });
}

#[test]
fn a_reset_waits_for_the_turn_and_nobody_works_beside_it() {
    model(|| {
        let queue = Queue::new();
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.ring())
        };
        let reset = queue.served.take_within(Duration::from_secs(60), |served| *served = 100);
        assert_eq!(reset, Some(()));
        other.join().unwrap();
        // After the other thread has finished, the turn is free, and its request was not lost: it was served before or
        // after the reset, or it is marked, or waits for the I/O thread.
        queue.serve();
        assert_eq!(queue.end(), 1);
    });
}

#[cfg(not(loom))]
#[test]
fn who_waits_for_the_turn_waits_no_longer_than_the_limit() {
    let turn = Turn::new(1);
    let (taken, later) = turn
        .take(|value| {
            let never = turn.take_within(Duration::from_millis(1), |_| ());
            *value += 1;
            (never, turn.take(|_| ()))
        })
        .unwrap()
        .0;
    assert!(taken.is_none() && later.is_none());
    assert_eq!(turn.take(|value| *value), Some((2, false)));
}
