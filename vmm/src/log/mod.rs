//! The log: lines on standard error, each with the program's name.
//!
//! No thread waits for the reader of standard error: lines go into a queue of 64 KiB, and a thread writes them. Lines
//! that do not fit are dropped; their number is logged when there is room again.
//!
//! | question | file |
//! |---|---|
//! | Where do bytes wait for a reader, so that no thread has to? | `backlog.rs`, `patient.rs` |
//! | How do log lines and the guest's output share a terminal? | `screen.rs` |
//! | When are lines coloured? | `colour.rs` |

pub(crate) mod backlog;
pub(crate) mod colour;
pub(crate) mod patient;
pub(crate) mod screen;

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::thread;

use rustix::stdio::stderr;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::log::backlog::Backlog;
use crate::log::colour::{DEBUG, ERROR, NAME, WARNING, on_stderr, paint};
use crate::log::patient::{write_all_patiently, write_patiently};

/// The most bytes of lines that are buffered.
const CAPACITY: usize = 64 << 10;

static LINES: Backlog = Backlog::new(CAPACITY, 0, CAPACITY / 2, count_lines);
/// Whether the writing thread could be started.
static WRITER: OnceLock<bool> = OnceLock::new();

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Logs a line.
pub(crate) fn line(line: impl fmt::Display) {
    lines(format_args!("{} {line}", paint(on_stderr(), NAME, "cafevm:")));
}

/// Logs the error that ends cafevm.
pub(crate) fn error_line(line: impl fmt::Display) {
    lines(error(line));
}

fn error(line: impl fmt::Display) -> impl fmt::Display {
    let name = paint(on_stderr(), ERROR, "cafevm:");
    fmt::from_fn(move |f| write!(f, "{name} {line}"))
}

/// Logs several lines, which stay together; the last one without its end.
pub(crate) fn lines(text: impl fmt::Display) {
    start_writer();
    LINES.push(format!("{text}\n").as_bytes());
}

/// Logs the last line of a panic, and waits for it for a limited time. The thread that panicked may hold any lock: if
/// it holds the log's lock, the line is lost.
pub(crate) fn last_line(line: impl fmt::Display) {
    start_writer();
    if LINES.try_push(format!("{}\n", error(line)).as_bytes()) {
        flush();
    }
}

/// Waits until all lines are written, limited as in [`Backlog::flush`].
pub(crate) fn flush() {
    match WRITER.get() {
        // Lines may have been dropped after the last time that the queue had room.
        Some(true) if LINES.flush() == 0 => {
            report_dropped();
            LINES.flush();
        }
        Some(true) | None => {}
        // The host could not create the thread, so the lines are written here.
        Some(false) => {
            LINES.close();
            write_lines();
        }
    }
}

fn start_writer() {
    WRITER.get_or_init(|| {
        let writer = thread::Builder::new().name("log".to_owned());
        writer.spawn(write_lines).is_ok()
    });
}

fn write_lines() {
    let _never_fails = LINES.write_out(|bytes| Ok(write_some(bytes)), report_dropped);
}

/// Writes some of the bytes; returns how many. Errors are ignored: if standard error fails, there is no other place to
/// report it.
fn write_some(bytes: &[u8]) -> usize {
    if !screen::is_shared() {
        return write_patiently(stderr(), bytes).unwrap_or(bytes.len());
    }
    // Whole lines, so that the guest's output cannot split one.
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    let lines = bytes.get(..end).unwrap_or(bytes);
    let line = screen::lock();
    let text = [line.before_log(colour::is_ansi()), lines, &line.after_log()].concat();
    let _closed = write_all_patiently(stderr(), &text);
    lines.len()
}

fn report_dropped() {
    let dropped = LINES.take_dropped();
    if dropped > 0 {
        line(format_args!(
            "warning: {dropped} log lines were dropped, because nothing read standard error"
        ));
    }
}

/// The writer for the subscriber's lines.
struct Queue;

impl Write for Queue {
    /// The subscriber writes a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        start_writer();
        LINES.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log: with warnings; with `verbose` 1 also the parts of the machine, with 2 everything.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| Queue)
        // Otherwise the subscriber would write these to standard error itself.
        .log_internal_errors(false)
        .event_format(Line)
        .init();
}

/// The format of a line: the program's name, the severity, the message.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (style, kind) = match *event.metadata().level() {
            Level::ERROR => (ERROR, "error:"),
            Level::WARN => (WARNING, "warning:"),
            Level::INFO => (NAME, ""),
            Level::DEBUG | Level::TRACE => (DEBUG, "debug:"),
        };
        let coloured = on_stderr();
        write!(writer, "{} ", paint(coloured, NAME, "cafevm:"))?;
        if !kind.is_empty() {
            write!(writer, "{} ", paint(coloured, style, kind))?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
