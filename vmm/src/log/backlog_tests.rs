use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

const CAPACITY: usize = 100;

fn bytes(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

/// A queue whose writing thread waits for permission to write.
fn with_slow_reader(test: impl FnOnce(&Backlog, &mpsc::Sender<usize>, &AtomicUsize)) -> Vec<u8> {
    let backlog = Backlog::new(CAPACITY, 10, CAPACITY / 2, bytes);
    let (allow, allowed) = mpsc::channel::<usize>();
    let count = AtomicUsize::new(0);
    let (backlog, eased) = (&backlog, &count);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut seen = Vec::new();
            let write = |bytes: &[u8]| {
                let count = allowed.recv().unwrap_or(bytes.len()).min(bytes.len());
                seen.extend(&bytes[..count]);
                Ok(count)
            };
            let served = backlog.write_out(write, || {
                eased.fetch_add(1, Ordering::Relaxed);
            });
            served.unwrap();
            backlog.end();
            seen
        });
        test(backlog, &allow, eased);
        backlog.close();
        drop(allow);
        writer.join().unwrap()
    })
}

/// Waits until the thread has written this many bytes.
fn written(backlog: &Backlog, count: u64) {
    while backlog.lock().written < count {
        thread::yield_now();
    }
}

#[test]
fn what_fits_is_written_in_order() {
    let seen = with_slow_reader(|backlog, allow, _| {
        for n in 0..90 {
            backlog.push(&[n]);
        }
        assert!(backlog.has_room());
        allow.send(1).unwrap();
        assert_eq!(backlog.take_dropped(), 0);
    });
    assert_eq!(seen, (0..90).collect::<Vec<u8>>());
}

#[test]
fn a_full_queue_drops_in_one_piece_until_there_is_room() {
    let seen = with_slow_reader(|backlog, allow, eased| {
        backlog.push(&[1; 91]);
        assert!(!backlog.has_room(), "below the margin");
        backlog.push(&[2; 9]);
        backlog.push(&[3; 20]);
        allow.send(30).unwrap();
        written(backlog, 30);
        // There is room for this, but bytes before it were dropped.
        backlog.push(&[4; 20]);
        assert!(!backlog.has_room());
        allow.send(20).unwrap();
        while eased.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        assert!(backlog.has_room());
        backlog.push(&[5; 20]);
        assert_eq!(backlog.take_dropped(), 40);
        assert_eq!(backlog.take_dropped(), 0);
    });
    assert_eq!(seen, [&[1; 91][..], &[2; 9], &[5; 20]].concat());
}

#[test]
fn a_flush_gives_up_on_a_reader_that_stands_still() {
    with_slow_reader(|backlog, _, _| {
        backlog.push(b"abc");
        let begun = Instant::now();
        assert_eq!(backlog.flush(), 3);
        assert!(begun.elapsed() >= STANDSTILL);
    });
}

#[test]
fn a_flush_waits_longer_for_a_writing_thread_that_does_not_run() {
    let backlog = Backlog::new(CAPACITY, 10, CAPACITY / 2, bytes);
    backlog.push(b"abc");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(STANDSTILL + 2 * LOOK);
            backlog.write_out(|bytes| Ok(bytes.len()), || ()).unwrap();
        });
        assert_eq!(backlog.flush(), 0);
        backlog.close();
    });
}

#[test]
fn a_writing_thread_that_comes_back_after_the_end_ends() {
    let seen = with_slow_reader(|backlog, allow, _| {
        backlog.push(&[1; 100]);
        allow.send(10).unwrap();
        assert_eq!(backlog.flush(), 90);
        backlog.end();
    });
    // The thread had started another write.
    assert_eq!(seen.len(), 100);
}

#[test]
fn a_flush_waits_for_a_reader_that_reads() {
    with_slow_reader(|backlog, allow, _| {
        backlog.push(b"abc");
        thread::scope(|scope| {
            let flushed = scope.spawn(|| backlog.flush());
            while !backlog.lock().flushing {
                thread::yield_now();
            }
            for _ in 0..3 {
                allow.send(1).unwrap();
            }
            assert_eq!(flushed.join().unwrap(), 0);
        });
    });
}

#[test]
fn after_an_error_all_is_discarded_and_nobody_waits() {
    let backlog = Backlog::new(CAPACITY, 10, CAPACITY / 2, bytes);
    backlog.push(&[1; 100]);
    assert!(!backlog.has_room());
    assert!(backlog.write_out(|_| Err(io::ErrorKind::BrokenPipe.into()), || ()).is_err());
    backlog.end();
    assert!(backlog.has_room());
    backlog.push(&[1; 1000]);
    assert_eq!((backlog.flush(), backlog.take_dropped()), (0, 0));
}

#[test]
fn a_panic_gives_up_where_its_own_thread_holds_the_lock() {
    let backlog = Backlog::new(CAPACITY, 10, CAPACITY / 2, bytes);
    let held = backlog.lock();
    assert!(!backlog.try_push(b"a"));
    drop(held);
    assert!(backlog.try_push(b"a"));
    assert_eq!(backlog.lock().bytes, b"a");
}
