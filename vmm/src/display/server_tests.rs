use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use cafevm_devices::display::Rect;
use cafevm_devices::virtio::input::InputKind;
use tempfile::TempDir;

use super::*;
use crate::display::testing::TestInput;

use crate::display::test_client::{Client, Format};

/// A limit for what must happen soon.
const LIMIT: Duration = Duration::from_secs(60);

/// A running server.
struct Scene {
    dir: TempDir,
    screen: Screen,
    keyboard: TestInput,
    sizes: Arc<Mutex<Vec<(u32, u32)>>>,
    ending: Arc<Ending>,
    roll: Arc<Roll>,
    thread: Option<JoinHandle<Result<(), HostError>>>,
}

impl Scene {
    fn new(width: u32, height: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = ListenAddress::Unix(dir.path().join("vnc"));
        let listener = listen(&address).unwrap();
        let (screen, keyboard) = (Screen::default(), TestInput::new(InputKind::Keyboard));
        screen.set_size(width, height);
        let sizes = Arc::<Mutex<Vec<_>>>::default();
        let told = sizes.clone();
        let resize: Resize =
            Arc::new(move |width, height| told.lock().unwrap().push((width, height)));
        let hands = Hands::of(std::slice::from_ref(&keyboard.input));
        let server = VncServer { listener, screen: screen.clone(), hands, resize };
        let (ending, roll) = (Arc::new(Ending::new().unwrap()), Arc::<Roll>::default());
        let thread = Some(server.spawn(ending.clone(), &roll).unwrap());
        Self { dir, screen, keyboard, sizes, ending, roll, thread }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("vnc")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn viewer(&self) -> Viewer {
        let (stream, client) = (self.connect(), Client::new());
        let mut viewer = Viewer { stream, client };
        viewer.send(Client::HELLO);
        viewer.send(&Client::encodings(&[16, -308]));
        viewer.until(|client| client.is_complete() && !client.sizes.is_empty());
        viewer
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.ending.stop();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap().unwrap();
            assert!(self.roll.wait(Duration::ZERO).is_empty());
            assert!(!self.path().exists());
        }
    }
}

/// A client that behaves.
struct Viewer {
    stream: UnixStream,
    client: Client,
}

impl Viewer {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads until the client is so.
    fn until(&mut self, done: impl Fn(&Client) -> bool) {
        let mut bytes = [0; 1 << 16];
        while !done(&self.client) {
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the server has closed the connection");
            self.client.receive(&bytes[..count]);
        }
    }

    /// Asks for changes, and reads until the pixel has this colour.
    fn until_pixel(&mut self, x: u32, y: u32, colour: u32) {
        loop {
            let request = self.client.request(true);
            self.send(&request);
            let updates = self.client.updates;
            self.until(|client| client.updates > updates && client.is_complete());
            if self.client.pixel(x, y) == colour {
                return;
            }
        }
    }
}

fn fill(screen: &Screen, colour: u32) {
    let rect = Rect { x: 0, y: 0, width: 8192, height: 8192 };
    screen.draw(rect, |_, row| row.fill(colour));
}

#[test]
fn a_client_sees_and_types_and_asks_for_a_size() {
    let mut scene = Scene::new(640, 480);
    let mut viewer = scene.viewer();
    for colour in 1..20 {
        fill(&scene.screen, colour);
        viewer.until_pixel(639, 479, colour);
    }
    viewer.send(&[4, 1, 0, 0, 0, 0, 0, 0x61, 251, 0, 2, 0, 1, 0, 1, 0]);
    viewer.send(&[0; 16]);
    viewer.until(|client| client.sizes.contains(&(1, 4, (640, 480))));
    assert_eq!(*scene.sizes.lock().unwrap(), [(512, 256)]);
    assert_eq!(scene.keyboard.keys(), [(30, true)]);
    // What it holds is released when it goes away.
    drop(viewer);
    let released = |scene: &mut Scene| scene.keyboard.keys() == [(30, false)];
    while !released(&mut scene) {
        thread::yield_now();
    }
}

#[test]
fn the_ninth_client_is_refused_until_one_goes() {
    let scene = Scene::new(16, 16);
    let mut viewers: Vec<_> = (0..CLIENTS_MAX).map(|_| scene.viewer()).collect();
    let mut refused = Viewer { stream: scene.connect(), client: Client::new() };
    refused.send(Client::HELLO);
    refused.until(|client| client.refused.is_some());
    assert!(refused.client.refused.unwrap().contains("8 clients at a time"));
    assert_eq!(refused.stream.read(&mut [0; 10]).unwrap(), 0);
    viewers.pop();
    // The server may not have seen yet that the other one has gone.
    loop {
        let mut viewer = Viewer { stream: scene.connect(), client: Client::new() };
        viewer.send(Client::HELLO);
        viewer.until(|client| client.refused.is_some() || client.is_complete());
        if viewer.client.refused.is_none() {
            break;
        }
    }
}

