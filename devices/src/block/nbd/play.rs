//! The client without its link and its threads, played by bytes: for the fuzzer and for random tests.
//!
//! A script submits requests, has a forgetful server answer them in any order, breaks connections, and sends garbage.
//! Until the first garbage the server is right, and so must be the client: what reads see, and what is stable when a
//! flush is answered.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a fuzzer's body is a test, and its numbers are small"
)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::connection::Connection;
use super::handshake::{self, Export};
use super::link;
use super::session::Session;
use super::stream::Stream;
use crate::block::{Operation, Request};
use crate::memory::{Buffers, GuestRam};

const SECTOR: usize = 512;
const SECTORS: usize = 24;
const SIZE: usize = SECTOR * SECTORS;
/// The most requests in flight, each with a part of guest RAM of its own.
const MOST: usize = 16;

/// Plays a script. The first byte says what of: the handshake, or the transmission.
///
/// # Panics
///
/// If the client is wrong.
pub fn play(bytes: &[u8]) {
    match bytes {
        [0, rest @ ..] => shake_hands(rest),
        [setup, rest @ ..] => Play::new(*setup).run(rest),
        [] => {}
    }
}

/// A handshake with a server that sends these bytes, whatever it is asked.
fn shake_hands(bytes: &[u8]) {
    struct Server<'a>(&'a [u8]);
    impl Read for Server<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.read(bytes)
        }
    }
    impl Write for Server<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut server = Server(bytes);
    let text = match handshake::greet(&mut server).and_then(|()| handshake::go(&mut server, "x")) {
        Ok(export) => {
            assert!(export.size > 0 && export.size.is_multiple_of(512));
            assert!(export.size.is_multiple_of(export.minimum.into()));
            assert!(export.maximum >= export.minimum && export.minimum.is_power_of_two());
            export.describe()
        }
        Err(error) => error.to_string(),
    };
    assert!(text.len() < 2000 && !text.contains('\n'), "{text}");
    let _tls = handshake::start_tls(&mut Server(bytes));
}

/// A request as the server has received it.
struct Asked {
    flags: u16,
    kind: u16,
    cookie: Vec<u8>,
    offset: usize,
    len: usize,
    data: Vec<u8>,
}

/// A request that the client has not completed.
struct Waiting {
    sectors: std::ops::Range<usize>,
    /// For a read: what it may see. For a write: what it writes. For a flush: what must be stable then.
    bytes: Vec<u8>,
    place: u64,
    /// For a flush: how often each sector was changed before.
    changes: Vec<u32>,
}

struct Play {
    export: Export,
    session: Session,
    lane: usize,
    connection: Connection,
    /// The server's end.
    peer: UnixStream,
    inbox: Vec<u8>,
    asked: VecDeque<Asked>,
    /// Replies of what is carried out, which are not sent yet.
    late: Vec<u8>,
    /// What the server has, and what of it survives.
    bytes: Vec<u8>,
    stable: Vec<u8>,
    /// What the client was told.
    known: Vec<u8>,
    /// How often each sector was changed, as far as the client was told.
    changes: Vec<u32>,
    waiting: Vec<Option<Waiting>>,
    ram: GuestRam,
    has_lied: bool,
    stamp: u8,
}

/// The bytes of a script.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> usize {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(*first)
    }
}

