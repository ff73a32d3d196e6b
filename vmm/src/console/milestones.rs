//! The start-up times that -v logs: from the start of the process to the guest's first byte on the console and, for
//! Linux, to its first process.
//!
//! Linux prints "Run /init as init process" to the console if its log level allows (not with `quiet`).

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Instant;

use tracing::{Level, enabled, info};

static START: OnceLock<Instant> = OnceLock::new();

/// Stores the time of the process's start.
pub(crate) fn begin() {
    let _earlier = START.set(Instant::now());
}

/// The line that Linux prints when it starts its first process.
const INIT: &[u8] = b"as init process";

/// Wraps the guest's `output` to find the milestones, if they are logged.
pub(crate) fn watch(output: Box<dyn Write + Send>) -> Box<dyn Write + Send> {
    if !enabled!(Level::INFO) {
        return output;
    }
    let start = *START.get_or_init(Instant::now);
    Box::new(Watch { output, start, seen: Seen::default() })
}

struct Watch {
    output: Box<dyn Write + Send>,
    start: Instant,
    seen: Seen,
}

impl Write for Watch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        let written = bytes.get(..count).unwrap_or_default();
        for what in written.iter().filter_map(|&byte| self.seen.look(byte)) {
            info!("{what} after {:.1} ms", self.start.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The state of the search.
#[derive(Debug, Default)]
struct Seen {
    any: bool,
    /// The number of bytes of [`INIT`] that matched.
    matched: usize,
    init: bool,
}

impl Seen {
    /// Takes the next byte. Returns a milestone that it completes.
    fn look(&mut self, byte: u8) -> Option<&'static str> {
        if !self.any {
            self.any = true;
            return Some("the guest's first byte came");
        }
        match INIT.get(self.matched) {
            Some(wanted) if byte == *wanted => self.matched += 1,
            // The first letter occurs only once in the text, so a failed match can start again at this byte.
            Some(_) => self.matched = usize::from(byte == b'a'),
            // Reported at the end of the line, so that the log line stands alone.
            None if byte == b'\n' && !self.init => {
                self.init = true;
                return Some("the guest's first process was started");
            }
            None => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_and_init_are_seen_once() {
        let mut seen = Seen::default();
        let text = b"[ 1.0] as aas init process\r\nRun /init as init process\r\n";
        let shown: Vec<_> = text.iter().filter_map(|&byte| seen.look(byte)).collect();
        assert_eq!(shown, ["the guest's first byte came", "the guest's first process was started"]);
    }
}
