use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;

use cafevm_devices::block::{Access, Cache, Disk, Image};
use cafevm_devices::display::Screen;
use cafevm_devices::irq::IrqLine;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::observe::Tap;
use cafevm_devices::virtio::blk::{Blk, BlkOptions};
use cafevm_devices::virtio::input::InputKind;
use cafevm_devices::virtio::mmio::{self, Mmio};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::control::{Seat, listen};
use crate::display::hands::Hands;
use crate::display::screenshot::Screenshots;
use crate::display::testing::TestInput;
use crate::display::typing::{Typist, TypistSubscriber};
use crate::exit::Verdict;
use crate::machine::devices::{Devices, VirtioDisk, VirtioSlot};
use crate::machine::register_pages::RegisterPages;
use crate::runtime::event_loop::EventLoop;
use crate::runtime::jobs::{Jobs, Unsettled};
use crate::runtime::messages::{Done, Job};
use crate::runtime::pausing::Pausing;
use crate::threads::ending::Ending;
use crate::threads::gate::Gate;
use crate::threads::mailbox::{Outbox, mailbox};
use crate::threads::pacer::Pacer;
use crate::waiting::Explanation;

struct NoLine;

impl IrqLine for NoLine {
    fn raise(&self) {}
}

/// A socket with everything but threads: the test acts as the I/O thread.
struct Scene {
    dir: TempDir,
    events: EventLoop<dyn Subscriber>,
    pausing: Rc<RefCell<Pausing<'static>>>,
    jobs: Jobs,
    results: Inbox<Done>,
    answers: Outbox<(Ticket, Answer)>,
    ending: Arc<Ending>,
}

impl Scene {
    fn new() -> Self {
        Self::with(None, None)
    }

    /// A machine with a screen, and a keyboard that a driver uses.
    fn with(screen: Option<Screen>, keyboard: Option<&TestInput>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("d.img");
        fs::write(&image, [0; 1024]).unwrap();
        let image = Image::open(&image, Cache::WriteBack.opening(Access::ReadWrite)).unwrap();
        let gate = Arc::new(Gate::new().unwrap());
        let pacer = Arc::new(Pacer::new(gate.clone()).unwrap());
        let disk = Disk::from_image(image).paced_by(pacer);
        let options = BlkOptions { id: "root".into(), ..BlkOptions::default() };
        let blk = Blk::new("virtio0", &disk, &options, Tap::default()).unwrap();
        let blk = Arc::new(blk);
        let ram = GuestRam::anonymous(&[(0, 4096)]).unwrap();
        let device = Mmio::new(blk.clone(), ram, Arc::new(NoLine), mmio::MmioOptions::default());
        let disks = vec![VirtioDisk { device: Arc::new(device), blk }];
        let slot = |disk: &VirtioDisk| VirtioSlot {
            name: disk.blk.name().to_owned(),
            irq: 5,
            mmio: disk.device.clone(),
        };
        let virtio = disks.iter().map(slot).collect();
        let devices = Devices { disks, virtio, images: vec![disk], ..Devices::default() };

        let (to_jobs, inbox) = mailbox().unwrap();
        let (results, from_jobs) = mailbox().unwrap();
        let (answers, to_client) = mailbox().unwrap();
        let kick = Box::new(|| ());
        let pausing = Pausing::new(gate.clone(), kick, to_jobs.clone(), answers.clone());
        let pausing = Rc::new(RefCell::new(pausing));
        let jobs = Jobs {
            devices: devices.clone(),
            pages: Arc::new(Mutex::new(RegisterPages::default())),
            gate,
            unsettled: Arc::new(Unsettled::new().unwrap()),
            inbox,
            results,
        };
        let ending = Arc::new(Ending::new().unwrap());
        let inputs: Vec<_> = keyboard.iter().map(|keyboard| keyboard.input.clone()).collect();
        let hands = Hands::of(&inputs);
        let typist = Typist::new(hands.clone(), answers.clone()).unwrap();
        let typist = Rc::new(RefCell::new(typist));
        let screen = screen.map(|screen| {
            let shots = Screenshots::new(screen.clone(), answers.clone(), Arc::default());
            (screen, shots)
        });
        let seat = Seat { screen, hands, typist: typist.clone() };
        let operator = Operator::new(
            devices,
            to_jobs,
            pausing.clone(),
            ending.clone(),
            Rc::new(Explanation::default),
            answers.clone(),
            seat,
        );
        let listener = listen(&dir.path().join("control")).unwrap();
        let socket = ControlSocket::new(listener, operator, to_client).unwrap();
        let mut events: EventLoop<dyn Subscriber> = EventLoop::new().unwrap();
        events.add(Box::new(socket)).unwrap();
        events.add(Box::new(TypistSubscriber(typist))).unwrap();
        Self { dir, events, pausing, jobs, results: from_jobs, answers, ending }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("control")).unwrap()
    }

    /// Handles events until none is left.
    fn serve(&mut self) {
        self.events.serve_what_is_there().unwrap();
    }

    /// Runs the jobs of the I/O thread.
    fn work(&mut self) {
        let jobs: Vec<Job> = self.jobs.inbox.take().collect();
        jobs.iter().for_each(|job| self.jobs.perform(job));
        for done in self.results.take() {
            match done {
                Done::Answered { ticket, answer } => self.answers.send((ticket, answer)),
                Done::Quiesced(result) => self.pausing.borrow_mut().quiesced(result),
                Done::Released(result) => self.pausing.borrow_mut().released(result),
            }
        }
        self.serve();
    }

    /// Sends a line and returns the answer.
    fn tell(&mut self, client: &mut BufReader<UnixStream>, line: &str) -> String {
        writeln!(client.get_mut(), "{line}").unwrap();
        self.serve();
        self.work();
        next(client)
    }

    fn size(&self) -> u64 {
        self.dir.path().join("d.img").metadata().unwrap().len()
    }
}

