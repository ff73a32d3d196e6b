//! What every engine does, on every kind of right server.

use super::*;
use crate::testing::{ALL_FLAGS, READ_ONLY};

/// Servers that are all right, each in its own way.
fn behaviours() -> Vec<Behaviour> {
    let usual = Behaviour::default();
    let flags = |without: u16| Behaviour { flags: ALL_FLAGS & !without, ..usual };
    vec![
        usual,
        Behaviour { structured: false, ..usual },
        Behaviour { reorders: true, ..usual },
        Behaviour { reorders: true, blocks: Some((512, 4096, 8192)), ..usual },
        Behaviour { reorders: true, blocks: Some((4096, 4096, 4096)), ..usual },
        Behaviour { blocks: None, ..usual },
        Behaviour { trickles: true, ..usual },
        // Without FLUSH, FUA, TRIM, WRITE_ZEROES, each and all.
        flags(4),
        flags(8),
        flags(32),
        flags(64),
        Behaviour { blocks: Some((4096, 4096, 32 << 20)), ..flags(8 | 32 | 64) },
    ]
}

/// A disk of these bytes on each of them.
fn rigs(bytes: &[u8]) -> impl Iterator<Item = (NbdServer, Rig, Behaviour)> {
    behaviours().into_iter().map(|behaviour| {
        let server = NbdServer::new(bytes, behaviour).unwrap();
        let rig = Rig::new(&server, LONG, 1);
        (server, rig, behaviour)
    })
}

#[test]
fn bytes_at_any_place_are_written_and_read() {
    let before = pattern(64 << 10);
    for (server, rig, behaviour) in rigs(&before) {
        let mut lane = rig.lane();
        let mut expected = before.clone();
        for (offset, len) in
            [(0, 512), (512, 1), (4095, 2), (5000, 20_000), (0, 65_536), (65_535, 1)]
        {
            for durable in [false, true] {
                let bytes: Vec<_> =
                    (0..len).map(|at| (at % 249) as u8 ^ 0xa5 ^ u8::from(durable)).collect();
                lane.run(write(&bytes, durable), offset as u64).unwrap();
                expected[offset..offset + len].copy_from_slice(&bytes);
                let found = read(&mut lane, offset as u64, len).unwrap();
                assert!(found == bytes, "{behaviour:?}: {len} bytes at {offset}");
                assert!(server.bytes() == expected, "{behaviour:?}: {len} bytes at {offset}");
                let is_stable = server.stable()[offset..offset + len] == bytes;
                let can = behaviour.flags & 12 != 0;
                assert!(!durable || is_stable || !can, "{behaviour:?}: {len} at {offset}");
            }
        }
        lane.run(Operation::Flush, 0).unwrap();
        let is_stable = server.stable() == expected;
        assert!(is_stable || behaviour.flags & 4 == 0, "{behaviour:?}");
    }
}

#[test]
fn zeros_are_written_where_they_are_told_and_a_discard_goes_nowhere_else() {
    let before = vec![0x11; 64 << 10];
    for (server, rig, behaviour) in rigs(&before) {
        let mut lane = rig.lane();
        for (offset, len) in [(0, 512), (512, 8192), (100, 1), (5000, 7000), (0, 0), (60_000, 5536)]
        {
            for (unmap, durable) in [(false, false), (true, false), (false, true)] {
                lane.run(write(&before, false), 0).unwrap();
                let operation = Operation::WriteZeroes { len, unmap, durable };
                lane.run(operation, offset).unwrap();
                let mut expected = before.clone();
                expected[offset as usize..][..len as usize].fill(0);
                assert!(server.bytes() == expected, "{behaviour:?}: {len} at {offset}");
            }
            lane.run(write(&before, false), 0).unwrap();
            lane.run(Operation::Discard { len }, offset).unwrap();
            for (at, byte) in (0..).zip(server.bytes()) {
                let told = (offset..offset + len).contains(&at);
                assert!(byte == 0x11 || told && byte == 0, "{behaviour:?}: {byte} at {at}");
            }
        }
        assert_eq!(rig.disk.frees_space(), behaviour.flags & 32 != 0);
    }
}

#[test]
fn two_thousand_requests_of_two_lanes_are_all_done_once() {
    for connections in [1, 3] {
        let before = pattern(2000 * 512);
        let behaviour = Behaviour { reorders: true, ..Behaviour::default() };
        let server = NbdServer::new(&before, behaviour).unwrap();
        let rig = Rig::new(&server, LONG, connections);
        let lanes = [rig.lane(), rig.lane()];
        thread::scope(|scope| {
            for mut lane in lanes {
                let before = &before;
                scope.spawn(move || {
                    let ram = ram(2000 * 512);
                    for tag in 0..2000 {
                        let data = Buffers::single(ram.clone(), tag * 512, 512).unwrap();
                        let (operation, offset) = (Operation::Read(data), tag * 512);
                        lane.push(Request { tag, operation, offset });
                    }
                    lane.commit();
                    let mut done = finish(&mut lane, 2000);
                    done.sort_by_key(|completion| completion.request.tag);
                    for (tag, completion) in (0..).zip(&done) {
                        assert_eq!(completion.request.tag, tag);
                        assert!(completion.result.is_ok() && completion.transferred == 512);
                    }
                    let mut found = vec![0; 2000 * 512];
                    ram.read_into(0, &mut found).unwrap();
                    assert!(found == *before);
                    assert_eq!(lane.in_flight(), 0);
                });
            }
        });
    }
}

