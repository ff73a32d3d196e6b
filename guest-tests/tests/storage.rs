//! The same guests on each kind of disk: `qemu-img compare` finds no difference to the image that they leave as a raw
//! file.

use std::fs;
use std::path::{Path, PathBuf};

use cafevm_guest_tests::mixed::{self, Holds};
use cafevm_guest_tests::server::{Server, tls_keys};
use cafevm_guest_tests::{
    Failed, Guest, Image, Outcome, SECTOR, SEED, Scratch, ensure, fail, pattern, qemu_img, sectors,
    tests,
};
use cafevm_resources::test_guests::{KEV, MIXED};

tests! {
    needs ["nbdkit", "qemu-nbd", "qemu-img", "openssl"];
    nbd_over_a_unix_socket,
    nbd_over_tcp_with_a_certificate,
    qcow2,
    overlay,
    snapshot,
}

/// What runs on a disk.
#[derive(Debug, Clone, Copy)]
enum Program {
    Shell,
    Mixed,
    /// A course's driver, for svirtb.
    Kev,
}

impl Program {
    const ALL: [Self; 3] = [Self::Shell, Self::Mixed, Self::Kev];

    /// The disk at first.
    fn disk(self) -> Vec<u8> {
        match self {
            Self::Shell => pattern(SEED, 0..256 * SECTOR),
            Self::Mixed => mixed::disk(&mixed::stock()),
            Self::Kev => pattern(SEED, 0..40 * SECTOR),
        }
    }

    /// Runs it on a disk.
    fn run(self, scratch: &Scratch, disk: &str) -> Outcome {
        match self {
            Self::Shell => {
                let commands =
                    "write 1 text; fill 20 0x5a 150; flush; fill 40 0 9; sum 0 256; exit";
                let run = Guest::shell(commands).spec(disk).run()?;
                run.powered_off()?;
                ensure!(run.text.contains("crc32 "), "{run}");
                Ok(())
            }
            Self::Mixed => {
                let stock = scratch.path("stock");
                fs::write(&stock, mixed::stock())?;
                let guest = Guest::new(MIXED).cmdline("seed=800 requests=400");
                let guest = guest.spec(format!("{disk},id=mixed"));
                guest.with(|config| config.initrd = Some(stock)).run()?.passed(&["mixed"])
            }
            Self::Kev => Guest::new(KEV).spec(format!("{disk},bus=svirtb")).run()?.ended(0),
        }
    }

    /// Clears in a raw image what may be anything: what the guest has discarded.
    fn settle(self, image: &Path) -> Outcome {
        if !matches!(self, Self::Mixed) {
            return Ok(());
        }
        let mut bytes = fs::read(image)?;
        let Some(model) = mixed::model(&bytes) else { fail!("the image has become shorter") };
        let discarded: Vec<_> =
            model.enumerate().filter(|(_, holds)| *holds == Holds::Anything).collect();
        for (n, _) in discarded {
            bytes[sectors(n..n + 1)].fill(0);
        }
        Ok(fs::write(image, bytes)?)
    }
}

/// A disk of some kind.
struct Disk {
    /// For `--disk`.
    spec: String,
    /// The file that has its content when the machine has ended.
    file: PathBuf,
    format: &'static str,
    _server: Option<Server>,
}

/// Runs each program on a raw file, and on the disk that `make` makes of a copy of that file.
fn same_as_raw(make: impl Fn(&Scratch, &Image) -> Result<Disk, Failed>) -> Outcome {
    for program in Program::ALL {
        one(program, &make)
            .map_err(|why| format!("{program:?}: {}", why.message().unwrap_or_default()))?;
    }
    Ok(())
}

fn one(program: Program, make: impl Fn(&Scratch, &Image) -> Result<Disk, Failed>) -> Outcome {
    let scratch = Scratch::new()?;
    let raw = scratch.holding("raw.img", program.disk())?;
    program.run(&scratch, &format!("path={}", raw.path().display()))?;
    let image = scratch.holding("d.img", program.disk())?;
    let disk = make(&scratch, &image)?;
    program.run(&scratch, &disk.spec)?;
    let Disk { file, format, _server: server, .. } = disk;
    drop(server);
    if format == "qcow2" {
        qemu_img::check(&file)?;
    }
    ensure!(raw.is_untouched().is_err(), "the program wrote nothing");
    if matches!(program, Program::Mixed) {
        // As a raw file each.
        let content = scratch.path("content.img");
        qemu_img::convert(&file, &content, "raw", &[])?;
        program.settle(raw.path())?;
        program.settle(&content)?;
        qemu_img::compare((raw.path(), "raw"), (&content, "raw"))
    } else {
        qemu_img::compare((raw.path(), "raw"), (&file, format))
    }
}

fn nbd_over_a_unix_socket() -> Outcome {
    same_as_raw(|scratch, image| {
        let socket = scratch.path("socket");
        let (file, place) = (image.path().display().to_string(), socket.display().to_string());
        let arguments = ["--persistent", "-f", "raw", "--discard=unmap", "-k", &place, &file];
        let server = Server::at_socket("qemu-nbd", &arguments, &socket)?;
        let spec = format!("path=nbd+unix:///?socket={place}");
        Ok(Disk { spec, file: image.path().to_owned(), format: "raw", _server: Some(server) })
    })
}

fn nbd_over_tcp_with_a_certificate() -> Outcome {
    same_as_raw(|scratch, image| {
        let (server, port) = Server::encrypted(scratch, image.path(), "IP:127.0.0.1")?;
        let keys = tls_keys(&scratch.path("pki"));
        let spec = format!("path=nbds://127.0.0.1:{port},{keys}");
        Ok(Disk { spec, file: image.path().to_owned(), format: "raw", _server: Some(server) })
    })
}

fn qcow2() -> Outcome {
    same_as_raw(|scratch, image| {
        let file = scratch.path("d.qcow2");
        qemu_img::convert(image.path(), &file, "qcow2", &[])?;
        let spec = format!("path={},format=qcow2", file.display());
        Ok(Disk { spec, file, format: "qcow2", _server: None })
    })
}

fn overlay() -> Outcome {
    same_as_raw(|scratch, image| {
        let file = scratch.path("overlay.qcow2");
        let spec = format!("path={},overlay={}", image.path().display(), file.display());
        Ok(Disk { spec, file, format: "qcow2", _server: None })
    })
}

/// The image stays as it is, raw or qcow2.
fn snapshot() -> Outcome {
    for program in Program::ALL {
        let scratch = Scratch::new()?;
        let image = scratch.holding("d.img", program.disk())?;
        let (copy, qcow2) = (scratch.path("copy.img"), scratch.path("d.qcow2"));
        fs::copy(image.path(), &copy)?;
        qemu_img::convert(image.path(), &qcow2, "qcow2", &[])?;
        for (file, format) in [(image.path(), "raw"), (&qcow2, "qcow2")] {
            let spec = format!("path={},format={format},snapshot=on", file.display());
            program
                .run(&scratch, &spec)
                .map_err(|why| format!("{program:?}: {}", why.message().unwrap_or_default()))?;
            qemu_img::compare((&copy, "raw"), (file, format))?;
        }
    }
    Ok(())
}
