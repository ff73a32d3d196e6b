//! Events as tracks of Perfetto, in Chrome's JSON trace event format: a track for each vCPU with the accesses of its
//! guest, one for each device with what it finds and does, and a group for each queue with its requests, which overlap.

use std::collections::HashMap;
use std::fmt::Write as _;

use cafevm_devices::observe::{Event, RequestInfo};
use serde_json::{Value, json};

use super::json::fields;
use super::sink::PERFETTO;
use super::{Traced, Writer, thread_name};

/// The process of all threads, and the one of all devices. Each queue is a process with a higher number.
const THREADS: usize = 1;
const DEVICES: usize = 2;

/// Writes trace events.
#[derive(Default)]
pub(super) struct Tracks {
    /// The threads by process and name.
    threads: HashMap<(usize, String), usize>,
    /// The processes of the queues by name.
    queues: HashMap<String, usize>,
}

impl Writer for Tracks {
    fn begin(&mut self) -> String {
        let mut text = format!("{}:1}},\"traceEvents\":[\n", PERFETTO);
        name_process(THREADS, "threads", &mut text);
        name_process(DEVICES, "devices", &mut text);
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
                let (process, track, name) = match event.seen.event {
                    Event::Register { register, .. } => {
                        (THREADS, thread_name(event.cpu), format!("{device} {register}"))
                    }
                    Event::Access { .. } => {
                        (THREADS, thread_name(event.cpu), format!("{device} {name}"))
                    }
                    _ => (DEVICES, device, name.to_owned()),
                };
                let thread = self.thread(process, track, &mut text);
                let mut args = args;
                if let (Some(place), Value::Object(args)) = (&event.place, &mut args) {
                    args.insert("at".into(), json!(place));
                }
                let event = json!({"ph": "i", "s": "t", "name": name, "pid": process, "tid": thread, "ts": at, "args": args});
                _ = writeln!(text, "{event},");
                return text;
            }
        };
        let RequestInfo { queue, operation, .. } = request;
        let process = self.queue(format!("{device} queue {queue}"), &mut text);
        // A request that is refused ends without a start.
        let (ph, id) = event.request.map_or(("n", 0), |request| (ph, request.id));
        let id = json!({"local": format!("{id:#x}")});
        let event = json!({"ph": ph, "cat": "request", "id2": id, "name": operation, "pid": process, "tid": process,
            "ts": at, "args": args});
        _ = writeln!(text, "{event},");
        text
    }

    fn end(&mut self) -> String {
        // The list has a comma after each event, so it needs one more.
        "{\"ph\":\"M\",\"name\":\"end\",\"pid\":1}\n]}\n".to_owned()
    }
}

impl Tracks {
    /// The number of a queue's process; its name is written when it is new.
    fn queue(&mut self, name: String, text: &mut String) -> usize {
        let next = DEVICES + 1 + self.queues.len();
        *self.queues.entry(name).or_insert_with_key(|name| {
            name_process(next, name, text);
            next
        })
    }

    /// The number of a thread; its name is written when it is new.
    fn thread(&mut self, process: usize, name: String, text: &mut String) -> usize {
        let next = self.threads.len() + 1;
        let args = json!({"name": name});
        *self.threads.entry((process, name)).or_insert_with(|| {
            let event = json!({"ph": "M", "name": "thread_name", "pid": process, "tid": next, "args": args});
            _ = writeln!(text, "{event},");
            next
        })
    }
}

fn name_process(process: usize, name: &str, text: &mut String) {
    let args = json!({"name": name});
    let event = json!({"ph": "M", "name": "process_name", "pid": process, "args": args});
    _ = writeln!(text, "{event},");
}
