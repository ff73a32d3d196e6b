//! A machine whose disk is busy without end (`resources/guests/test-guests/src/bin/busy.rs`): it is asked things, paused
//! and ended all the same.
//!
//! Limits here only keep a test from hanging; what is measured is printed.

mod frozen;
mod full;
mod machine;

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use cafevm_guest_tests::{Outcome, engine, ensure, tests};
use machine::Machine;

tests! {
    a_busy_disk_does_not_keep_the_machine,
    the_time_limit_is_kept_while_a_disk_is_busy,
    the_control_socket_answers_while_a_disk_is_busy,
    nothing_is_written_when_a_pause_was_answered,
    a_machine_is_paused_and_goes_on_many_times,
    a_resize_keeps_no_other_client_waiting,
    full_on_the_io_thread,
    full_at_the_end,
    without_a_server,
    a_file_system_that_does_not_answer,
}

/// Requests of 128 MiB: the host takes a while for each, and a doorbell's worth of them takes it long.
const LARGE: &str = "bytes=0x400000 buffers=32 entries=256";
/// The image for them.
const IMAGE: u64 = 256 << 20;
/// The most that the end, or an answer, may take here; it takes far less where the host has nothing else to do.
const LIMIT: Duration = Duration::from_secs(5);

fn a_busy_disk_does_not_keep_the_machine() -> Outcome {
    let machine = Machine::start(IMAGE, "", LARGE, &[])?;
    let begun = Instant::now();
    machine.signal("TERM")?;
    let ended = machine.finish()?;
    println!("SIGTERM: {:?}", begun.elapsed());
    ensure!(begun.elapsed() < LIMIT, "it took {:?}: {}", begun.elapsed(), ended.log);
    ensure!(ended.status.code() == Some(130), "{}: {}", ended.status, ended.log);
    Ok(())
}

fn the_time_limit_is_kept_while_a_disk_is_busy() -> Outcome {
    // Long enough for a slow host to bring the guest to its first doorbell.
    let begun = Instant::now();
    let machine = Machine::start(IMAGE, "", LARGE, &["--timeout", "10"])?;
    let ended = machine.finish()?;
    println!("--timeout 10: {:?}", begun.elapsed());
    ensure!(
        begun.elapsed() < Duration::from_secs(10) + LIMIT,
        "it took {:?}: {}",
        begun.elapsed(),
        ended.log
    );
    ensure!(ended.status.code() == Some(124), "{}: {}", ended.status, ended.log);
    Ok(())
}

fn the_control_socket_answers_while_a_disk_is_busy() -> Outcome {
    let mut machine = Machine::start(IMAGE, "", LARGE, &[])?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        let answer = machine.request(r#"{"status":{}}"#)?;
        ensure!(answer.contains(r#""state":"running""#), "{answer}");
        times.push(begun.elapsed());
    }
    times.sort();
    println!("100 answers: median {:?}, longest {:?}", times[50], times[99]);
    ensure!(times[99] < LIMIT, "{times:?}");
    Ok(())
}

fn a_resize_keeps_no_other_client_waiting() -> Outcome {
    let mut machine = Machine::start(IMAGE, "", LARGE, &[])?;
    let mut other = machine.connect()?;
    machine.send(r#"{"resize":{"id":"virtio0","size":"257M"}}"#)?;
    let begun = Instant::now();
    other.get_mut().write_all(b"{\"status\":{}}\n")?;
    other.read_line(&mut String::new())?;
    println!("status during a resize: {:?}", begun.elapsed());
    ensure!(begun.elapsed() < LIMIT, "it took {:?}", begun.elapsed());
    let answer = machine.answer()?;
    // An engine that finishes later has so much in flight that the host may not finish it in time.
    let late = engine::is_late() && answer.contains("d.img: the host has not finished");
    ensure!(late || answer == r#"{"result":{"id":"virtio0","size":269484032}}"#, "{answer}");
    Ok(())
}

fn nothing_is_written_when_a_pause_was_answered() -> Outcome {
    // Smaller, so that there is more to be found.
    let mut machine = Machine::start(IMAGE, "", "bytes=0x400000 buffers=4 entries=256", &[])?;
    for round in 0..5 {
        let answer = machine.request(r#"{"pause":{}}"#)?;
        ensure!(answer == r#"{"result":{}}"#, "{answer}");
        let then = machine.written()?;
        let status = machine.request(r#"{"status":{}}"#)?;
        ensure!(status.contains(r#""paused":true"#), "{status}");
        // Nothing can show that nothing happens; far longer than a request takes must do.
        std::thread::sleep(Duration::from_millis(300));
        let now = machine.written()?;
        ensure!(
            now == then,
            "round {round}: the image was written {:?} later",
            now.duration_since(then)
        );
        let answer = machine.request(r#"{"resume":{}}"#)?;
        ensure!(answer == r#"{"result":{}}"#, "{answer}");
        machine.writes()?;
    }
    Ok(())
}

fn a_machine_is_paused_and_goes_on_many_times() -> Outcome {
    let mut machine = Machine::start(IMAGE, "", "bytes=0x400000 entries=32", &[])?;
    let begun = Instant::now();
    for _ in 0..100 {
        for message in [r#"{"pause":{}}"#, r#"{"resume":{}}"#] {
            let answer = machine.request(message)?;
            ensure!(answer == r#"{"result":{}}"#, "{message}: {answer}");
        }
    }
    println!("100 pauses: {:?}", begun.elapsed());
    machine.writes()
}

fn full_on_the_io_thread() -> Outcome {
    full::on_the_io_thread()
}

fn full_at_the_end() -> Outcome {
    full::at_the_end()
}

fn without_a_server() -> Outcome {
    full::without_its_server()
}

fn a_file_system_that_does_not_answer() -> Outcome {
    frozen::frozen()
}
