//! A host that becomes full while the I/O thread serves what a doorbell left.
//!
//! Those of a file system need one of their own; where it cannot be mounted they print that, and pass.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cafevm_devices::testing::{Behaviour, NbdServer};
use cafevm_guest_tests::{Failed, Outcome, Scratch, engine, ensure};

use crate::machine::{Machine, Mounted};

/// A machine that has filled its file system of 160 MiB. What its doorbell itself serves has room there.
fn full() -> Result<Option<(Machine, Mounted)>, Failed> {
    let Some(mounted) = Mounted::new("160M")? else {
        println!("not run: no file system can be mounted here (run as root)");
        return Ok(None);
    };
    let image = mounted.path("d.img");
    File::create(&image)?.set_len(256 << 20)?;
    // 8 requests of 4 MiB at a time, each behind the one before.
    let words = "bytes=0x400000 entries=8 stride=8192";
    let mut machine = Machine::with(Scratch::new()?, image, ",werror=stop", words, &[])?;
    machine.becomes(r#""paused":true"#)?;
    Ok(Some((machine, mounted)))
}

pub(crate) fn on_the_io_thread() -> Outcome {
    let Some((mut machine, mounted)) = full()? else { return Ok(()) };
    let status = machine.request(r#"{"status":{}}"#)?;
    ensure!(status.contains("d.img: No space left on device"), "{status}");
    // Still no room. An engine that finishes later reports it after the guest has continued.
    let answer = machine.request(r#"{"resume":{}}"#)?;
    ensure!(answer.contains("the machine stays paused") || engine::is_late(), "{answer}");
    machine.becomes(r#""paused":true"#)?;
    mounted.resize("320M")?;
    let answer = machine.request(r#"{"resume":{}}"#)?;
    ensure!(answer == r#"{"result":{}}"#, "{answer}");
    machine.writes()?;
    let status = machine.request(r#"{"status":{}}"#)?;
    ensure!(status.contains(r#""state":"running""#) && !status.contains("reason"), "{status}");
    machine.signal("TERM")?;
    let ended = machine.finish()?;
    let lines = ended.log.matches("the machine is paused").count();
    // One when it was full, and one when it still was.
    ensure!(lines == 2, "{lines} lines: {}", ended.log);
    // The guest did not notice it.
    ensure!(!ended.text().contains("status"), "{}", ended.text());
    ensure!(ended.status.code() == Some(130), "{}: {}", ended.status, ended.log);
    Ok(())
}

pub(crate) fn at_the_end() -> Outcome {
    let Some((machine, _mounted)) = full()? else { return Ok(()) };
    let begun = Instant::now();
    machine.signal("TERM")?;
    let ended = machine.finish()?;
    println!("SIGTERM while full: {:?}", begun.elapsed());
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    ensure!(ended.log.matches("the machine is paused").count() == 1, "{}", ended.log);
    Ok(())
}

pub(crate) fn without_its_server() -> Outcome {
    let server = NbdServer::new(&vec![0; 1 << 20], Behaviour::default())?;
    let (uri, keys) = (PathBuf::from(server.uri()), ",werror=stop,reconnect=1");
    let words = "bytes=0x1000 entries=8 stride=8";
    let mut machine = Machine::with(Scratch::new()?, uri, keys, words, &[])?;
    server.wait_for(10);
    server.kill();
    machine.becomes(r#""paused":true"#)?;
    let status = machine.request(r#"{"status":{}}"#)?;
    ensure!(status.contains("no connection within 1 s"), "{status}");
    let answer = machine.request(r#"{"resume":{}}"#)?;
    ensure!(answer.contains("the machine stays paused"), "{answer}");
    server.log();
    server.restart();
    let begin = Instant::now();
    while machine.request(r#"{"resume":{}}"#)? != r#"{"result":{}}"# {
        ensure!(begin.elapsed() < Duration::from_secs(60), "its server is back, and it is paused");
    }
    server.wait_for(100);
    let status = machine.request(r#"{"status":{}}"#)?;
    ensure!(status.contains(r#""state":"running""#) && !status.contains("reason"), "{status}");
    machine.signal("TERM")?;
    let ended = machine.finish()?;
    // The guest did not notice it.
    ensure!(!ended.text().contains("status"), "{}", ended.text());
    ensure!(ended.log.contains("the machine is paused (werror=stop)"), "{}", ended.log);
    Ok(())
}
