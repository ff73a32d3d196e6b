//! A client of the control socket: input, lines, answers in order, output. Nothing here blocks.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

use event_manager::EventSet;
use serde_json::json;

use super::Operator;
use super::operator::Later;
use crate::runtime::listener::Stream;
use crate::runtime::messages::{Answer, Ticket};

/// The longest line in bytes.
pub(super) const LINE_MAX: usize = 16 << 10;
/// The most lines that are handled before other clients get their turn.
const TURN: usize = 16;

/// A connection.
pub(super) struct Client {
    pub(super) stream: Stream,
    /// Input that is not a complete line yet.
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// The message that is answered later, since when the client waits, and for how long, if there is a limit.
    waits: Option<(Later, Instant)>,
    /// The client has closed its sending side.
    ended: bool,
    /// The rest of a line that is too long is being skipped.
    skipping: bool,
    /// The client no longer reads answers. Its messages are still carried out.
    deaf: bool,
}

impl Client {
    /// A client on a non-blocking descriptor.
    pub(super) fn new(stream: Stream) -> Self {
        let (input, output) = Default::default();
        let (ended, skipping, deaf) = (false, false, false);
        Self { stream, input, output, waits: None, ended, skipping, deaf }
    }

    /// Marks the receiving side as closed.
    pub(super) const fn hang_up(&mut self) {
        self.deaf = true;
    }

    /// Whether the client waits for an answer.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waits.is_some()
    }

    /// The deadline of the answer that the client waits for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waits.and_then(|(Later { within, .. }, since)| Some(since + within?))
    }

    /// Passes a late answer to the client, if it waits for this one.
    pub(super) fn take_answer(&mut self, ticket: Ticket, answer: &Answer) -> bool {
        let its = self.waits.is_some_and(|(waits_for, _)| waits_for.ticket == ticket);
        if its {
            self.waits = None;
            self.queue_answer(answer);
        }
        its
    }

    /// Answers with an error if the deadline has passed. The job continues.
    pub(super) fn lose_patience(&mut self, operator: &Operator<'_>, now: Instant) {
        let Some((Later { within: Some(within), .. }, since)) = self.waits else { return };
        if since + within <= now {
            self.waits = None;
            self.queue_answer(&Err(format!(
                "not finished after {} s; cafevm continues with it: {}",
                within.as_secs(),
                operator.delay()
            )));
        }
    }

    /// Reads and answers lines, as far as that works without blocking. Returns the events to wait for.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub(super) fn handle(&mut self, operator: &mut Operator<'_>) -> io::Result<EventSet> {
        for _ in 0..TURN {
            self.send()?;
            if !self.output.is_empty() {
                return Ok(EventSet::OUT); // The client must read first.
            }
            if self.waits.is_some() {
                // One message at a time. A hang-up is reported nevertheless.
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
        // Other clients get their turn first.
        Ok(EventSet::OUT)
    }

    /// Takes the next line, without its end. At the end of the input, an incomplete line counts, too. A line that is
    /// too long is skipped, and answered with an error.
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
            Err(later) => self.waits = Some((later, Instant::now())),
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
