//! Lost connections.

use super::*;
use crate::testing::{ALL_FLAGS, Wrong};

fn volatile(bytes: &[u8]) -> NbdServer {
    NbdServer::new(bytes, Behaviour { reorders: true, ..Behaviour::default() }).unwrap()
}

#[test]
fn what_was_acknowledged_and_not_flushed_is_there_after_a_loss() {
    let server = volatile(&[0; 64 << 10]);
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    lane.run(write(&[1; 4096], false), 0).unwrap();
    lane.run(Operation::Flush, 0).unwrap();
    // Three changes of the same place, of which the last one counts, and a part of it.
    lane.run(write(&[2; 4096], false), 0).unwrap();
    lane.run(Operation::WriteZeroes { len: 2048, unmap: false, durable: false }, 1024).unwrap();
    lane.run(write(&[3; 512], false), 1024).unwrap();
    let expected = [&[2; 1024][..], &[3; 512], &[0; 1536], &[2; 1024]].concat();
    assert!(server.bytes()[..4096] == expected);
    server.kill();
    assert!(server.bytes()[..4096] == [1; 4096]);
    server.restart();
    // A read sees what it saw before.
    assert!(read(&mut lane, 0, 4096).unwrap() == expected);
    lane.run(Operation::Flush, 0).unwrap();
    assert!(server.stable()[..4096] == expected);
    assert_eq!(rig.disk.info().reconnects, Some(1));
    // Nothing is repeated after the flush.
    server.log();
    server.kill();
    server.restart();
    assert!(read(&mut lane, 0, 4096).unwrap() == expected);
    assert!(server.log().iter().all(|asked| asked.starts_with("read")));
}

#[test]
fn a_durable_write_is_repeated_only_over_older_changes() {
    let server = volatile(&[0; 8192]);
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    lane.run(write(&[1; 4096], true), 0).unwrap();
    server.log();
    server.kill();
    server.restart();
    assert!(read(&mut lane, 0, 4096).unwrap() == [1; 4096]);
    assert_eq!(server.log(), ["read 4096 at 0"]);
    lane.run(write(&[2; 4096], false), 0).unwrap();
    lane.run(write(&[3; 512], true), 512).unwrap();
    server.kill();
    server.restart();
    let expected = [&[2; 512][..], &[3; 512], &[2; 3072]].concat();
    assert!(read(&mut lane, 0, 4096).unwrap() == expected);
}

#[test]
fn requests_that_were_not_answered_are_sent_again_after_what_was_acknowledged() {
    let server = volatile(&[0; 8192]);
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    lane.run(write(&[1; 4096], false), 0).unwrap();
    server.hold(true);
    server.log();
    let data = ram(4096);
    let read = Operation::Read(Buffers::single(data.clone(), 0, 4096).unwrap());
    lane.push(Request { tag: 0, operation: write(&[2; 512], false), offset: 0 });
    lane.push(Request { tag: 1, operation: read, offset: 4096 });
    lane.push(Request { tag: 2, operation: Operation::Flush, offset: 0 });
    lane.commit();
    server.wait_for(1);
    server.kill();
    server.restart();
    let done = finish(&mut lane, 3);
    assert!(done.iter().all(|completion| completion.result.is_ok()), "{done:?}");
    let log = server.log();
    let first = log.iter().position(|asked| asked == "write 4096 at 0").unwrap();
    let again = log.iter().rposition(|asked| asked == "write 512 at 0").unwrap();
    assert!(first < again, "{log:?}");
    lane.run(Operation::Flush, 0).unwrap();
    assert!(server.stable()[..4096] == [&[2; 512][..], &[1; 3584]].concat());
}

