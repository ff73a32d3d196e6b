//! A client of the control socket: bytes in, lines, answers in their order, bytes out. It never waits.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use event_manager::EventSet;
use serde_json::json;

use super::Operator;
use crate::runtime::messages::{Answer, Ticket};

/// The most bytes of a line.
pub(super) const LINE_MAX: usize = 16 << 10;
/// The most lines that are served before other clients have their turn.
const TURN: usize = 16;
/// How long a client waits for the answer to a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
pub(super) struct Client {
    pub(super) stream: UnixStream,
    /// What was read and is no answered line yet.
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// The message that is answered later, and until when.
    waits: Option<(Ticket, Instant)>,
    /// The client sends nothing more.
    ended: bool,
    /// The rest of a line that is too long is skipped.
    skipping: bool,
    /// It takes no answers any more. What it has sent is still done.
    deaf: bool,
}

impl Client {
    /// A connection whose descriptor does not block.
    pub(super) fn new(stream: UnixStream) -> Self {
        let (input, output) = Default::default();
        let (ended, skipping, deaf) = (false, false, false);
        Self { stream, input, output, waits: None, ended, skipping, deaf }
    }

    /// The other side is closed.
    pub(super) const fn hang_up(&mut self) {
        self.deaf = true;
    }

    /// Until when it waits for an answer; none where it does not wait.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waits.map(|(_, until)| until)
    }

    /// Whether it waits for this answer, which it has then.
    pub(super) fn take_answer(&mut self, ticket: Ticket, answer: &Answer) -> bool {
        let its = self.waits.is_some_and(|(waits_for, _)| waits_for == ticket);
        if its {
            self.waits = None;
            self.queue_answer(answer);
        }
        its
    }

    /// Answers with an error what takes too long. The job goes on.
    pub(super) fn lose_patience(&mut self, operator: &Operator<'_>, now: Instant) {
        if self.deadline().is_some_and(|until| until <= now) {
            self.waits = None;
            self.queue_answer(&Err(format!(
                "not done after {} s, and still to be done: {}",
                PATIENCE.as_secs(),
                operator.delay()
            )));
        }
    }

    /// Takes what the client says and answers it, as far as that goes without waiting; the events to wait for next.
    ///
    /// # Errors
    ///
    /// Where the connection is over.
    pub(super) fn handle(&mut self, operator: &mut Operator<'_>) -> io::Result<EventSet> {
        for _ in 0..TURN {
            self.send()?;
            if !self.output.is_empty() {
                return Ok(EventSet::OUT); // It must read first.
            }
            if self.waits.is_some() {
                // One message after the other. That the other side was closed is told all the same.
                return Ok(EventSet::empty());
            }
            if let Some(line) = self.next_line() {
                self.take(&line, operator);
                continue;
            }
            if self.ended {
                if self.output.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => self.input.extend(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(EventSet::IN),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // It is its turn again when others had theirs.
        Ok(EventSet::OUT)
    }

    /// The next line, without its end. At the end of input, what has no end is one, too. A line that is too long is
    /// answered with an error and skipped.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let mut end = self.input.iter().position(|byte| *byte == b'\n');
        if self.skipping {
            let skipped = end.map_or(self.input.len(), |end| end + 1);
            self.input.drain(..skipped);
            self.skipping = end.is_none();
            end = self.input.iter().position(|byte| *byte == b'\n');
        }
        if end.unwrap_or(self.input.len()) > LINE_MAX {
            self.skipping = true;
            self.input.drain(..LINE_MAX);
            self.queue_answer(&Err(format!(
                "a message has at most {LINE_MAX} bytes; this one is ignored"
            )));
            return None;
        }
        match end {
            Some(end) => {
                let rest = self.input.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.input, rest);
                line.truncate(end);
                Some(line)
            }
            None if self.ended && !self.input.is_empty() => Some(std::mem::take(&mut self.input)),
            None => None,
        }
    }

    fn take(&mut self, line: &[u8], operator: &mut Operator<'_>) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match operator.perform(line) {
            Ok(answer) => self.queue_answer(&answer),
            Err(ticket) => self.waits = Some((ticket, Instant::now() + PATIENCE)),
        }
    }

    fn queue_answer(&mut self, answer: &Answer) {
        let line = match answer {
            Ok(result) => json!({ "result": result }),
            Err(error) => json!({ "error": error }),
        };
        self.output.extend(line.to_string().bytes().chain([b'\n']));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.deaf {
            self.output.clear();
        }
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