impl Play {
    fn new(setup: u8) -> Self {
        let minimum = [1, 512, 1024, 4096][usize::from(setup >> 1 & 3)];
        let structured = setup & 1 == 0;
        // FLUSH always; FUA, TRIM and WRITE_ZEROES by the setup.
        let flags = 0b101 | u16::from(setup >> 3 & 1) << 3 | u16::from(setup >> 4 & 3) << 5;
        let (size, preferred, maximum) = (SIZE as u64, 4096, 4096);
        let export = Export { size, flags, structured, minimum, preferred, maximum };
        let mut session = Session::new(export, true);
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let lane = session.add_lane(wake, Arc::new(link::descriptor().unwrap()));
        let (connection, peer) = connected();
        let bytes: Vec<u8> = (0..SIZE).map(|at| (at / SECTOR) as u8).collect();
        let ram = GuestRam::anonymous(&[(0, MOST * SIZE)]).unwrap();
        Self {
            export,
            session,
            lane,
            connection,
            peer,
            inbox: Vec::new(),
            asked: VecDeque::new(),
            late: Vec::new(),
            stable: bytes.clone(),
            known: bytes.clone(),
            changes: vec![0; SECTORS],
            bytes,
            waiting: (0..MOST).map(|_| None).collect(),
            ram,
            has_lied: false,
            stamp: 0x80,
        }
    }

    fn run(mut self, script: &[u8]) {
        let mut script = Script(script);
        while !script.0.is_empty() {
            match script.byte() % 16 {
                step @ 0..=5 => self.submit(step, &mut script),
                6..=8 => self.answer(0),
                9..=11 => self.answer(script.byte()),
                12 => self.lose(),
                13 => self.lie(&mut script),
                14 => self.flush_early(),
                _ => self.send_late(),
            }
            self.exchange();
        }
        // A right server answers all in the end.
        if self.has_lied {
            self.lose();
        }
        for _ in 0..100_000 {
            self.send_late();
            self.exchange();
            if self.asked.is_empty() {
                break;
            }
            self.answer(0);
        }
        assert_eq!(self.session.in_flight(self.lane), 0, "requests are left");
        if !self.has_lied {
            assert!(self.bytes == self.known, "the disk differs");
        }
    }

    fn submit(&mut self, step: usize, script: &mut Script<'_>) {
        let first = script.byte() % SECTORS;
        let count = 1 + script.byte() % (SECTORS - first).min(10);
        let durable = script.byte().is_multiple_of(4);
        let sectors = if step == 5 { 0..0 } else { first..first + count };
        let overlaps = |other: &Waiting| {
            other.sectors.start < sectors.end && sectors.start < other.sectors.end
        };
        // Requests in flight to one place have no order.
        if self.waiting.iter().flatten().any(overlaps) {
            return;
        }
        let Some(tag) = self.waiting.iter().position(Option::is_none) else { return };
        let range = SECTOR * sectors.start..SECTOR * sectors.end;
        let (len, place) = (range.len() as u64, (tag * SIZE) as u64);
        let data = Buffers::single(self.ram.clone(), place, len).unwrap();
        let unmap = durable;
        let (operation, bytes) = match step {
            0 | 1 => (Operation::Read(data), self.known[range.clone()].to_vec()),
            2 | 3 => {
                self.stamp = self.stamp.wrapping_add(1);
                let bytes = vec![self.stamp; range.len()];
                data.copy_from(&bytes);
                (Operation::Write { data, durable }, bytes)
            }
            4 => (Operation::WriteZeroes { len, unmap, durable }, vec![0; range.len()]),
            _ => (Operation::Flush, self.known.clone()),
        };
        let changes = self.changes.clone();
        self.waiting[tag] = Some(Waiting { sectors, bytes, place, changes });
        let (tag, offset) = (tag as u64, range.start as u64);
        self.session.submit(self.lane, Request { tag, operation, offset });
    }

    /// Moves all bytes that can be moved, and looks at what is completed.
    fn exchange(&mut self) {
        loop {
            let mut has_moved = self.cut();
            let mut received = [0; 4096];
            let sent = self.connection.send(&self.session);
            while let Ok(count @ 1..) = self.peer.read(&mut received) {
                self.inbox.extend(&received[..count]);
                has_moved = true;
            }
            let answered = self.connection.receive(&mut self.session);
            if sent.is_err() || answered.is_err() {
                assert!(self.has_lied, "{sent:?} {answered:?}");
                self.lose();
            }
            // An answer may be followed by another piece.
            if !has_moved && !self.cut() {
                break;
            }
        }
        self.take_requests();
        self.look();
    }