#[test]
fn long_requests_of_many_buffers_are_moved_in_pieces() {
    let len = 9 << 20;
    let behaviour = Behaviour { blocks: Some((512, 4096, 1 << 20)), ..Behaviour::default() };
    let server = NbdServer::new(&vec![0; len], behaviour).unwrap();
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    let ram = ram(2 * len);
    let bytes = pattern(len);
    // Every second 512 bytes.
    let mut scattered = Buffers::new(ram.clone());
    for (at, part) in (0..).step_by(1024).zip(bytes.chunks(512)) {
        ram.write(at, part).unwrap();
        scattered.push(at, part.len() as u64).unwrap();
    }
    lane.run(Operation::Write { data: scattered.clone(), durable: false }, 0).unwrap();
    assert!(server.bytes() == bytes);
    assert!(server.log().len() >= 9);
    for at in (0..2 * len as u64).step_by(1024) {
        ram.write(at, &[0; 512]).unwrap();
    }
    lane.run(Operation::Read(scattered.clone()), 0).unwrap();
    let mut found = vec![0; len];
    scattered.copy_to(&mut found);
    assert!(found == bytes);
}

#[test]
fn a_completion_that_nobody_waits_for_signals_its_lane() {
    let server = NbdServer::new(&[0; 4096], Behaviour::default()).unwrap();
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    server.hold(true);
    let wake = lane.wake().unwrap();
    lane.push(Request { tag: 7, operation: write(&[1; 512], false), offset: 0 });
    lane.commit();
    let mut done = Vec::new();
    lane.reap(&mut done);
    assert!(done.is_empty() && wake.read().is_err());
    server.hold(false);
    // The thread of the link receives it.
    let begin = std::time::Instant::now();
    while wake.read().is_err() {
        assert!(begin.elapsed() < LONG);
        thread::yield_now();
    }
    lane.reap(&mut done);
    assert!(done.len() == 1 && done[0].request.tag == 7 && done[0].result.is_ok());
}

#[test]
fn errors_of_the_server_are_those_of_the_request() {
    for (error, kind) in [
        (28, std::io::ErrorKind::StorageFull),
        (1, std::io::ErrorKind::PermissionDenied),
        (4711, std::io::Error::from_raw_os_error(libc::EIO).kind()),
    ] {
        for reorders in [false, true] {
            let behaviour = Behaviour { error, reorders, ..Behaviour::default() };
            let server = NbdServer::new(&[0x11; 4096], behaviour).unwrap();
            let rig = Rig::new(&server, LONG, 1);
            let mut lane = rig.lane();
            match lane.run(write(&[0; 512], false), 512) {
                Err(BlockError::Host { offset: 512, source }) => {
                    assert_eq!(source.kind(), kind, "{source}");
                    assert!(!reorders || source.to_string().ends_with(": no..."), "{source}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(read(&mut lane, 0, 512).unwrap(), [0x11; 512]);
            assert!(matches!(lane.run(Operation::Flush, 0), Err(BlockError::Sync(_))));
            // A failed flush is final.
            assert!(matches!(lane.run(Operation::Flush, 0), Err(BlockError::Lost(_))));
        }
    }
}

#[test]
fn a_read_only_export_is_one_for_reading() {
    let flags = ALL_FLAGS | READ_ONLY;
    let server =
        NbdServer::new(&[0x11; 4096], Behaviour { flags, ..Behaviour::default() }).unwrap();
    let options = NbdOptions::new(server.uri().parse().unwrap());
    let error = NbdStorage::open(options.clone()).unwrap_err().to_string();
    assert!(error.contains("give readonly=on, or snapshot=on"), "{error}");
    let rig = Rig::with(NbdOptions { read_only: true, ..options });
    let mut lane = rig.lane();
    assert_eq!(read(&mut lane, 0, 512).unwrap(), [0x11; 512]);
    lane.run(Operation::Flush, 0).unwrap();
    assert!(matches!(lane.run(write(&[0; 512], false), 0), Err(BlockError::ReadOnly)));
    assert!(rig.disk.grow(8192).is_err());
}

#[test]
fn what_holes_may_be_made_of_is_told() {
    let server = NbdServer::new(&[0x11; 8192], Behaviour::default()).unwrap();
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    for (unmap, durable) in [(true, false), (false, false)] {
        lane.run(Operation::WriteZeroes { len: 512, unmap, durable }, 512).unwrap();
    }
    lane.run(Operation::Discard { len: 4096 }, 0).unwrap();
    lane.run(write(&[1; 512], true), 0).unwrap();
    lane.run(write(&[1; 512], false), 0).unwrap();
    lane.run(Operation::Flush, 0).unwrap();
    assert_eq!(
        server.log(),
        [
            "zero 512 at 512",
            "zero, no hole 512 at 512",
            "trim 4096 at 0",
            "fua 512 at 0",
            "write 512 at 0",
            "flush"
        ]
    );
    assert_eq!(rig.disk.info().reconnects, Some(0));
}