/// The next answer, which must be there already.
fn next(client: &mut BufReader<UnixStream>) -> String {
    client.get_ref().set_nonblocking(true).unwrap();
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    client.get_ref().set_nonblocking(false).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn each_message_has_its_answer() {
    let mut scene = Scene::new();
    let mut client = BufReader::new(scene.connect());
    let path = scene.dir.path().join("d.img");
    let zeros = r#"{"discard":0,"flush":0,"read":0,"write":0,"write-zeroes":0}"#;
    let errors = r#"{"flush":0,"host":0,"out-of-range":0,"read-only":0,"stopped":0}"#;
    let status = |state| {
        let known = format!(
            r#""bus":"virtio","bytes":{zeros},"engine":"sync","errors":{errors},"format":"raw","id":"root","in-flight":0"#
        );
        let path = path.display();
        let more = format!(
            r#""name":"virtio0","path":"{path}","read-only":false,"requests":{zeros},"size":1048576"#
        );
        format!(r#"{{"result":{{"disks":[{{{known},{more}}}],{state}}}}}"#)
    };
    for (line, answer) in [
        (r#"{"resize":{"id":"root","size":4096}}"#, r#"{"result":{"id":"root","size":4096}}"#),
        (
            r#"{"resize":{"id":"virtio0","size":"1M"}}"#,
            r#"{"result":{"id":"virtio0","size":1048576}}"#,
        ),
        (r#"{"status":{}}"#, &status(r#""paused":false,"state":"running""#)),
        (r#"{"pause":{}}"#, r#"{"result":{}}"#),
        (
            r#"{"status":{}}"#,
            &status(
                r#""paused":true,"reason":"a client of the control socket asked for it","state":"paused""#,
            ),
        ),
        (r#"{"resume":{}}"#, r#"{"result":{}}"#),
    ] {
        assert_eq!(scene.tell(&mut client, line), answer);
    }
    assert_eq!(scene.size(), 1 << 20);
    assert_eq!(scene.pausing.borrow().status(), ("running", None));
}

/// The answer to a line, which arrives by itself.
fn later(scene: &mut Scene, client: &mut BufReader<UnixStream>, line: &str) -> String {
    writeln!(client.get_mut(), "{line}").unwrap();
    client.get_ref().set_nonblocking(true).unwrap();
    let mut answer = String::new();
    while !answer.ends_with('\n') {
        scene.serve();
        match client.read_line(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        thread::yield_now();
    }
    answer.trim_end().to_owned()
}

#[test]
fn what_is_typed_and_seen() {
    let screen = Screen::default();
    screen.set_size(20, 10);
    let mut keyboard = TestInput::new(InputKind::Keyboard);
    let mut scene = Scene::with(Some(screen), Some(&keyboard));
    let mut client = BufReader::new(scene.connect());
    let png = scene.dir.path().join("x.png");
    let line = format!(r#"{{"screenshot":{{"to":"{}"}}}}"#, png.display());
    let answer = later(&mut scene, &mut client, &line);
    assert_eq!(
        answer,
        format!(r#"{{"result":{{"height":10,"to":"{}","width":20}}}}"#, png.display())
    );
    assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG"));

    let ok = r#"{"result":{}}"#;
    assert_eq!(later(&mut scene, &mut client, r#"{"keys":["ctrl","KEY_ALT","delete"]}"#), ok);
    let chord = [(29, true), (56, true), (111, true), (111, false), (56, false), (29, false)];
    assert_eq!(keyboard.keys(), chord);
    assert_eq!(later(&mut scene, &mut client, r#"{"type":"Hi\n"}"#), ok);
    let hi = [
        (42, true),
        (35, true),
        (35, false),
        (42, false),
        (23, true),
        (23, false),
        (28, true),
        (28, false),
    ];
    assert_eq!(keyboard.keys(), hi);

    for (line, says) in [
        (r#"{"type":"a\u00e4b\u00e4"}"#, "no key for 'ä'; nothing is typed"),
        (r#"{"keys":["ctrll"]}"#, "there is no key \"ctrll\" (do you mean 'ctrl'?)"),
        (r#"{"pointer":{"x":1,"y":1}}"#, "no tablet"),
        (r#"{"pointer":{"dx":1}}"#, "no mouse"),
        (r#"{"pointer":{"x":20,"y":1}}"#, "pixel 20, 1 is outside of the screen, which has 20x10"),
    ] {
        let answer: Value = serde_json::from_str(&later(&mut scene, &mut client, line)).unwrap();
        assert!(answer["error"].as_str().unwrap().contains(says), "{line}: {answer}");
    }
    assert_eq!(keyboard.keys(), []);
    keyboard.stop();
    let answer = later(&mut scene, &mut client, r#"{"type":"a"}"#);
    assert!(answer.contains("no driver of the guest uses the keyboard"), "{answer}");
    let _paused = scene.tell(&mut client, r#"{"pause":{}}"#);
    let answer = scene.tell(&mut client, r#"{"type":"a"}"#);
    assert!(answer.contains("the machine is paused; resume it first"), "{answer}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn limits_are_changed_and_shown() {
    let mut scene = Scene::new();
    let mut client = BufReader::new(scene.connect());
    for (line, limits) in [
        (r#"{"limit":{"id":"root","iops":50}}"#, r#""iops":50,"iops-burst":5"#),
        (
            r#"{"limit":{"id":"virtio0","bps":"1M","bps-burst":4096,"iops":null}}"#,
            r#""bps":1048576,"bps-burst":4096"#,
        ),
    ] {
        let answer = scene.tell(&mut client, line);
        let id = if line.contains("root") { "root" } else { "virtio0" };
        let expected = format!(r#"{{"result":{{{limits},"id":"{id}"}}}}"#);
        assert_eq!(json(&answer), json(&expected));
        let status = scene.tell(&mut client, r#"{"status":{}}"#);
        assert!(status.contains(&format!(r#""limits":{{{limits}}}"#)), "{status}");
        assert!(status.contains(r#""delayed":0"#), "{status}");
    }
    let none = r#"{"limit":{"id":"root","bps":0}}"#;
    assert_eq!(scene.tell(&mut client, none), r#"{"result":{"id":"root"}}"#);
    assert!(!scene.tell(&mut client, r#"{"status":{}}"#).contains("limits"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let mut scene = Scene::new();
    let mut client = BufReader::new(scene.connect());
    for (line, says) in [
        (
            r#"{"resize":{"id":"root","size":512}}"#,
            "root: 512 bytes are not more than the disk's 1024",
        ),
        (r#"{"resize":{"id":"boot","size":4096}}"#, "no virtio disk has the id"),
        (r#"{"resize":{"id":"root","size":"many"}}"#, "size"),
        (
            r#"{"resize":{"id":"root","size":-1}}"#,
            "the size -1 is neither a whole number of bytes nor a text such as \"64M\"",
        ),
        (r#"{"resize":{"id":"root"}}"#, "\"resize\" needs a \"size\""),
        (r#"{"resize":{"size":4096}}"#, "\"resize\" needs an \"id\""),
        (r#"{"resize":{"id":7,"size":4096}}"#, "the id 7 is not a text"),
        (r#"{"resize":{"id":"root","size":4096,"now":true}}"#, "\"resize\" has no \"now\""),
        (r#"{"pause":{"id":"root"}}"#, "\"pause\" has no \"id\""),
        (r#"{"pause":true}"#, "the value of \"pause\" is a JSON object"),
        (r#"{"pause":{},"resume":{}}"#, "with one key"),
        (r#"{"format":{}}"#, "there is no message \"format\"; the messages are {\"status\":{}}, "),
        (r#"{"screenshot":{}}"#, "\"screenshot\" needs a \"to\""),
        (r#"{"screenshot":{"to":7}}"#, "7 is no path"),
        (r#"{"screenshot":{"to":"x.png","cursor":1}}"#, "\"cursor\" is true or false"),
        (r#"{"screenshot":{"to":"x.png"}}"#, "no screen; start it with --gpu"),
        (r#"{"keys":["a"]}"#, "no keyboard; start it with --input keyboard"),
        (r#"{"keys":[]}"#, "1 to 16 of them"),
        (r#"{"keys":{"a":1}}"#, "a list of names"),
        (r#"{"keys":[1]}"#, "a list of names"),
        (r#"{"type":"a"}"#, "no keyboard; start it with --input keyboard"),
        (r#"{"type":{}}"#, "the value of \"type\" is a text"),
        (r#"{"pointer":{"x":1,"y":1}}"#, "the machine has none; start it with --gpu"),
        (
            r#"{"pointer":{"buttons":[]}}"#,
            "no pointer; start it with --input tablet or --input mouse",
        ),
        (r#"{"pointer":{}}"#, "\"pointer\" needs \"x\" and \"y\""),
        (r#"{"pointer":{"x":1}}"#, "give \"x\" and \"y\", or \"dx\" and \"dy\""),
        (r#"{"pointer":{"x":1,"y":1,"dx":1}}"#, "give \"x\" and \"y\", or \"dx\" and \"dy\""),
        (r#"{"pointer":{"x":-1,"y":1}}"#, "pixel -1 is not on the screen"),
        (r#"{"pointer":{"dx":1.5}}"#, "\"dx\" is a whole number"),
        (r#"{"pointer":{"wheel":99999}}"#, "\"wheel\" is a whole number of at most 32767"),
        (
            r#"{"pointer":{"buttons":["top"]}}"#,
            "there is no button \"top\"; the buttons are left, ",
        ),
        (r#"{"pointer":{"buttons":1}}"#, "\"buttons\" is a list"),
        (r#"{"pointer":{"z":1,"dx":1}}"#, "\"pointer\" has no \"z\""),
        (r#"{"limit":{"iops":1}}"#, "\"limit\" needs an \"id\""),
        (r#"{"limit":{"id":"svirtb","iops":1}}"#, "no virtio disk has the id"),
        (r#"{"limit":{"id":"root","iops":-1}}"#, "the iops -1 is no whole number"),
        (r#"{"limit":{"id":"root","bps":"fast"}}"#, "bps \"fast\": 'fast' is not a size"),
        (r#"{"limit":{"id":"root","iops-burst":5}}"#, "iops-burst needs iops"),
        (r#"{"limit":{"id":"root","iops":5,"iops-burst":0}}"#, "iops-burst is 0"),
        (r#"{"limit":{"id":"root","iop":5}}"#, "\"limit\" has no \"iop\""),
        ("\"resize\"", "a message is a JSON object"),
        ("resize", "this is not JSON (the mistake is at byte 1)"),
        ("{", "this is not JSON"),
    ] {
        let answer: Value = serde_json::from_str(&scene.tell(&mut client, line)).unwrap();
        assert!(answer["error"].as_str().unwrap().contains(says), "{line}: {answer}");
    }
    assert_eq!(scene.size(), 1024);
}

#[test]
fn a_connection_gets_a_line_for_a_line() {
    let mut scene = Scene::new();
    let path = scene.dir.path().join("control");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(listen(&path).is_err());

    let mut client = BufReader::new(scene.connect());
    client.get_mut().write_all(b"{\"pause\":{}}\n\n{\"sta").unwrap();
    scene.serve();
    client.get_mut().write_all(b"tus\":{}}\n").unwrap();
    scene.serve();
    scene.work();
    assert_eq!(next(&mut client), r#"{"result":{}}"#);
    assert!(next(&mut client).contains(r#""paused":true"#));
    drop(scene.events);
    assert!(!path.exists());
}

/// Only the client that sent the long job waits, and its messages keep their order.
#[test]
fn a_client_that_waits_keeps_no_other_waiting() {
    let mut scene = Scene::new();
    let (mut one, mut other) = (BufReader::new(scene.connect()), BufReader::new(scene.connect()));
    one.get_mut().write_all(b"{\"pause\":{}}\n{\"status\":{}}\n").unwrap();
    other.get_mut().write_all(b"{\"status\":{}}\n").unwrap();
    scene.serve();
    assert!(next(&mut other).contains(r#""state":"pausing""#));
    scene.work();
    assert_eq!(next(&mut one), r#"{"result":{}}"#);
    assert!(next(&mut one).contains(r#""state":"paused""#));
}

#[test]
fn a_last_message_without_an_end_is_answered() {
    let mut scene = Scene::new();
    let mut client = BufReader::new(scene.connect());
    client.get_mut().write_all(br#"{"status":{}}"#).unwrap();
    client.get_mut().shutdown(Shutdown::Write).unwrap();
    scene.serve();
    let mut seen = String::new();
    client.read_line(&mut seen).unwrap();
    assert!(seen.contains(r#""state":"running""#), "{seen}");
    assert_eq!(client.read_line(&mut seen).unwrap(), 0, "the connection ends then");
}

#[test]
fn what_a_client_has_sent_is_done_though_it_has_gone() {
    let mut scene = Scene::new();
    let mut client = scene.connect();
    client.write_all(b"{\"pause\":{}}\n{\"resize\":{\"id\":\"root\",\"size\":4096}}\n").unwrap();
    scene.serve();
    drop(client);
    scene.serve();
    scene.work();
    assert_eq!(scene.pausing.borrow().status().0, "paused");
    scene.work();
    assert_eq!(scene.size(), 4096);
    // The closed connection has made room for others.
    let clients: Vec<_> = (0..8).map(|_| BufReader::new(scene.connect())).collect();
    scene.serve();
    for mut client in clients {
        assert!(scene.tell(&mut client, r#"{"status":{}}"#).contains("paused"));
    }
}

/// A line without an end is not kept in memory, and the connection continues after it.
#[test]
fn a_line_that_is_too_long_is_answered_and_skipped() {
    let mut scene = Scene::new();
    let mut client = BufReader::new(scene.connect());
    for _ in 0..256 {
        client.get_mut().write_all(&[b'x'; 4096]).unwrap();
        scene.serve();
    }
    client.get_mut().write_all(b"x\n{\"status\":{}}\n").unwrap();
    scene.serve();
    assert!(next(&mut client).contains("at most 16384 bytes; this one is ignored"));
    assert!(next(&mut client).contains(r#""state":"running""#));
}

#[test]
fn a_thousand_clients_are_served_in_turn() {
    let mut scene = Scene::new();
    let path = scene.dir.path().join("control");
    thread::scope(|scope| {
        let clients: Vec<_> = (0..1000)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = BufReader::new(UnixStream::connect(&path).unwrap());
                    client.get_mut().write_all(b"{\"status\":{}}\n").unwrap();
                    let mut line = String::new();
                    client.read_line(&mut line).unwrap();
                    line.contains("running")
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            scene.serve();
            thread::yield_now();
        }
        assert!(clients.into_iter().all(|client| client.join().unwrap()));
    });
    let mut client = BufReader::new(scene.connect());
    assert!(scene.tell(&mut client, r#"{"status":{}}"#).contains("running"));
}

#[test]
fn quit_ends_the_machine() {
    let mut scene = Scene::new();
    let mut client = BufReader::new(scene.connect());
    assert_eq!(scene.tell(&mut client, r#"{"quit":{}}"#), r#"{"result":{}}"#);
    assert_eq!(scene.ending.verdict(), Some(Verdict::Quit));
}

#[test]
fn what_a_killed_machine_left_is_replaced_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(listen(&path).unwrap());
    fs::write(&path, "precious").unwrap();
    let error = listen(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}
