//! Disks on the servers that people use: nbdkit with its filters, qemu-nbd, nbd-server; with TLS and without.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cafevm_guest_tests::server::{PATIENCE, Server, free_port, listens, tls_keys};
use cafevm_guest_tests::{
    Failed, Guest, Image, Outcome, Run, SECTOR, Scratch, ensure, fail, qemu_img, sectors, tests,
};
use cafevm_resources::test_guests::KEV;

tests! {
    needs ["nbdkit", "qemu-nbd", "qemu-img", "nbd-server", "openssl"];
    on_nbdkit,
    on_qemu_nbd,
    on_nbd_server,
    encrypted_with_a_certificate,
    encrypted_for_another_host,
    with_errors,
    with_delays,
    with_large_blocks,
    paused_and_resumed,
    killed_and_started_again,
}

const COMMANDS: &str = "write 1 text; fill 20 0x5a 40; flush; sum 0 64; exit";

fn change(bytes: &mut [u8]) {
    bytes[sectors(1..2)].fill(0);
    bytes[SECTOR..SECTOR + 4].copy_from_slice(b"text");
    bytes[sectors(20..60)].fill(0x5a);
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs the shell on this disk.
fn shell(uri: &str, keys: &str) -> Result<Run, Failed> {
    let run = Guest::shell(COMMANDS).spec(format!("path={uri}{keys}")).run()?;
    run.powered_off()?;
    Ok(run)
}

/// Runs a svirtb driver and the shell, on both buses, on the image behind `uri`.
fn both_guests(scratch: &Scratch, image: &Image, uri: &str, keys: &str) -> Outcome {
    let before = fs::read(image.path())?;
    let kev = Guest::new(KEV).spec(format!("path={uri}{keys},bus=svirtb")).run()?;
    kev.ended(0)?;
    let mut bytes = before.clone();
    let last = bytes.len() - SECTOR;
    bytes[sectors(2..3)].fill(0x22);
    bytes[last..].fill(0x99);
    let wanted = scratch.holding("wanted", bytes)?;
    qemu_img::compare((wanted.path(), "raw"), (image.path(), "raw"))?;
    fs::write(image.path(), before)?;
    both_shells(image, uri, keys)
}

/// Runs the shell on both buses.
fn both_shells(image: &Image, uri: &str, keys: &str) -> Outcome {
    shell(uri, keys)?;
    image.holds(change)?;
    shell(uri, &format!("{keys},bus=svirtb"))?;
    image.holds(change)
}

fn on_nbdkit() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let file = text(image.path());
    let (_server, uri) = Server::nbdkit(&scratch, &["file", &file])?;
    both_guests(&scratch, &image, &uri, "")?;
    shell(&uri, ",connections=4,queues=2").map(drop)
}

fn on_qemu_nbd() -> Outcome {
    let scratch = Scratch::new()?;
    let (image, socket) = (scratch.image("d.img", 64 * SECTOR)?, scratch.path("qemu.sock"));
    let (file, place) = (text(image.path()), text(&socket));
    let arguments = ["--persistent", "-f", "raw", "-x", "name/with space", "-k", &place, &file];
    let _server = Server::at_socket("qemu-nbd", &arguments, &socket)?;
    let uri = format!("nbd+unix:///name%2Fwith%20space?socket={place}");
    both_guests(&scratch, &image, &uri, "")?;
    let Err(error) = shell(&format!("nbd+unix:///other?socket={place}"), "") else {
        fail!("an export that is not there is taken");
    };
    let text = error.message().unwrap_or_default();
    ensure!(text.contains("NBD_OPT_GO: the server refuses: it has no export"), "{text}");
    Ok(())
}

/// The id of a server that runs in the background, which is killed when this is dropped.
struct Daemon(String);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails where it has ended, and that is as well.
        let _killed = Command::new("kill").args(["-KILL", &self.0]).status();
    }
}