    /// Hands the connection what may be sent. Returns whether there was anything.
    fn cut(&mut self) -> bool {
        let mut has_cut = false;
        while self.connection.takes_more()
            && let Some(slot) = self.session.cut()
        {
            self.connection.push(slot, &self.session);
            has_cut = true;
        }
        has_cut
    }

    fn take_requests(&mut self) {
        while let Some((head, rest)) = self.inbox.split_at_checked(28) {
            let number = |at: usize, len: usize| {
                head[at..at + len].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
            };
            assert_eq!(number(0, 4), 0x2560_9513, "the client sends garbage");
            let (flags, kind) = (number(4, 2) as u16, number(6, 2) as u16);
            let (offset, len) = (number(16, 8) as usize, number(24, 4) as usize);
            let with = if kind == 1 { len } else { 0 };
            let Some(data) = rest.get(..with) else { return };
            let minimum = self.export.minimum as usize;
            assert!(offset.is_multiple_of(minimum) && len.is_multiple_of(minimum));
            assert!(offset + len <= SIZE && (kind > 1 || len <= 4096), "{kind}: {len} at {offset}");
            let (cookie, data) = (head[8..16].to_vec(), data.to_vec());
            self.inbox.drain(..28 + with);
            let changes = |kind: u16| kind == 1 || kind == 4 || kind == 6;
            let clashes = |other: &Asked| {
                changes(kind)
                    && changes(other.kind)
                    && other.offset < offset + len
                    && offset < other.offset + other.len
            };
            // After a lie the client may take one of them as done.
            let clash = self.asked.iter().any(clashes) && !self.has_lied;
            assert!(!clash, "two changes of one place are in flight");
            self.asked.push_back(Asked { flags, kind, cookie, offset, len, data });
        }
    }

