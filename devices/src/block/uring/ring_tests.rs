use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::thread;

use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;
use crate::memory::{Buffers, GuestRam};

/// A ring on a pipe, where a read stays in the kernel until the test writes.
fn on_a_pipe() -> (Ring<u32>, File, PipeWriter, GuestRam) {
    let (reader, writer): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
    let file = File::from(OwnedFd::from(reader));
    let ring = Ring::new(wake()).unwrap();
    (ring, file, writer, GuestRam::anonymous(&[(0, 64 << 10)]).unwrap())
}

fn wake() -> Arc<EventFd> {
    Arc::new(EventFd::new(EFD_NONBLOCK).unwrap())
}

fn read(file: &File, ram: &GuestRam, addr: u64, len: u64) -> Io {
    let data = Buffers::single(ram.clone(), addr, len).unwrap().lend(0, len);
    Io::Read { file: file.as_raw_fd(), offset: 0, data }
}

fn is_signalled(wake: &EventFd, within: Duration) -> bool {
    let begin = Instant::now();
    loop {
        match wake.read() {
            Ok(_) => return true,
            Err(_) if begin.elapsed() > within => return false,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn what_finishes_later_signals_the_wake_descriptor_and_what_finishes_at_once_does_not() {
    let (mut ring, file, mut writer, ram) = on_a_pipe();
    writer.write_all(b"there").unwrap();
    ring.push(read(&file, &ram, 0, 5), 1);
    assert!(ring.submit());
    let (value, result) = ring.finished().unwrap();
    assert_eq!((value, result.unwrap()), (1, 5));
    assert!(!is_signalled(ring.wake(), Duration::ZERO));

    ring.push(read(&file, &ram, 8, 5), 2);
    assert!(ring.submit() && !ring.submit());
    assert!(ring.finished().is_none());
    assert_eq!(ring.in_flight(), 1);
    writer.write_all(b"later").unwrap();
    assert!(is_signalled(ring.wake(), Duration::from_secs(10)));
    assert_eq!(ring.finished().map(|(value, result)| (value, result.unwrap())), Some((2, 5)));
    assert_eq!(ram.read::<16>(0), Ok(*b"there\0\0\0later\0\0\0"));

    // Another descriptor, as behind a lane with several engines.
    let other = wake();
    ring.wake_by(&other).unwrap();
    let old = ring.wake().clone();
    assert!(Arc::ptr_eq(&old, &other));
    ring.push(read(&file, &ram, 0, 5), 3);
    ring.submit();
    writer.write_all(b"again").unwrap();
    assert!(is_signalled(&other, Duration::from_secs(10)));
}

#[test]
fn a_wait_ends_with_a_completion_or_after_its_limit() {
    let (mut ring, file, mut writer, ram) = on_a_pipe();
    ring.push(read(&file, &ram, 0, 1), 1);
    ring.submit();
    let begin = Instant::now();
    ring.wait(Duration::from_millis(50));
    assert!(ring.finished().is_none() && begin.elapsed() >= Duration::from_millis(50));
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            writer.write_all(b"x").unwrap();
        });
        ring.wait(Duration::from_secs(10));
    });
    assert!(ring.finished().is_some());
}

#[test]
fn a_ring_that_is_dropped_waits_for_the_kernel_which_writes_to_its_buffers() {
    let (mut ring, file, mut writer, ram) = on_a_pipe();
    ring.push(read(&file, &ram, 0, 4), 1);
    ring.submit();
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(100));
            writer.write_all(b"late").unwrap();
        });
        drop(ring);
    });
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(ram.read::<4>(0), Ok(*b"late"));
}

#[test]
fn after_its_patience_a_dropped_ring_leaves_the_buffers_where_they_are() {
    let (reader, writer) = std::io::pipe().unwrap();
    let file = File::from(OwnedFd::from(reader));
    let mut ring = Ring::new(wake()).unwrap();
    ring.patience = Duration::from_millis(50);
    let (ram, value) = (GuestRam::anonymous(&[(0, 4096)]).unwrap(), Arc::new(()));
    ring.push(read(&file, &ram, 0, 4), value.clone());
    ring.submit();
    drop(ring);
    assert_eq!(Arc::strong_count(&value), 2, "what the kernel may still use is not freed");
    drop(writer);
}

#[test]
fn more_requests_than_the_ring_has_places_wait_outside_of_it() {
    let (mut ring, file, mut writer, ram) = on_a_pipe();
    let count = 3 * ENTRIES;
    for value in 0..count {
        ring.push(read(&file, &ram, value.into(), 1), value);
    }
    ring.submit();
    assert_eq!((ring.in_ring, ring.in_flight()), (ENTRIES, count as usize));
    let mut seen = vec![0; count as usize];
    let bytes: Vec<_> = (0..count).map(|n| n as u8 | 1).collect();
    writer.write_all(&bytes).unwrap();
    while seen.contains(&0) {
        ring.wait(Duration::from_secs(10));
        while let Some((value, result)) = ring.finished() {
            assert_eq!(result.unwrap(), 1);
            seen[value as usize] += 1;
        }
        ring.submit();
    }
    assert!(seen.iter().all(|times| *times == 1) && ring.in_flight() == 0);
}

/// The kernel cancels what a thread leaves behind, or carries it out; either is a completion.
#[test]
fn a_request_survives_or_ends_with_the_thread_that_submitted_it() {
    let (mut ring, file, mut writer, ram) = on_a_pipe();
    thread::scope(|scope| {
        scope.spawn(|| {
            ring.push(read(&file, &ram, 0, 4), 1);
            ring.submit();
        });
    });
    writer.write_all(b"late").unwrap();
    ring.wait(Duration::from_secs(10));
    let (_, result) = ring.finished().expect("a completion");
    match result {
        Ok(n) => assert_eq!(n, 4),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
    }
}

#[test]
fn an_error_of_the_kernel_is_that_of_its_request() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let file = File::from(OwnedFd::from(reader));
    let mut ring = Ring::new(wake()).unwrap();
    // A pipe cannot be synchronized, and -1 is no descriptor.
    ring.push(Io::Sync { file: file.as_raw_fd() }, 1);
    ring.push(Io::Sync { file: -1 }, 2);
    ring.submit();
    let mut errors: Vec<_> = std::iter::from_fn(|| {
        ring.wait(Duration::from_secs(10));
        ring.finished()
    })
    .take(2)
    .map(|(value, result)| (value, result.unwrap_err().raw_os_error()))
    .collect();
    errors.sort_unstable();
    assert_eq!(errors, [(1, Some(libc::EINVAL)), (2, Some(libc::EBADF))]);
}