fn on_nbd_server() -> Outcome {
    let scratch = Scratch::new()?;
    let (image, port) = (scratch.image("d.img", 64 * SECTOR)?, free_port()?);
    let (file, config, pid) = (text(image.path()), scratch.path("config"), scratch.path("pid"));
    let lines = format!(
        "[generic]\nlistenaddr = 127.0.0.1\nport = {port}\nallowlist = true\n\n[disk]\nexportname = {file}\nflush = \
         true\nfua = true\ntrim = true\n"
    );
    fs::write(&config, lines)?;
    // It goes to the background.
    let mut server = Command::new("nbd-server");
    let started = server.args(["-C", &text(&config), "-p", &text(&pid)]).output()?;
    let said = String::from_utf8_lossy(&started.stderr);
    ensure!(started.status.success(), "nbd-server: {said}");
    let begin = Instant::now();
    let id = loop {
        match fs::read_to_string(&pid) {
            Ok(id) if id.ends_with('\n') && listens(port) => break id.trim().to_owned(),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
        ensure!(begin.elapsed() < PATIENCE, "nbd-server does not listen: {said}");
    };
    let _daemon = Daemon(id);
    both_guests(&scratch, &image, &format!("nbd://127.0.0.1:{port}/disk"), "")
}

fn encrypted_with_a_certificate() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let (_server, port) = Server::encrypted(&scratch, image.path(), "DNS:localhost,IP:127.0.0.1")?;
    let file = |name: &str| text(&scratch.path("pki").join(name));
    let (ca, cert, key) = (file("ca-cert.pem"), file("client-cert.pem"), file("client-key.pem"));
    let keys = format!(",{}", tls_keys(&scratch.path("pki")));
    both_guests(&scratch, &image, &format!("nbds://127.0.0.1:{port}"), &keys)?;
    let name = format!("nbds://127.0.0.1:{port}/?tls-hostname=localhost");
    shell(&name, &keys)?;
    for (uri, keys, says) in [
        (format!("nbd://127.0.0.1:{port}"), String::new(), "it requires TLS; use nbds"),
        (
            format!("nbds://127.0.0.1:{port}"),
            format!(",tls-ca={ca},tls-cert={cert}"),
            "belong together",
        ),
        (format!("nbds://127.0.0.1:{port}"), format!(",tls-ca={key}"), "has no certificate"),
    ] {
        let Err(error) = shell(&uri, &keys) else { fail!("{uri}{keys} is taken") };
        let text = error.message().unwrap_or_default();
        ensure!(text.contains(says), "{uri}{keys}: {text}");
    }
    Ok(())
}

fn encrypted_for_another_host() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let (_server, port) = Server::encrypted(&scratch, image.path(), "DNS:elsewhere.example")?;
    let ca = text(&scratch.path("pki").join("ca-cert.pem"));
    let Err(error) = shell(&format!("nbds://127.0.0.1:{port}"), &format!(",tls-ca={ca}")) else {
        fail!("a certificate for another host is taken");
    };
    let text = error.message().unwrap_or_default();
    ensure!(text.contains("TLS: invalid peer certificate"), "{text}");
    image.is_untouched()
}

fn with_errors() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let file = text(image.path());
    let arguments =
        ["--filter=error", "file", &file, "error-pwrite=ENOSPC", "error-pwrite-rate=100%"];
    let (_server, uri) = Server::nbdkit(&scratch, &arguments)?;
    let run = shell(&uri, "")?;
    ensure!(run.text.contains("write: virtio 0: it answered IOERR"), "{run}");
    image.is_untouched()
}

fn with_delays() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let file = text(image.path());
    let arguments = ["--filter=delay", "file", &file, "rdelay=20ms", "wdelay=20ms"];
    let (_server, uri) = Server::nbdkit(&scratch, &arguments)?;
    both_shells(&image, &uri, "")
}

fn with_large_blocks() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let file = text(image.path());
    let arguments = [
        "--filter=blocksize-policy",
        "file",
        &file,
        "blocksize-minimum=4096",
        "blocksize-preferred=4096",
        "blocksize-maximum=8192",
        "blocksize-error-policy=error",
    ];
    let (_server, uri) = Server::nbdkit(&scratch, &arguments)?;
    both_guests(&scratch, &image, &uri, "")
}

fn paused_and_resumed() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let file = text(image.path());
    let (server, uri) = Server::nbdkit(&scratch, &["file", &file])?;
    std::thread::scope(|scope| -> Outcome {
        let stutters = scope.spawn(|| -> Outcome {
            for _ in 0..20 {
                server.signal("-STOP")?;
                std::thread::sleep(Duration::from_millis(20));
                server.signal("-CONT")?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let outcome = both_shells(&image, &uri, "");
        stutters.join().map_err(|_| Failed::from("the stutter panicked"))??;
        outcome
    })
}

fn killed_and_started_again() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let file = text(image.path());
    let arguments = ["--filter=delay", "file", &file, "wdelay=20ms"];
    let (server, uri) = Server::nbdkit(&scratch, &arguments)?;
    let run = std::thread::scope(|scope| -> Result<Run, Failed> {
        let guest = scope.spawn(|| {
            let guest = Guest::shell("fill 20 0x5a 40; write 1 text; flush; sum 0 64; flush; exit");
            guest.spec(format!("path={uri},reconnect=100")).run()
        });
        // Not on another thread: a server ends with the one that starts it (--exit-with-parent).
        let mut server = server;
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(30));
            drop(server);
            server = Server::nbdkit(&scratch, &arguments)?.0;
        }
        let run = guest.join().map_err(|_| Failed::from("the guest panicked"))?;
        drop(server);
        run
    })?;
    run.powered_off()?;
    ensure!(!run.text.contains("IOERR"), "{run}");
    let held = image.holds(change);
    held.map_err(|why| format!("{}: {run}", why.message().unwrap_or_default()).into())
}
