//! An NBD server in this process: right, forgetful, or wrong in one of many ways ([`Wrong`]).
//!
//! It has its own idea of the protocol, and shares no number with the client.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

/// The flags of an export: HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN.
pub const ALL_FLAGS: u16 = 0b1_0110_1101;
/// The flag of an export that is only read.
pub const READ_ONLY: u16 = 2;
/// The largest request: more than the client sends.
const MOST: u32 = 64 << 20;

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Wrong {
    // In the handshake.
    ClosesAtOnce,
    IsNoNbd,
    IsOldStyle,
    HasNoOptions,
    ClosesAfterGreeting,
    IsSilent,
    IsSlowInGreeting,
    OptionMagic,
    OtherOption,
    OversizeOption,
    EndlessOption,
    UnexpectedOption,
    ClosesAtGo,
    GoFails(u32),
    NoSize,
    ShortInfo,
    NoFlags,
    Size(u64),
    BlockSizes(u32, u32, u32),
    NoTls,
    // In the transmission.
    ReplyMagic,
    Cookie,
    AnswersTwice,
    ChunkType,
    OversizeChunk,
    ChunkOutside,
    ChunkTwice,
    ShortRead,
    Crumbs,
    SimpleRead,
    DataForWrite,
    NoneNotLast,
    ErrorZero,
    ErrorText,
    ErrorsWithoutEnd,
    ShutsDown,
    ClosesAtRequest,
    ClosesInReply,
}

/// How a server behaves. Start from the default, which is right, and change fields.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// The flags of the export.
    pub flags: u16,
    /// The minimum, preferred and maximum block size; none to tell nothing.
    pub blocks: Option<(u32, u32, u32)>,
    /// Whether it has structured replies.
    pub structured: bool,
    /// Whether it answers requests in another order, and reads in several chunks.
    pub reorders: bool,
    /// Whether it sends its replies byte by byte.
    pub trickles: bool,
    /// What it does wrong.
    pub wrong: Option<Wrong>,
    /// The error of the next flushes and writes; 0 for none.
    pub error: u32,
}

impl Default for Behaviour {
    fn default() -> Self {
        let (structured, reorders, trickles) = (true, false, false);
        let (flags, blocks) = (ALL_FLAGS, Some((1, 4096, 32 << 20)));
        Self { flags, blocks, structured, reorders, trickles, wrong: None, error: 0 }
    }
}

enum Content {
    Memory { bytes: Vec<u8>, stable: Vec<u8> },
    File(File, u64),
}

struct State {
    content: Content,
    behaviour: Behaviour,
    /// Whether it accepts connections.
    is_up: bool,
    /// Counts the times that it was killed: what an older time began has no effect.
    life: u64,
    streams: Vec<UnixStream>,
    ends: bool,
    /// Whether requests are held back.
    is_held: bool,
    /// "read 512 at 0", "write ...", "flush", ...; a write with FUA is "fua ...".
    log: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The server, which ends when it is dropped.
pub struct NbdServer {
    dir: TempDir,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl NbdServer {
    /// Serves `bytes`, which are stable.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub fn new(bytes: &[u8], behaviour: Behaviour) -> io::Result<Self> {
        let (bytes, stable) = (bytes.to_vec(), bytes.to_vec());
        Self::serve(Content::Memory { bytes, stable }, behaviour)
    }

    /// Serves the whole sectors of a file.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub fn of_file(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len() / 512 * 512;
        Self::serve(Content::File(file, size), Behaviour::default())
    }

