//! A client of gdb's remote protocol, without gdb.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cafevm_guest_tests::{Failed, Outcome, ensure, fail};

/// How long a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection without acknowledgements.
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Result<Self, Failed> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends these bytes on a connection of their own, and closes it. The answer is not read.
    pub(crate) fn send_only(path: &Path, bytes: &[u8]) -> Outcome {
        let mut stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        // The other side may close the connection, or wait until its answers are read.
        let _sent = stream.write_all(bytes);
        Ok(())
    }

    /// Sends a packet.
    pub(crate) fn send(&mut self, packet: &str) -> Outcome {
        let sum = packet.bytes().fold(0, u8::wrapping_add);
        Ok(write!(self.stream, "${packet}#{sum:02x}")?)
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&mut self) -> Outcome {
        Ok(self.stream.write_all(&[3])?)
    }

    /// Sends a packet, and waits for its answer.
    pub(crate) fn ask(&mut self, packet: &str) -> Result<String, Failed> {
        self.send(packet)?;
        self.receive()
    }

    /// Waits for a packet, and acknowledges it. Runs of one character are expanded.
    pub(crate) fn receive(&mut self) -> Result<String, Failed> {
        while self.byte()? != b'$' {}
        let (mut packet, mut sum) = (String::new(), 0_u8);
        loop {
            let byte = self.byte()?;
            if byte == b'#' {
                break;
            }
            sum = sum.wrapping_add(byte);
            if byte == b'*' {
                let count = self.byte()?;
                sum = sum.wrapping_add(count);
                let Some(last) = packet.chars().last() else { fail!("a run of nothing") };
                packet.extend(std::iter::repeat_n(last, usize::from(count.saturating_sub(29))));
            } else {
                packet.push(char::from(byte));
            }
        }
        let digits = [self.byte()?, self.byte()?].map(char::from);
        let wanted = String::from_iter(digits);
        ensure!(wanted == format!("{sum:02x}"), "the sum of {packet} is {sum:02x}, not {wanted}");
        // After its last packet the other side has gone.
        let _acknowledged = self.stream.write_all(b"+");
        Ok(packet)
    }

    fn byte(&mut self) -> Result<u8, Failed> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}
