//! How long a guest takes to come up, as -v tells: from the process's start to the guest's first byte on its
//! console, and for Linux to its first process.
//!
//! Linux says "Run /init as init process" on the console where its log level lets it (not with `quiet`); nothing
//! else is asked of the guest.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Instant;

use tracing::{Level, enabled, info};

static START: OnceLock<Instant> = OnceLock::new();

/// Marks the process's start.
pub(crate) fn begin() {
    let _earlier = START.set(Instant::now());
}

/// What Linux says as it starts its first process.
const INIT: &[u8] = b"as init process";

/// The guest's output on its way to `output`, watched if somebody wants to know.
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

/// What was seen of the output.
#[derive(Debug, Default)]
struct Seen {
    any: bool,
    /// How much of [`INIT`].
    matched: usize,
    init: bool,
}

impl Seen {
    /// Looks at the next byte; what it shows that was not shown before.
    fn look(&mut self, byte: u8) -> Option<&'static str> {
        if !self.any {
            self.any = true;
            return Some("the guest's first byte came");
        }
        match INIT.get(self.matched) {
            Some(wanted) if byte == *wanted => self.matched += 1,
            // The text's first letter comes only once in it, so that a match that fails begins anew at this byte.
            Some(_) => self.matched = usize::from(byte == b'a'),
            // Told at the end of its line, to stand on one of its own.
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