    fn serve(content: Content, behaviour: Behaviour) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let listener = UnixListener::bind(dir.path().join("socket"))?;
        let (is_up, ends, is_held) = (true, false, false);
        let (streams, log) = (Vec::new(), Vec::new());
        let state = State { content, behaviour, is_up, life: 0, streams, ends, is_held, log };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("nbd server".to_owned())
            .spawn(move || of_thread.accept(&listener))?;
        Ok(Self { dir, shared, thread: Some(thread) })
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The URI of its export.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket().display())
    }

    /// Ends all connections, accepts no more, and forgets what was not flushed.
    pub fn kill(&self) {
        let mut state = self.shared.lock();
        (state.is_up, state.is_held) = (false, false);
        state.life += 1;
        if let Content::Memory { bytes, stable } = &mut state.content {
            bytes.clone_from(stable);
        }
        for stream in state.streams.drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Accepts connections again.
    pub fn restart(&self) {
        self.shared.lock().is_up = true;
    }

    /// Behaves like this from the next connection on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().behaviour = behaviour;
    }

    /// Holds all requests back that arrive from now on, or carries them out.
    pub fn hold(&self, is_held: bool) {
        self.shared.lock().is_held = is_held;
        self.shared.changed.notify_all();
    }

    /// What a reader sees.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.shared.lock().content {
            Content::Memory { bytes, .. } => bytes.clone(),
            Content::File(file, size) => {
                let mut bytes = vec![0; usize::try_from(*size).unwrap_or(0)];
                let read = file.read_exact_at(&mut bytes, 0);
                read.map(|()| bytes).unwrap_or_default()
            }
        }
    }

    /// What is left when it is killed.
    pub fn stable(&self) -> Vec<u8> {
        match &self.shared.lock().content {
            Content::Memory { stable, .. } => stable.clone(),
            Content::File(..) => Vec::new(),
        }
    }

    /// Takes what it was asked for since the last call.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().log)
    }

    /// Waits until it was asked for so many things since the last [`NbdServer::log`].
    pub fn wait_for(&self, count: usize) {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_while(state, |state| state.log.len() < count);
        drop(waited);
    }
}

impl fmt::Debug for NbdServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NbdServer").field("uri", &self.uri()).finish_non_exhaustive()
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.kill();
        self.shared.lock().ends = true;
        // Accepting ends with one more connection.
        let _woken = UnixStream::connect(self.socket());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A request of a client.
#[derive(Debug, Clone)]
struct Asked {
    flags: u16,
    kind: u16,
    cookie: [u8; 8],
    offset: u64,
    len: u32,
    data: Vec<u8>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            let mut state = self.lock();
            if state.ends {
                break;
            }
            let Ok(own) = stream.try_clone() else { continue };
            if !state.is_up {
                continue;
            }
            state.streams.push(own);
            let (life, behaviour) = (state.life, state.behaviour);
            let shared = self.clone();
            drop(state);
            threads.retain(|thread| !thread.is_finished());
            threads.push(thread::spawn(move || {
                // The client sees the end, whatever the reason.
                let _ended = Client { shared: &shared, behaviour, life, stream: &stream }.serve();
                let _closed = stream.shutdown(Shutdown::Both);
            }));
        }
        for thread in threads {
            let _ended = thread.join();
        }
    }
}

struct Client<'a> {
    shared: &'a Shared,
    behaviour: Behaviour,
    life: u64,
    stream: &'a UnixStream,
}

fn closed<T>() -> io::Result<T> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