    /// Answers one of the requests.
    fn answer(&mut self, which: usize) {
        let at = which % self.asked.len().max(1);
        let Some(asked) = self.asked.remove(at) else { return };
        let Asked { flags, kind, cookie, offset, len, data } = asked;
        let range = offset..offset + len;
        match kind {
            1 => self.bytes[range.clone()].copy_from_slice(&data),
            4 | 6 => self.bytes[range.clone()].fill(0),
            3 => self.stable.clone_from(&self.bytes),
            _ => {}
        }
        if flags & 1 != 0 {
            self.stable[range.clone()].copy_from_slice(&self.bytes[range.clone()]);
        }
        let mut reply = Vec::new();
        if self.export.structured && kind == 0 {
            // In two chunks, the second one first.
            let middle = offset + 1 + which % (len - 1);
            for (part, flags) in [(middle..offset + len, 0), (offset..middle, 1)] {
                reply.extend([0x66, 0x8e, 0x33, 0xef, 0, flags, 0, 1]);
                reply.extend(&cookie);
                reply.extend((part.len() as u32 + 8).to_be_bytes());
                reply.extend((part.start as u64).to_be_bytes());
                reply.extend(&self.bytes[part]);
            }
        } else {
            reply.extend([0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
            reply.extend(&cookie);
            if kind == 0 {
                reply.extend(&self.bytes[range]);
            }
        }
        // The client reads all the time, and what it did not is less than a socket takes.
        self.peer.write_all(&reply).unwrap();
    }

    /// Carries out the first flush, and answers it only later.
    fn flush_early(&mut self) {
        let Some(at) = self.asked.iter().position(|asked| asked.kind == 3) else { return };
        let Some(asked) = self.asked.remove(at) else { return };
        self.stable.clone_from(&self.bytes);
        self.late.extend([0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
        self.late.extend(asked.cookie);
    }

    fn send_late(&mut self) {
        self.peer.write_all(&std::mem::take(&mut self.late)).unwrap();
    }

    /// The server ends, and another one begins with what is stable.
    fn lose(&mut self) {
        self.session.lost();
        (self.connection, self.peer) = connected();
        self.inbox.clear();
        self.asked.clear();
        self.late.clear();
        self.bytes.clone_from(&self.stable);
        self.session.found(&self.export);
    }

    /// Sends bytes of the script, after the begin of a reply to a request in flight.
    fn lie(&mut self, script: &mut Script<'_>) {
        self.has_lied = true;
        let structured = script.byte().is_multiple_of(2);
        let mut reply = match structured {
            true => vec![0x66, 0x8e, 0x33, 0xef, 0, 1, 0, script.byte() as u8],
            false => vec![0x67, 0x44, 0x66, 0x98, 0, 0, 0, script.byte() as u8],
        };
        match self.asked.front() {
            Some(asked) => reply.extend(&asked.cookie),
            None => reply.extend([0; 8]),
        }
        let count = script.byte() % 64;
        reply.extend(script.0.iter().take(count));
        script.0 = script.0.get(count..).unwrap_or_default();
        let _sent = self.peer.write(&reply);
    }

    /// Looks at the completed requests.
    fn look(&mut self) {
        let mut done = Vec::new();
        self.session.take_done(self.lane, &mut done);
        for completion in done {
            let waiting = self.waiting[completion.request.tag as usize].take().unwrap();
            let range = SECTOR * waiting.sectors.start..SECTOR * waiting.sectors.end;
            if self.has_lied {
                continue;
            }
            assert!(completion.result.is_ok(), "{completion:?}");
            match completion.request.operation {
                Operation::Read(_) => {
                    let mut found = vec![0; range.len()];
                    self.ram.read_into(waiting.place, &mut found).unwrap();
                    assert!(found == waiting.bytes, "a read of {range:?} saw something else");
                }
                Operation::Flush => {
                    for sector in 0..SECTORS {
                        // Sectors that were changed since may be newer.
                        let is_old = self.changes[sector] == waiting.changes[sector];
                        let others = || self.waiting.iter().flatten();
                        if is_old && !others().any(|other| other.sectors.contains(&sector)) {
                            let bytes = SECTOR * sector..SECTOR * (sector + 1);
                            let is_stable = self.stable[bytes.clone()] == waiting.bytes[bytes];
                            assert!(is_stable, "sector {sector} was flushed, and is not stable");
                        }
                    }
                }
                operation => {
                    for sector in waiting.sectors {
                        self.changes[sector] += 1;
                    }
                    self.known[range.clone()].copy_from_slice(&waiting.bytes);
                    let is_stable = self.stable[range.clone()] == waiting.bytes;
                    assert!(is_stable || !operation.is_durable(), "a durable write is not stable");
                }
            }
        }
    }
}

fn connected() -> (Connection, UnixStream) {
    let (client, server) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    (Connection::new(Stream::new(OwnedFd::from(client), None)), server)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_script_ends_well(setup in 1..64_u8, mut script in vec(any::<u8>(), 0..600)) {
            script.insert(0, setup);
            play(&script);
        }

        #[test]
        fn without_lies_all_is_right(setup in 1..64_u8, steps in vec((0..15_u8, any::<[u8; 3]>()), 0..200)) {
            let mut script = vec![setup];
            for (step, more) in steps {
                // No lies.
                script.push(if step >= 13 { step + 1 } else { step });
                let count = match step { 0..=5 => 3, 9..=11 => 1, _ => 0 };
                script.extend(&more[..count]);
            }
            play(&script);
        }

        #[test]
        fn any_handshake_ends(
            bytes in vec(any::<u8>(), 0..200),
            prefix in prop_oneof![Just(0_usize), Just(16), Just(18), Just(38)],
        ) {
            let good = b"NBDMAGICIHAVEOPT\0\x03\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\0\0\0\x01\0\0\0\0";
            let script = [&[0], &good[..prefix], &bytes].concat();
            play(&script);
        }
    }
}
