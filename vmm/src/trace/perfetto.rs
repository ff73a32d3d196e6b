//! Events as tracks of Perfetto, in Chrome's JSON trace event format: a track for each thread with the accesses of its
//! guest, and one for each queue with its requests.

use std::collections::HashMap;
use std::fmt::Write as _;

use cafevm_devices::observe::{Event, RequestInfo};
use serde_json::{Value, json};

use super::json::fields;
use super::sink::PERFETTO;
use super::{Traced, Writer, thread_name};

/// The process of all threads, and the one of all queues.
const THREADS: u32 = 1;
const QUEUES: u32 = 2;

/// Writes trace events.
#[derive(Default)]
pub(super) struct Tracks {
    /// The tracks by process and name.
    known: HashMap<(u32, String), usize>,
}

impl Writer for Tracks {
    fn begin(&mut self) -> String {
        let mut text = format!("{}:1}},\"traceEvents\":[\n", PERFETTO);
        for (process, name) in [(THREADS, "threads"), (QUEUES, "queues")] {
            let args = json!({"name": name});
            let event = json!({"ph": "M", "name": "process_name", "pid": process, "args": args});
            _ = writeln!(text, "{event},");
        }
        text
    }

    fn event(&mut self, event: &Traced<'_>) -> String {
        let mut text = String::new();
        let at = event.at.as_secs_f64() * 1e6;
        let device = event.seen.device.to_string();
        let (name, args) = fields(&event.seen.event);
        let (ph, request) = match event.seen.event {
            Event::Submitted(request) => ("b", request),
            Event::Finished { request, .. } => ("e", request),
            _ => {
                let thread = self.track(THREADS, thread_name(event.cpu), &mut text);
                let name = match event.seen.event {
                    Event::Register { register, .. } => format!("{device} {register}"),
                    _ => format!("{device} {name}"),
                };
                let mut args = args;
                if let (Some(place), Value::Object(args)) = (&event.place, &mut args) {
                    args.insert("at".into(), json!(place));
                }
                let event = json!({"ph": "i", "s": "t", "name": name, "pid": THREADS, "tid": thread, "ts": at, "args": args});
                _ = writeln!(text, "{event},");
                return text;
            }
        };
        let RequestInfo { queue, operation, .. } = request;
        let track = self.track(QUEUES, format!("{device} queue {queue}"), &mut text);
        // A request that is refused ends without a start.
        let (ph, id) = event.request.map_or(("n", 0), |request| (ph, request.id));
        let event = json!({"ph": ph, "cat": "request", "id": id, "name": operation, "pid": QUEUES, "tid": track, "ts": at,
            "args": args});
        _ = writeln!(text, "{event},");
        text
    }

    fn end(&mut self) -> String {
        // The list has a comma after each event, so it needs one more.
        "{\"ph\":\"M\",\"name\":\"end\",\"pid\":1}\n]}\n".to_owned()
    }
}

impl Tracks {
    /// The number of a track; its name is written when it is new.
    fn track(&mut self, process: u32, name: String, text: &mut String) -> usize {
        let next = self.known.len() + 1;
        let args = json!({"name": name});
        *self.known.entry((process, name)).or_insert_with(|| {
            let event = json!({"ph": "M", "name": "thread_name", "pid": process, "tid": next, "args": args});
            _ = writeln!(text, "{event},");
            next
        })
    }
}