#[test]
fn past_the_limit_requests_fail_until_there_is_a_server_and_nothing_acknowledged_is_lost() {
    let server = volatile(&[0; 8192]);
    let rig = Rig::new(&server, Duration::from_millis(300), 1);
    let mut lane = rig.lane();
    lane.run(write(&[1; 4096], false), 0).unwrap();
    server.kill();
    for operation in [write(&[2; 512], false), Operation::Flush] {
        match lane.run(operation, 0) {
            Err(error @ BlockError::Host { .. }) => {
                assert!(error.no_room().is_some(), "the machine may wait for it: {error}");
                let text = error.to_string();
                assert!(text.contains("nbd+unix:///") && text.contains("no connection"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    server.restart();
    let begin = std::time::Instant::now();
    let found = loop {
        match read(&mut lane, 0, 4096) {
            Ok(found) => break found,
            Err(error) => assert!(begin.elapsed() < LONG, "{error}"),
        }
    };
    assert!(found == [1; 4096] || found == [&[2; 512][..], &[1; 3584]].concat());
    // The failed flush promised nothing, so a later one may succeed.
    lane.run(Operation::Flush, 0).unwrap();
    assert!(server.stable()[..4096] == found);
}

#[test]
fn without_reconnect_a_loss_is_final() {
    let server = volatile(&[0; 8192]);
    let rig = Rig::new(&server, Duration::ZERO, 1);
    let mut lane = rig.lane();
    lane.run(write(&[1; 4096], false), 0).unwrap();
    server.kill();
    server.restart();
    for _ in 0..3 {
        let error = read(&mut lane, 0, 512).unwrap_err();
        assert!(matches!(error, BlockError::Host { .. }), "{error}");
    }
    assert!(lane.run(Operation::Flush, 0).is_err());
    assert_eq!(rig.disk.info().reconnects, Some(0));
}

#[test]
fn what_is_kept_is_bounded_by_flushes_that_nobody_asked_for() {
    let len = 80 << 20;
    let server = NbdServer::new(&vec![0; len], Behaviour::default()).unwrap();
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    let bytes = vec![7; 1 << 20];
    for at in 0..80 {
        lane.run(write(&bytes, false), at << 20).unwrap();
    }
    let log = server.log();
    let flushes = log.iter().filter(|asked| *asked == "flush").count();
    assert!((2..=5).contains(&flushes), "{flushes} flushes");
    // Small changes count, too.
    for at in 0..1000 {
        lane.run(Operation::WriteZeroes { len: 512, unmap: true, durable: false }, at * 512)
            .unwrap();
    }
    server.kill();
    server.restart();
    let zeros = read(&mut lane, 0, 512_000).unwrap();
    assert!(zeros.iter().all(|byte| *byte == 0));
    assert!(read(&mut lane, 79 << 20, 1 << 20).unwrap() == bytes);
}

#[test]
fn a_smaller_export_is_not_taken_for_the_old_one() {
    let server = volatile(&[0x11; 8192]);
    let rig = Rig::new(&server, Duration::from_millis(500), 1);
    let mut lane = rig.lane();
    let wrong = |wrong| Behaviour { wrong: Some(wrong), ..Behaviour::default() };
    server.kill();
    server.behave(wrong(Wrong::Size(4096)));
    server.restart();
    let error = read(&mut lane, 0, 512).unwrap_err().to_string();
    assert!(error.contains("another export than before: 8192 bytes"), "{error}");
    // Fewer commands than requests were planned for.
    server.behave(Behaviour { flags: ALL_FLAGS & !4, ..Behaviour::default() });
    let begin = std::time::Instant::now();
    loop {
        let error = read(&mut lane, 0, 512).unwrap_err().to_string();
        if error.contains("fewer commands") {
            break;
        }
        assert!(begin.elapsed() < LONG, "{error}");
    }
}

#[test]
fn a_disk_that_is_stopped_while_its_server_is_away_ends_soon() {
    for is_held in [false, true] {
        let server = volatile(&[0; 8192]);
        let rig = Rig::new(&server, LONG, 1);
        let mut lane = rig.lane();
        if is_held {
            server.hold(true);
        } else {
            server.kill();
        }
        server.log();
        lane.push(Request { tag: 0, operation: write(&[1; 512], false), offset: 0 });
        lane.commit();
        if is_held {
            server.wait_for(1);
        }
        rig.disk.stop_handle().stop();
        rig.link.wake();
        let done = finish(&mut lane, 1);
        assert!(matches!(done[0].result, Err(BlockError::Stopped)), "{done:?}");
        assert!(matches!(lane.run(Operation::Flush, 0), Err(BlockError::Stopped)));
        drop(rig);
    }
}

#[test]
fn what_is_acknowledged_is_flushed_at_the_end() {
    let server = volatile(&[0; 8192]);
    let rig = Rig::new(&server, LONG, 1);
    let mut lane = rig.lane();
    lane.run(write(&[1; 4096], false), 0).unwrap();
    drop(rig);
    assert!(server.stable()[..4096] == [1; 4096]);
    assert!(matches!(lane.run(Operation::Flush, 0), Err(BlockError::Stopped)));
}

#[test]
fn a_request_that_costs_each_connection_fails_in_the_end() {
    let server = volatile(&[0; 8192]);
    let rig = Rig::new(&server, Duration::from_millis(300), 1);
    let mut lane = rig.lane();
    server.kill();
    let wrong = Some(Wrong::ClosesAtRequest);
    server.behave(Behaviour { wrong, ..Behaviour::default() });
    server.restart();
    let error = read(&mut lane, 0, 512).unwrap_err();
    assert!(error.to_string().contains("the server closed the connection"), "{error}");
}

/// How many kills: 40, or `CAFEVM_NBD_KILLS`.
fn kills() -> u64 {
    std::env::var("CAFEVM_NBD_KILLS").map_or(40, |text| text.parse().unwrap())
}

/// The bytes of a sector that was written as the `number`th.
fn sector(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(64)
}

#[test]
fn no_flushed_byte_is_lost_by_random_kills_of_a_forgetful_server() {
    const SECTORS: u64 = 64;
    for connections in [1, 2] {
        let server = Arc::new(volatile(&vec![0; 512 * SECTORS as usize]));
        let rig = Rig::new(&server, LONG, connections);
        let mut lane = rig.lane();
        let kills = kills();
        let killer = thread::spawn({
            let server = server.clone();
            move || {
                let mut seed = 1_u64;
                for _ in 0..kills {
                    // It was found again, and has had some time.
                    server.wait_for(1);
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    thread::sleep(Duration::from_micros((seed >> 33) % 10_000));
                    server.kill();
                    server.log();
                    thread::sleep(Duration::from_micros((seed >> 50) % 1_000));
                    server.restart();
                }
            }
        });
        // The newest number of each sector that was acknowledged, and that was flushed.
        let mut newest = vec![0; SECTORS as usize];
        let (mut number, mut seed, mut flushes) = (0, 7_u64, 0_u64);
        while !killer.is_finished() || flushes < 10 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut places: Vec<u64> = Vec::new();
            for _ in 0..(seed >> 40) % 12 + 1 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = (seed >> 33) % SECTORS;
                // Writes in flight to one place have no order.
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            for place in &places {
                number += 1;
                newest[*place as usize] = number;
                let operation = write(&sector(number), seed >> 60 == 0);
                lane.push(Request { tag: *place, operation, offset: place * 512 });
            }
            lane.commit();
            let done = finish(&mut lane, places.len());
            assert!(done.iter().all(|completion| completion.result.is_ok()), "{done:?}");
            if (seed >> 50) % 3 == 0 {
                lane.run(Operation::Flush, 0).unwrap();
                flushes += 1;
                let stable = server.stable();
                for (place, number) in newest.iter().enumerate() {
                    let found = &stable[place * 512..][..512];
                    assert!(found == sector(*number), "sector {place} is not {number}");
                }
            } else {
                let place = places[0];
                let found = read(&mut lane, place * 512, 512).unwrap();
                assert!(found == sector(newest[place as usize]), "sector {place}");
            }
        }
        killer.join().unwrap();
        let reconnects = rig.disk.info().reconnects.unwrap();
        println!("{kills} kills, {reconnects} reconnects, {number} writes, {flushes} flushes");
        // Two kills may come before the next connection.
        assert!(reconnects >= kills / 2);
    }
}
