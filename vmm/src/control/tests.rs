use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use cafevm_devices::block::{Access, Cache, Disk, Image};
use cafevm_devices::irq::IrqLine;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::trace::Tracer;
use cafevm_devices::virtio::blk::{Blk, Options};
use cafevm_devices::virtio::mmio;

use super::*;
use crate::vcpu::Ending;

struct NoLine;

impl IrqLine for NoLine {
    fn raise(&self) {}
}

fn controlled(image: &Path) -> Controlled {
    std::fs::write(image, [0; 1024]).unwrap();
    let image = Image::open(image, Cache::WriteBack.opening(Access::ReadWrite)).unwrap();
    let blk = Blk::new("virtio0", &Disk::from_image(image), &Options::default(), Tracer::none());
    let ram = GuestRam::anonymous(&[(0, 4096)]).unwrap();
    let options = mmio::Options::default();
    let device = Mmio::new(Box::new(blk.unwrap()), ram, Arc::new(NoLine), options);
    let device = Arc::new(Mutex::new(device));
    let ending = Arc::new(Ending::new().unwrap());
    Controlled {
        disks: vec![Handle { name: "virtio0".into(), id: "root".into(), device }],
        pages: RegisterPages::default(),
        pause: Arc::new(Pause::new(ending).unwrap()),
    }
}

#[test]
fn each_message_has_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d.img");
    let mut controlled = controlled(&image);
    for (line, answer) in [
        (r#"{"resize":{"id":"root","size":4096}}"#, r#"{"result":{"id":"root","size":4096}}"#),
        (
            r#"{"resize":{"id":"virtio0","size":"1M"}}"#,
            r#"{"result":{"id":"virtio0","size":1048576}}"#,
        ),
        (
            r#"{"status":{}}"#,
            r#"{"result":{"disks":[{"id":"root","name":"virtio0"}],"paused":false}}"#,
        ),
        (r#"{"pause":{}}"#, r#"{"result":{}}"#),
    ] {
        assert_eq!(controlled.answer(line.as_bytes()), answer);
    }
    assert_eq!(image.metadata().unwrap().len(), 1 << 20);
    assert!(controlled.pause.is_paused());
    controlled.answer(br#"{"resume":{}}"#);
    assert!(!controlled.pause.is_paused());
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d.img");
    let mut controlled = controlled(&image);
    for (line, says) in [
        (
            r#"{"resize":{"id":"root","size":512}}"#,
            "root: 512 bytes are not more than the disk's 1024",
        ),
        (r#"{"resize":{"id":"boot","size":4096}}"#, "no virtio disk has the id"),
        (r#"{"resize":{"id":"root","size":"many"}}"#, "size"),
        (r#"{"resize":{"id":"root","size":-1}}"#, "not a message"),
        (r#"{"resize":{"id":"root"}}"#, "missing field `size`"),
        (r#"{"format":{}}"#, "unknown variant `format`"),
        ("resize", "not a message"),
        ("{", "not a message"),
    ] {
        let answer: Value = serde_json::from_str(&controlled.answer(line.as_bytes())).unwrap();
        assert!(answer["error"].as_str().unwrap().contains(says), "{line}: {answer}");
    }
    assert_eq!(image.metadata().unwrap().len(), 1024);
    // While a full disk holds the device, nobody waits for it.
    let device = controlled.disks[0].device.clone();
    let held = device.lock().unwrap();
    controlled.pause.pause();
    assert!(controlled.answer(br#"{"resize":{"id":"root","size":4096}}"#).contains("resume"));
    drop(held);
}

#[test]
fn a_connection_gets_a_line_for_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut controlled = controlled(&dir.path().join("d.img"));
    let path = dir.path().join("control");
    let mut socket = ControlSocket::listen(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ControlSocket::listen(&path).is_err());

    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"{\"pause\":{}}\n\n{\"sta").unwrap();
    socket.serve(&mut controlled);
    client.write_all(b"tus\":{}}\n").unwrap();
    socket.serve(&mut controlled);
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), r#"{"result":{}}"#);
    assert!(lines.next().unwrap().contains(r#""paused":true"#));

    // A line without end is no reason to remember it all.
    let mut endless = UnixStream::connect(&path).unwrap();
    endless.set_nonblocking(true).unwrap();
    while endless.write_all(&[b'x'; 4096]).is_ok() {
        socket.serve(&mut controlled);
    }
    assert_eq!(socket.poll_fds().count(), 2); // The first client and the listener.

    drop(socket);
    assert!(!path.exists());
}

#[test]
fn what_a_killed_machine_left_is_replaced_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(ControlSocket::listen(&path).unwrap());
    std::fs::write(&path, "precious").unwrap();
    let error = ControlSocket::listen(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}
