//! Disks on an NBD server in this process: the built-in shell and KeV, and servers that go away.

use std::fs::File;
use std::time::Duration;

use cafevm::exit::Verdict;
use cafevm_devices::testing::{Behaviour, NbdServer};
use cafevm_guest_tests::{
    Failed, Guest, Image, Outcome, Run, SECTOR, SEED, Scratch, ensure, fail, pattern, sectors,
    tests,
};
use cafevm_resources::test_guests::KEV;

tests! {
    shell_on_both_buses_and_a_snapshot,
    kev_over_svirtb,
    a_server_that_goes_away_and_comes_back,
    a_server_that_never_comes_back,
    a_machine_ends_while_its_server_is_away,
    wrong_disks_are_refused,
}

const COMMANDS: &str = "write 1 text; fill 20 0x5a 40; flush; sum 0 64; exit";

fn served(image: &Image) -> Result<NbdServer, Failed> {
    let file = File::options().read(true).write(true).open(image.path())?;
    Ok(NbdServer::of_file(file)?)
}

fn disk(server: &NbdServer, keys: &str) -> String {
    format!("path={},{keys}", server.uri())
}

fn change(bytes: &mut [u8]) {
    bytes[sectors(1..2)].fill(0);
    bytes[SECTOR..SECTOR + 4].copy_from_slice(b"text");
    bytes[sectors(20..60)].fill(0x5a);
}

fn shell_on_both_buses_and_a_snapshot() -> Outcome {
    for keys in
        ["bus=virtio", "queues=2,connections=2", "bus=svirtb", "snapshot=on", "cache=writethrough"]
    {
        let scratch = Scratch::new()?;
        let image = scratch.image("d.img", 64 * SECTOR)?;
        let server = served(&image)?;
        let run = Guest::shell(COMMANDS).spec(disk(&server, keys)).run()?;
        run.powered_off()?;
        drop(server);
        match keys {
            "snapshot=on" => image.is_untouched()?,
            _ => image.holds(change)?,
        }
        ensure!(run.text.contains("crc32 "), "{keys}: {run}");
    }
    Ok(())
}

fn kev_over_svirtb() -> Outcome {
    let scratch = Scratch::new()?;
    let bytes = 40 * SECTOR;
    let image = scratch.image("d.img", bytes)?;
    let server = served(&image)?;
    let run = Guest::new(KEV).spec(disk(&server, "bus=svirtb")).run()?;
    run.ended(0)?;
    run.printed(&format!("size {bytes} bytes"))?;
    image.holds(|wanted| {
        wanted[sectors(2..3)].fill(0x22);
        wanted[(bytes - 1) / SECTOR * SECTOR..].fill(0x99);
    })
}

fn forgetful() -> Result<NbdServer, Failed> {
    Ok(NbdServer::new(&pattern(SEED, 0..64 * SECTOR), Behaviour::default())?)
}

fn a_server_that_goes_away_and_comes_back() -> Outcome {
    let server = forgetful()?;
    let run = std::thread::scope(|scope| -> Result<Run, Failed> {
        let guest = Guest::shell(COMMANDS).spec(disk(&server, "reconnect=100"));
        // Killed between the first write and the flush, wherever that is.
        let killer = scope.spawn(|| {
            server.wait_for(2);
            server.kill();
            server.restart();
        });
        let run = guest.run();
        killer.join().map_err(|_| Failed::from("the killer panicked"))?;
        run
    })?;
    run.powered_off()?;
    let mut wanted = pattern(SEED, 0..64 * SECTOR);
    change(&mut wanted);
    ensure!(server.stable() == wanted, "a flushed byte is lost: {run}");
    Ok(())
}

fn a_server_that_never_comes_back() -> Outcome {
    let server = forgetful()?;
    let run = std::thread::scope(|scope| -> Result<Run, Failed> {
        let guest = Guest::shell("write 1 a; write 2 b; flush; read 1; exit");
        let guest = guest.spec(disk(&server, "reconnect=1"));
        scope.spawn(|| {
            server.wait_for(1);
            server.kill();
        });
        guest.run()
    })?;
    run.powered_off()?;
    ensure!(run.text.contains("it answered IOERR"), "the guest must see that: {run}");
    Ok(())
}

fn a_machine_ends_while_its_server_is_away() -> Outcome {
    let server = forgetful()?;
    for bus in ["bus=virtio", "bus=svirtb"] {
        server.restart();
        server.log();
        // The guest does not come to its end before the server is away.
        server.hold(true);
        let run = std::thread::scope(|scope| -> Result<Run, Failed> {
            let guest = Guest::shell("write 1 a; write 2 b; flush; read 1; exit");
            let guest = guest.spec(disk(&server, &format!("{bus},reconnect=1000")));
            scope.spawn(|| {
                server.wait_for(1);
                server.kill();
            });
            guest.with(|config| config.timeout = Some(Duration::from_secs(3))).run()
        })?;
        ensure!(run.verdict == Verdict::TimedOut, "{bus}: {run}");
    }
    Ok(())
}

fn wrong_disks_are_refused() -> Outcome {
    let server = forgetful()?;
    let uri = server.uri();
    for (spec, says) in [
        (format!("path={uri},engine=uring"), "engine is not for a disk on an NBD server"),
        (format!("path={uri},cache=unsafe"), "is not for a disk on an NBD server"),
        (format!("path={uri},connections=17"), "give a number from 1 to 16"),
        (format!("path={uri},tls-ca=/x"), "are for nbds and nbds+unix"),
        ("path=d.img,reconnect=3".to_owned(), "reconnect is for a disk on an NBD server"),
        ("nbd+vsock://1/".to_owned(), "AF_VSOCK is not supported"),
        ("nbds://localhost".to_owned(), "tls-ca= is missing"),
        ("nbd+unix:///?socket=/no/such/socket".to_owned(), "is the server running"),
    ] {
        let error = match Guest::shell("exit").spec(spec.clone()).run() {
            Err(error) => error,
            Ok(run) => fail!("{spec} is taken: {run}"),
        };
        let text = error.message().unwrap_or_default();
        ensure!(text.contains(says), "{spec}: {text}");
    }
    Ok(())
}