/// A client that breaks the protocol, or its connection, in way number `n`. It ends when the server ends the
/// connection, when it has done its worst, or when `stop` says so.
fn break_something(n: usize, path: &std::path::Path, stop: &std::sync::atomic::AtomicBool) {
    let Ok(mut stream) = UnixStream::connect(path) else { return };
    let limit = Some(Duration::from_millis(20));
    stream.set_write_timeout(limit).unwrap();
    stream.set_read_timeout(limit).unwrap();
    let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
    // Writing fails as soon as the server has had enough.
    let hello = n % 16 < 12 && stream.write_all(Client::HELLO).is_ok();
    let flood = |stream: &mut UnixStream, bytes: &[u8]| {
        for _ in 0..200 {
            if stopped() || stream.write_all(bytes).is_err() {
                break;
            }
        }
    };
    let full = [3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    match n % 16 {
        // Asks and does not read.
        0 if hello => flood(&mut stream, &full.repeat(400)),
        // A clipboard of 4 GiB.
        1 if hello => {
            flood(&mut stream, &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
            flood(&mut stream, &[0x77; 1 << 16]);
        }
        // Half-closed.
        2 if hello => {
            flood(&mut stream, &full);
            stream.shutdown(Shutdown::Write).unwrap();
        }
        // Unknown messages.
        3 if hello => flood(&mut stream, &[0xaa; 1000]),
        // Wrong formats of pixels.
        4 if hello => flood(&mut stream, &[0; 20]),
        // Many encodings, and the list is never complete.
        5 if hello => flood(&mut stream, &[2, 0, 0xff, 0xff, 0, 0, 0, 16]),
        // Bad sizes.
        6 if hello => flood(&mut stream, &[251, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 2, 3]),
        // Keys that do not exist.
        7 if hello => flood(&mut stream, &[4, 1, 0, 0, 0xde, 0xad, 0xbe, 0xef].repeat(100)),
        // Pointers everywhere.
        8 if hello => flood(&mut stream, &[5, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(100)),
        // Changes its mind about formats and encodings all the time, and reads a little.
        9 if hello => {
            for n in 0..200 {
                let mut bytes = Client::encodings(&[16 * (n % 2), -239, -308, -258]);
                bytes.extend(Format::NATIVE.message());
                bytes.extend(full);
                if stopped() || stream.write_all(&bytes).is_err() {
                    break;
                }
                let _some = stream.read(&mut [0; 1000]);
            }
        }
        // Half a message.
        10 if hello => drop(stream.write_all(&full[..5])),
        // Connects, says hello, and stays.
        11 => {}
        // Says nothing.
        12 => {}
        // Is no VNC client.
        13 => drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        // Byte by byte, and slowly.
        14 => {
            for byte in Client::HELLO.iter().chain(&full.repeat(50)) {
                if stopped() || stream.write_all(&[*byte]).is_err() {
                    break;
                }
                thread::yield_now();
            }
        }
        // Another type of security.
        _ => drop(stream.write_all(b"RFB 003.008\n\x13")),
    }
    while !stopped() {
        match stream.read(&mut [0; 100]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(_) => break,
        }
    }
}

/// The bytes of memory that this process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn broken_clients_hurt_nobody() {
    let scene = Scene::new(1024, 768);
    let mut viewer = scene.viewer();
    let before = resident();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let broken: Vec<_> = (0..64)
            .map(|n| {
                let (path, stop) = (scene.path(), &stop);
                scope.spawn(move || break_something(n, &path, stop))
            })
            .collect();
        // The one that behaves sees each picture, and the guest draws as fast as it wants.
        for colour in 1..40 {
            fill(&scene.screen, colour);
            viewer.until_pixel(1023, 767, colour);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for client in broken {
            client.join().unwrap();
        }
    });
    // 16 connections of less than 1 MiB each, and what the tests beside this one use.
    let grown = resident().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes");
    // All of them have gone, so there is room for others.
    loop {
        let mut other = Viewer { stream: scene.connect(), client: Client::new() };
        other.send(Client::HELLO);
        other.until(|client| client.refused.is_some() || client.is_complete());
        if other.client.refused.is_none() {
            break;
        }
    }
    fill(&scene.screen, 77);
    viewer.until_pixel(0, 0, 77);
}

#[test]
fn a_port_is_served_too() {
    let address = ListenAddress::parse("127.0.0.1:0").unwrap();
    let listener = listen(&address).unwrap();
    let port = listener.address(&address);
    // In use now.
    let again = ListenAddress::parse(&port).unwrap();
    let error = listen(&again).map(drop).unwrap_err().to_string();
    assert!(error.contains(&format!("--display vnc={port}: cannot listen there")), "{error}");
    let screen = Screen::default();
    let server =
        VncServer { listener, screen, hands: Hands::default(), resize: Arc::new(|_, _| ()) };
    let ending = Arc::new(Ending::new().unwrap());
    let thread = server.spawn(ending.clone(), &Arc::default()).unwrap();
    let mut stream = std::net::TcpStream::connect(&port).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut version = [0; 12];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    ending.stop();
    thread.join().unwrap().unwrap();
    // The connection ends with the machine.
    assert_eq!(stream.read(&mut version).unwrap(), 0);
}
