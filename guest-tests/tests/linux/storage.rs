//! Linux on a disk of each kind: on two NBD servers, of which one wants a certificate, in a qcow2 file, in an overlay and
//! on a snapshot. The servers are nbdkit in the outer machine, with the libraries of this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cafevm_guest_tests::{Failed, Outcome, Scratch, pattern, qemu_img, server};

use crate::debian;
use crate::disk;
use crate::kernel::Form;
use crate::needs;
use crate::scene::Scene;

/// The bytes of each disk.
const SIZE: usize = 8 << 20;
/// The unit of the places that the guest writes to.
const UNIT: usize = 64 << 10;
const PORT: u16 = 10809;

/// Makes `name` with the bytes that a disk has at first.
fn image(scratch: &Scratch, name: &str) -> Result<PathBuf, Failed> {
    Ok(scratch.seeded(name, 1, SIZE)?.path().to_owned())
}

/// nbdkit, its plugin for files, and the libraries of both with the program that loads them.
fn nbdkit() -> Result<Vec<PathBuf>, Failed> {
    let program = needs::find("nbdkit").ok_or("no nbdkit")?;
    let config = debian::run(Command::new(&program).arg("--dump-config"))?;
    let directory = config.lines().find_map(|line| line.strip_prefix("plugindir="));
    let plugin =
        Path::new(directory.ok_or("nbdkit names no plugindir")?).join("nbdkit-file-plugin.so");
    let linked = debian::run(Command::new("ldd").args([&program, &plugin]))?;
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    // The two files are named too, with a colon.
    let libraries = libraries.filter(|word| !word.ends_with(':')).map(PathBuf::from);
    Ok([program, plugin].into_iter().chain(libraries).collect())
}

/// Five disks in one boot: written, flushed, read again from the storage, and compared from outside.
pub(crate) fn disks_of_each_kind(name: &str) -> Outcome {
    let scratch = Scratch::new()?;
    let mut files = nbdkit()?;
    for name in ["unix.img", "tls.img", "base.img", "kept.img"] {
        files.push(image(&scratch, name)?);
    }
    let before = image(&scratch, "before.img")?;
    let qcow2 = scratch.path("image.qcow2");
    qemu_img::convert(&before, &qcow2, "qcow2", &[])?;
    files.push(qcow2);
    server::certificates(&scratch.path(""), "IP:127.0.0.1")?;
    let pki = ["ca-cert", "server-cert", "server-key", "client-cert", "client-key"];
    files.extend(pki.map(|name| scratch.path(&format!("{name}.pem"))));

    let nbdkit = "./ld-linux-x86-64.so.2 --library-path . ./nbdkit --foreground";
    let tls = server::tls_keys(Path::new("."));
    let go = format!(
        "ifconfig lo 127.0.0.1 up\n\
         {nbdkit} --pidfile /tmp/one --unix /tmp/socket ./nbdkit-file-plugin.so unix.img & one=$!\n\
         {nbdkit} --pidfile /tmp/two --ipaddr 127.0.0.1 --port {PORT} --tls=require --tls-verify-peer --tls-certificates=/vmm \
         ./nbdkit-file-plugin.so tls.img & two=$!\n\
         n=0; while ! {{ [ -s /tmp/one ] && [ -s /tmp/two ]; }} && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done\n\
         TMPDIR=/tmp ./cafevm run -v --kernel bzimage --initrd initramfs --memory 256M --timeout 150 \
         --cmdline 'quiet do=kinds' \
         --disk 'path=nbd+unix:///?socket=/tmp/socket,id=unix' \
         --disk 'path=nbds://127.0.0.1:{PORT},{tls},id=tls' \
         --disk path=image.qcow2,format=qcow2,id=qcow2 \
         --disk path=base.img,overlay=overlay.qcow2,id=overlay \
         --disk path=kept.img,snapshot=on,id=snapshot </dev/null\n\
         echo \"STATUS $?\"\n\
         kill $one $two; wait $one $two\n"
    );
    let scene = Scene {
        name: name.to_owned(),
        forms: vec![Form::BzImage],
        files,
        go,
        typed: Vec::new(),
        limit: Duration::from_secs(240),
    };
    let played = scene.play()?;
    played.says("STATUS ", "0")?;

    let busybox = Scene::busybox()?;
    let sum = disk::md5(&busybox)?;
    let written = fs::read(busybox)?;
    for (id, file, format, units) in [
        ("unix", "unix.img", "raw", 1),
        ("tls", "tls.img", "raw", 2),
        ("qcow2", "image.qcow2", "qcow2", 3),
        ("overlay", "overlay.qcow2", "qcow2", 4),
    ] {
        played.says(&format!("INNER {id} "), &sum)?;
        let copy = played.dir.join(file);
        disk::copy_out(&played.payload, &format!("/{file}"), &copy)?;
        if id == "overlay" {
            let base = played.dir.join("base.img");
            disk::copy_out(&played.payload, "/base.img", &base)?;
            qemu_img::compare((&before, "raw"), (&base, "raw"))?;
        }
        let mut wanted = pattern(1, 0..SIZE);
        wanted[units * UNIT..units * UNIT + written.len()].copy_from_slice(&written);
        let wanted = scratch.holding("wanted.img", wanted)?;
        if format == "qcow2" {
            qemu_img::check(&copy)?;
        }
        qemu_img::compare((wanted.path(), "raw"), (&copy, format))?;
    }
    played.says("INNER snapshot ", &sum)?;
    let kept = played.dir.join("kept.img");
    disk::copy_out(&played.payload, "/kept.img", &kept)?;
    qemu_img::compare((&before, "raw"), (&kept, "raw"))
}
