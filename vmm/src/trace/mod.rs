//! The trace: what drivers and devices do, for a driver's author, as `--trace` selects it.
//!
//! ```text
//!  a device ──▶ Tap ──▶ Tracer ── selects by Kinds ──▶ Writer (text, JSON, Perfetto) ──▶ standard error or a file
//!                          └── Place of the guest (vcpu) ──▶ Symbols: function, file, line
//! ```
//!
//! | question | file |
//! |---|---|
//! | Which events belong to which kind? | `kinds.rs` |
//! | How does an event read as text? | `text.rs` |
//! | How does it read as JSON? | `json.rs` |
//! | How does it become a track of Perfetto? | `perfetto.rs` |
//! | Where is the trace written? | `sink.rs` |

mod json;
pub mod kinds;
mod perfetto;
pub(crate) mod sink;
pub(crate) mod text;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cafevm_devices::observe::{Event, Observer, RequestInfo, Seen};

use crate::symbols::{Symbols, SymbolsError};
use crate::vcpu::place;
pub use kinds::Kinds;
use sink::Sink;

/// The format of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Lines for a person.
    #[default]
    Text,
    /// One JSON object in each line.
    Json,
    /// A file for ui.perfetto.dev and trace_processor (Chrome's JSON format).
    Perfetto,
}

/// What to trace, and where to.
#[derive(Debug, Clone)]
pub struct TraceConfig {
    /// The kinds of events.
    pub kinds: Kinds,
    /// The file; standard error if none.
    pub file: Option<PathBuf>,
    /// The format.
    pub format: Format,
    /// An ELF file with the guest's symbols.
    pub symbols: Option<PathBuf>,
}

/// Why a trace cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The format needs a file.
    #[error(
        "--trace-format {0}: needs --trace-file FILE, because standard error has other lines, too"
    )]
    NeedsFile(&'static str),
    /// The file has other content.
    #[error("{flag} {}: exists and was not written by cafevm; give another file, or remove it", path.display())]
    NotOurs {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be created.
    #[error("{flag} {}: cannot be created: {source}; give a file in a directory that exists and may be written", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: std::io::Error,
    },
    /// The symbols cannot be read.
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
}

impl TraceError {
    /// Whether the flags alone are wrong.
    pub(crate) const fn is_usage(&self) -> bool {
        matches!(self, Self::NeedsFile(_))
    }
}

/// An event with everything that the formats show.
struct Traced<'a> {
    seen: &'a Seen<'a>,
    /// Since the start of the trace.
    at: Duration,
    /// The vCPU whose access caused the event; none for the I/O thread.
    cpu: Option<u32>,
    /// The guest's instruction pointer, for an access of the guest.
    rip: Option<u64>,
    /// The function, file and line of `rip`.
    place: Option<String>,
    /// For the start and the end of a request; none for the end of one that was refused before it started.
    request: Option<Open>,
}

impl Traced<'_> {
    /// For the end of a request: the time since its start.
    fn took(&self) -> Option<Duration> {
        let Event::Finished { .. } = self.seen.event else { return None };
        self.request.map(|request| self.seen.at.saturating_duration_since(request.start))
    }
}

/// A request that has started.
#[derive(Clone, Copy)]
struct Open {
    /// Counts all requests of the trace, from 1 on.
    id: u64,
    start: Instant,
}

/// Writes events in one format.
trait Writer: Send {
    fn begin(&mut self) -> String;
    fn event(&mut self, event: &Traced<'_>) -> String;
    fn end(&mut self) -> String;
}

/// Observes devices and writes the trace. Clones write to the same place.
#[derive(Clone)]
pub struct Tracer(Arc<Mutex<State>>);

struct State {
    kinds: Kinds,
    start: Instant,
    symbols: Symbols,
    /// The requests that have started, by device, queue and index: at most as many as the queues have entries.
    open: HashMap<(Arc<str>, u16, u32), Open>,
    /// How many requests have started.
    requests: u64,
    writer: Box<dyn Writer>,
    sink: Sink,
}

impl Tracer {
    /// Opens the trace. `kernel` is the guest's ELF file, if it is one: its symbols are used if it has any.
    ///
    /// # Errors
    ///
    /// If the file or the symbols cannot be used.
    pub fn open(config: &TraceConfig, kernel: Option<&Path>) -> Result<Self, TraceError> {
        let symbols = Symbols::of_guest(config.symbols.as_deref(), kernel)?;
        let mut writer: Box<dyn Writer> = match config.format {
            Format::Text => Box::new(text::Lines::new(config.file.is_none())),
            Format::Json => Box::new(json::Objects),
            Format::Perfetto => Box::new(perfetto::Tracks::default()),
        };
        let mut sink = match (&config.file, config.format) {
            (Some(path), _) => Sink::file("--trace-file", path)?,
            (None, Format::Text) => Sink::Log,
            (None, Format::Json) => return Err(TraceError::NeedsFile("json")),
            (None, Format::Perfetto) => return Err(TraceError::NeedsFile("perfetto")),
        };
        sink.write(&writer.begin());
        let state = State {
            kinds: config.kinds,
            start: Instant::now(),
            symbols,
            open: HashMap::new(),
            requests: 0,
            writer,
            sink,
        };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Ends the trace. If the machine never ran, a file that was created for it is removed.
    pub fn finish(&self, ran: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = state.writer.end();
        state.sink.write(&end);
        if !ran {
            state.sink.remove();
        }
    }
}

impl Observer for Tracer {
    fn event(&self, seen: &Seen<'_>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.event(seen);
    }
}

impl State {
    fn event(&mut self, seen: &Seen<'_>) {
        let request = self.request(seen);
        if !self.kinds.contain(&seen.event) {
            return;
        }
        // Only an access is an instruction of the guest; everything else follows from one.
        let is_access = matches!(seen.event, Event::Register { .. } | Event::Access { .. });
        let rip = if is_access { place::rip() } else { None };
        let traced = Traced {
            seen,
            at: seen.at.saturating_duration_since(self.start),
            cpu: place::cpu(),
            rip,
            place: rip.and_then(|rip| self.symbols.name(place::instruction(rip))),
            request,
        };
        let text = self.writer.event(&traced);
        self.sink.write(&text);
    }

    /// The request that an event starts or ends.
    fn request(&mut self, seen: &Seen<'_>) -> Option<Open> {
        let key = |request: RequestInfo| (seen.device.clone(), request.queue, request.index);
        match seen.event {
            Event::Submitted(request) => {
                self.requests += 1;
                let open = Open { id: self.requests, start: seen.at };
                self.open.insert(key(request), open);
                Some(open)
            }
            Event::Finished { request, .. } => self.open.remove(&key(request)),
            // A queue that has stopped answers nothing more.
            Event::QueueStopped { queue } => {
                self.open.retain(|(device, of, _), _| {
                    (&**device, u32::from(*of)) != (&**seen.device, queue)
                });
                None
            }
            _ => None,
        }
    }
}

/// The name of the thread in a trace.
fn thread_name(cpu: Option<u32>) -> String {
    match cpu {
        Some(cpu) => format!("vCPU {cpu}"),
        None => thread::current().name().unwrap_or("host").to_owned(),
    }
}