impl Client<'_> {
    fn is(&self, wrong: Wrong) -> bool {
        self.behaviour.wrong == Some(wrong)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        match self.behaviour.trickles {
            true => bytes.iter().try_for_each(|byte| stream.write_all(&[*byte])),
            false => stream.write_all(bytes),
        }
    }

    fn receive<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        let mut stream = self.stream;
        stream.read_exact(&mut bytes).map(|()| bytes)
    }

    fn receive_bytes(&self, len: u32) -> io::Result<Vec<u8>> {
        if len > MOST {
            return closed();
        }
        let mut bytes = vec![0; len as usize];
        let mut stream = self.stream;
        stream.read_exact(&mut bytes).map(|()| bytes)
    }

    /// Waits until the client gives up.
    fn wait_for_end(&self) -> io::Result<()> {
        loop {
            self.receive::<1>()?;
        }
    }

    fn serve(&self) -> io::Result<()> {
        match self.behaviour.wrong {
            Some(Wrong::ClosesAtOnce) => return Ok(()),
            Some(Wrong::IsSilent) => return self.wait_for_end(),
            Some(Wrong::IsNoNbd) => return self.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Some(Wrong::IsSlowInGreeting) => {
                for byte in b"NBDMAGICIHAVEOPT\0\x03" {
                    self.send(&[*byte])?;
                    thread::sleep(Duration::from_millis(500));
                }
            }
            _ => self.send(b"NBDMAGIC")?,
        }
        if self.is(Wrong::IsOldStyle) {
            return self.send(&[0, 0, 0x42, 2, 0x81, 0x86, 0x12, 0x53, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        if !self.is(Wrong::IsSlowInGreeting) {
            self.send(b"IHAVEOPT")?;
            self.send(&u16::to_be_bytes(if self.is(Wrong::HasNoOptions) { 2 } else { 3 }))?;
        }
        if self.is(Wrong::ClosesAfterGreeting) {
            return Ok(());
        }
        if self.receive::<4>()? != [0, 0, 0, 3] {
            return closed();
        }
        let mut structured = false;
        loop {
            if self.receive::<8>()? != *b"IHAVEOPT" {
                return closed();
            }
            let option = u32::from_be_bytes(self.receive()?);
            let content = self.receive_bytes(u32::from_be_bytes(self.receive()?))?;
            match option {
                5 => self.answer(option, 1 << 31 | 1, b"no TLS here")?,
                7 => {
                    self.go(&content)?;
                    break;
                }
                8 => {
                    structured = self.behaviour.structured;
                    self.structured(structured)?;
                }
                _ => self.answer(option, 1 << 31 | 1, b"")?,
            }
        }
        self.transmit(structured)
    }

    fn answer(&self, option: u32, kind: u32, content: &[u8]) -> io::Result<()> {
        self.send(&0x0003_e889_0455_65a9u64.to_be_bytes())?;
        self.send(&option.to_be_bytes())?;
        self.send(&kind.to_be_bytes())?;
        self.send(&u32::try_from(content.len()).unwrap_or(0).to_be_bytes())?;
        self.send(content)
    }

    fn structured(&self, has: bool) -> io::Result<()> {
        match self.behaviour.wrong {
            Some(Wrong::OptionMagic) => self.send(&[0x11; 20]),
            Some(Wrong::OtherOption) => self.answer(9, 1, b""),
            Some(Wrong::UnexpectedOption) => self.answer(8, 77, b""),
            Some(Wrong::OversizeOption) => {
                self.send(&0x0003_e889_0455_65a9u64.to_be_bytes())?;
                self.send(&[0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])?;
                self.wait_for_end()
            }
            _ if has => self.answer(8, 1, b""),
            _ => self.answer(8, 1 << 31 | 1, b"unknown"),
        }
    }

    fn go(&self, content: &[u8]) -> io::Result<()> {
        match self.behaviour.wrong {
            Some(Wrong::ClosesAtGo) => return closed(),
            Some(Wrong::GoFails(error)) => {
                self.answer(7, 1 << 31 | error, b"because\x1b[2J\nof this")?;
                return self.wait_for_end();
            }
            Some(Wrong::EndlessOption) => loop {
                self.answer(7, 3, &[0, 1, b'n'])?;
            },
            Some(Wrong::ShortInfo) => return self.answer(7, 3, &[0, 0, 1]),
            _ => {}
        }
        if content.len() < 6 {
            return closed();
        }
        let size = match (self.behaviour.wrong, &self.shared.lock().content) {
            (Some(Wrong::Size(size)), _) => size,
            (_, Content::Memory { bytes, .. }) => bytes.len() as u64,
            (_, Content::File(_, size)) => *size,
        };
        let flags = if self.is(Wrong::NoFlags) { 0 } else { self.behaviour.flags };
        if !self.is(Wrong::NoSize) {
            let export = [&[0, 0][..], &size.to_be_bytes(), &flags.to_be_bytes()].concat();
            self.answer(7, 3, &export)?;
        }
        // Some name, which nobody asked for.
        self.answer(7, 3, b"\0\x01disk")?;
        let blocks = match self.behaviour.wrong {
            Some(Wrong::BlockSizes(minimum, preferred, maximum)) => {
                Some((minimum, preferred, maximum))
            }
            _ => self.behaviour.blocks,
        };
        if let Some((minimum, preferred, maximum)) = blocks {
            let sizes = [minimum, preferred, maximum].map(u32::to_be_bytes).concat();
            self.answer(7, 3, &[&[0, 3][..], &sizes].concat())?;
        }
        self.answer(7, 1, b"")
    }

    fn request(&self) -> io::Result<Option<Asked>> {
        if self.receive::<4>()? != [0x25, 0x60, 0x95, 0x13] {
            return closed();
        }
        let flags = u16::from_be_bytes(self.receive()?);
        let kind = u16::from_be_bytes(self.receive()?);
        let (cookie, offset) = (self.receive()?, u64::from_be_bytes(self.receive()?));
        let len = u32::from_be_bytes(self.receive()?);
        let data = if kind == 1 { self.receive_bytes(len)? } else { Vec::new() };
        Ok((kind != 2).then_some(Asked { flags, kind, cookie, offset, len, data }))
    }

    /// Whether another request has arrived.
    fn has_more(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(self.stream, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn transmit(&self, structured: bool) -> io::Result<()> {
        let mut seed = 1_u64;
        loop {
            let mut round = Vec::new();
            loop {
                let Some(request) = self.request()? else { return Ok(()) };
                round.push(request);
                if !self.behaviour.reorders || round.len() >= 16 || !self.has_more() {
                    break;
                }
            }
            while !round.is_empty() {
                // Any other order will do (Knuth's MMIX generator).
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(seed >> 33).unwrap_or(0) % round.len();
                let request = round.swap_remove(at);
                self.carry_out(&request, structured, seed)?;
            }
        }
    }

    fn carry_out(&self, request: &Asked, structured: bool, seed: u64) -> io::Result<()> {
        let Asked { kind, len, offset, .. } = request;
        let name = match kind {
            0 => "read",
            1 if request.flags & 1 != 0 => "fua",
            1 => "write",
            3 => "flush",
            4 => "trim",
            6 if request.flags & 2 != 0 => "zero, no hole",
            6 => "zero",
            _ => "unknown",
        };
        let text = match kind {
            3 => name.to_owned(),
            _ => format!("{name} {len} at {offset}"),
        };
        let data = {
            let mut state = self.shared.lock();
            if matches!(state.content, Content::Memory { .. }) {
                state.log.push(text);
            }
            self.shared.changed.notify_all();
            let mut state = self
                .shared
                .changed
                .wait_while(state, |state| state.is_held && state.life == self.life)
                .unwrap_or_else(PoisonError::into_inner);
            if state.life != self.life {
                return closed();
            }
            state.perform(request)
        };
        match data {
            Ok(data) => self.reply(request, structured, &data, seed),
            Err(error) if structured && self.behaviour.reorders => {
                let content = [&error.to_be_bytes()[..], &[0, 5], b"no..."].concat();
                self.chunk(request, 1, 0x8001, &content)
            }
            Err(error) => self.simple(request, error, &[]),
        }
    }

    fn simple(&self, request: &Asked, error: u32, data: &[u8]) -> io::Result<()> {
        let head = [&[0x67, 0x44, 0x66, 0x98][..], &error.to_be_bytes(), &request.cookie];
        self.send(&[&head.concat()[..], data].concat())
    }

    fn chunk(&self, request: &Asked, flags: u16, kind: u16, content: &[u8]) -> io::Result<()> {
        let len = u32::try_from(content.len()).unwrap_or(0).to_be_bytes();
        let head = [0x66, 0x8e, 0x33, 0xef].into_iter().chain(flags.to_be_bytes());
        let head: Vec<_> =
            head.chain(kind.to_be_bytes()).chain(request.cookie).chain(len).collect();
        self.send(&[&head[..], content].concat())
    }

    fn data(&self, request: &Asked, flags: u16, at: usize, data: &[u8]) -> io::Result<()> {
        let offset = request.offset.wrapping_add(at as u64).to_be_bytes();
        self.chunk(request, flags, 1, &[&offset[..], data].concat())
    }

    fn hole(&self, request: &Asked, flags: u16, at: usize, len: usize) -> io::Result<()> {
        let offset = request.offset.wrapping_add(at as u64).to_be_bytes();
        let len = u32::try_from(len).unwrap_or(0).to_be_bytes();
        self.chunk(request, flags, 2, &[&offset[..], &len].concat())
    }

    fn reply(&self, request: &Asked, structured: bool, data: &[u8], seed: u64) -> io::Result<()> {
        let is_read = request.kind == 0;
        let half = data.len() / 2;
        match self.behaviour.wrong {
            Some(Wrong::ReplyMagic) => return self.send(&[0x22; 16]),
            Some(Wrong::Cookie) => {
                let cookie = [0x77; 8];
                return self.simple(&Asked { cookie, ..request.clone() }, 0, &[]);
            }
            Some(Wrong::AnswersTwice) => {
                self.right(request, structured, data, seed)?;
                return self.right(request, structured, data, seed);
            }
            Some(Wrong::ChunkType) => return self.chunk(request, 1, 99, b""),
            Some(Wrong::OversizeChunk) if is_read => {
                let head = [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1].into_iter().chain(request.cookie);
                let head: Vec<_> = head.chain(u32::MAX.to_be_bytes()).collect();
                self.send(&[&head[..], &request.offset.to_be_bytes()].concat())?;
                return self.wait_for_end();
            }
            Some(Wrong::ChunkOutside) if is_read => {
                return self.data(request, 1, data.len() - 1, &[1, 2]);
            }
            Some(Wrong::ChunkTwice) if is_read => {
                self.data(request, 0, 0, &data[..half + 1])?;
                return self.data(request, 1, half, &data[half..]);
            }
            Some(Wrong::ShortRead) if is_read => {
                return self.data(request, 1, 0, &data[..half]);
            }
            Some(Wrong::Crumbs) if is_read => {
                for at in (0..data.len()).step_by(2) {
                    self.data(request, 0, at, &data[at..at + 1])?;
                }
                return self.wait_for_end();
            }
            Some(Wrong::SimpleRead) if is_read => return self.simple(request, 0, data),
            Some(Wrong::DataForWrite) if request.kind == 1 => {
                return self.data(request, 1, 0, &[1; 10]);
            }
            Some(Wrong::NoneNotLast) => return self.chunk(request, 0, 0, b""),
            Some(Wrong::ErrorZero) => return self.chunk(request, 1, 0x8001, &[0; 6]),
            Some(Wrong::ErrorText) => {
                return self.chunk(request, 1, 0x8001, &[0, 0, 0, 5, 0xff, 0xff, b'n', b'o']);
            }
            Some(Wrong::ErrorsWithoutEnd) => loop {
                self.chunk(request, 0, 0x8001, &[0, 0, 0, 5, 0, 0])?;
            },
            Some(Wrong::ShutsDown) => return self.simple(request, 108, &[]),
            Some(Wrong::ClosesAtRequest) => return closed(),
            Some(Wrong::ClosesInReply) => {
                self.send(&[0x66, 0x8e, 0x33])?;
                return closed();
            }
            _ => {}
        }
        self.right(request, structured, data, seed)
    }

    fn right(&self, request: &Asked, structured: bool, data: &[u8], seed: u64) -> io::Result<()> {
        if !structured {
            return self.simple(request, 0, data);
        }
        if request.kind != 0 {
            return match seed % 2 {
                0 => self.simple(request, 0, &[]),
                _ => self.chunk(request, 1, 0, b""),
            };
        }
        if !self.behaviour.reorders || data.len() < 2 {
            return self.data(request, 1, 0, data);
        }
        // The second part first, zeros as a hole, and the end in a chunk of its own.
        let at = 1 + usize::try_from(seed >> 40).unwrap_or(0) % (data.len() - 1);
        let (first, second) = data.split_at(at);
        match second.iter().all(|byte| *byte == 0) {
            true => self.hole(request, 0, at, second.len())?,
            false => self.data(request, 0, at, second)?,
        }
        self.data(request, 0, 0, first)?;
        self.chunk(request, 1, 0, b"")
    }
}

impl State {
    /// Carries a request out. Returns the data of a read.
    ///
    /// # Errors
    ///
    /// The number of the error for the client.
    fn perform(&mut self, request: &Asked) -> Result<Vec<u8>, u32> {
        const EIO: u32 = 5;
        const EINVAL: u32 = 22;
        let Asked { flags, kind, offset, len, ref data, .. } = *request;
        if self.behaviour.error != 0 && kind != 0 {
            return Err(self.behaviour.error);
        }
        let (minimum, _, maximum) = self.behaviour.blocks.unwrap_or((1, 1, 32 << 20));
        let is_aligned = offset.is_multiple_of(minimum.into()) && len.is_multiple_of(minimum);
        if !is_aligned || kind <= 1 && len > maximum {
            return Err(EINVAL);
        }
        let range =
            usize::try_from(offset).ok().and_then(|at| Some(at..at.checked_add(len as usize)?));
        let range = range.ok_or(EINVAL)?;
        let zeros;
        let put = match kind {
            1 => Some(data),
            6 | 4 => {
                zeros = vec![0; len as usize];
                Some(&zeros)
            }
            _ => None,
        };
        let is_flush = kind == 3 || flags & 1 != 0;
        match &mut self.content {
            Content::Memory { bytes, stable } => {
                let size = bytes.len();
                let place =
                    bytes.get_mut(range.clone()).filter(|_| range.end <= size).ok_or(EINVAL)?;
                if let Some(put) = put {
                    place.copy_from_slice(put);
                }
                let read = if kind == 0 { place.to_vec() } else { Vec::new() };
                match kind {
                    3 => stable.clone_from(bytes),
                    _ if is_flush => stable[range.clone()].copy_from_slice(&bytes[range]),
                    _ => {}
                }
                Ok(read)
            }
            Content::File(file, size) => {
                if range.end as u64 > *size {
                    return Err(EINVAL);
                }
                let mut read = vec![0; if kind == 0 { len as usize } else { 0 }];
                let done = match put {
                    Some(put) => file.write_all_at(put, offset),
                    None if kind == 0 => file.read_exact_at(&mut read, offset),
                    None => Ok(()),
                };
                let done = done.and_then(|()| if is_flush { file.sync_data() } else { Ok(()) });
                done.map(|()| read).map_err(|_| EIO)
            }
        }
    }
}
