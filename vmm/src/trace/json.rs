//! Events as JSON: one object in each line.

use cafevm_devices::observe::{DescriptorInfo, Direction, Event, Place, RequestInfo, Suppression};
use serde_json::{Map, Value, json};

use super::sink::JSON;
use super::{Traced, Writer, thread_name};

/// Writes one object for each event.
pub(super) struct Objects;

impl Writer for Objects {
    fn begin(&mut self) -> String {
        format!("{JSON}1}}\n")
    }

    fn event(&mut self, event: &Traced<'_>) -> String {
        let mut object = Map::new();
        object.insert("t".into(), json!(event.at.as_secs_f64()));
        object.insert("thread".into(), json!(thread_name(event.cpu)));
        object.insert("device".into(), json!(&**event.seen.device));
        let (name, fields) = fields(&event.seen.event);
        object.insert("event".into(), json!(name));
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        if let Some(rip) = event.rip {
            object.insert("rip".into(), json!(format!("{rip:#x}")));
        }
        if let Some(place) = &event.place {
            object.insert("at".into(), json!(place));
        }
        if let Some(took) = event.took() {
            object.insert("us".into(), json!(took.as_secs_f64() * 1e6));
        }
        Value::Object(object).to_string() + "\n"
    }

    fn end(&mut self) -> String {
        String::new()
    }
}

/// The name of an event, and its fields.
pub(super) fn fields(event: &Event<'_>) -> (&'static str, Value) {
    match *event {
        Event::Access { address, width, direction, value, claimed } => (
            "access",
            json!({"address": address, "width": width, "direction": way(direction), "value": value, "claimed": claimed}),
        ),
        Event::Register { register, direction, value, meaning } => (
            "register",
            json!({"register": register, "direction": way(direction), "value": value, "meaning": meaning.to_string()}),
        ),
        Event::Status { before, now } => ("status", json!({"before": before, "now": now})),
        Event::QueueReady { queue, size, place } => {
            let place = match place {
                Place::Ring { base } => json!({"base": base}),
                Place::Split { desc, avail, used } => {
                    json!({"desc": desc, "avail": avail, "used": used})
                }
                _ => Value::Null,
            };
            ("queue_ready", json!({"queue": queue, "size": size, "place": place}))
        }
        Event::QueueRefused { queue, why } => {
            ("queue_refused", json!({"queue": queue, "why": why.to_string()}))
        }
        Event::QueueStopped { queue } => ("queue_stopped", json!({"queue": queue})),
        Event::Notified { queue } => ("notified", json!({"queue": queue})),
        Event::ChainTaken { queue, head, entry, available, used } => (
            "chain_taken",
            json!({"queue": queue, "head": head, "entry": entry, "available": available, "used": used}),
        ),
        Event::Descriptor { queue, descriptor } => {
            let DescriptorInfo { index, in_indirect_table, addr, len, flags, next, .. } =
                descriptor;
            (
                "descriptor",
                json!({"queue": queue, "index": index, "indirect_table": in_indirect_table, "addr": addr, "len": len,
                    "flags": flags, "next": next}),
            )
        }
        Event::ChainReturned { queue, head, written, entry } => (
            "chain_returned",
            json!({"queue": queue, "head": head, "written": written, "entry": entry}),
        ),
        Event::Entry { index, at, addr, size, sector, cmd } => (
            "entry",
            json!({"index": index, "at_address": at, "addr": addr, "size": size, "sector": sector, "cmd": cmd}),
        ),
        Event::NothingAvailable { queue, index } => {
            ("nothing_available", json!({"queue": queue, "index": index}))
        }
        Event::Suppressed { queue, why, used } => {
            let used_event = match why {
                Suppression::Event { used_event } => Some(used_event),
                _ => None,
            };
            ("suppressed", json!({"queue": queue, "used": used, "used_event": used_event}))
        }
        Event::EntrySpacing { bytes, why, certain } => {
            ("entry_spacing", json!({"bytes": bytes, "why": why.to_string(), "certain": certain}))
        }
        Event::Submitted(request) => ("submitted", fields_of(&request)),
        Event::Content { queue, what } => {
            ("content", json!({"queue": queue, "what": what.to_string()}))
        }
        Event::Finished { request, outcome } => {
            let mut fields = fields_of(&request);
            if let Value::Object(fields) = &mut fields {
                fields.insert("outcome".into(), json!(outcome.to_string()));
            }
            ("finished", fields)
        }
        Event::Raised { reasons } => ("raised", json!({"reasons": reasons})),
        Event::Acknowledged { reasons } => ("acknowledged", json!({"reasons": reasons})),
        Event::Broken { rule, what } => ("broken", json!({"rule": rule, "what": what.to_string()})),
        // An event of a later version of the devices.
        _ => ("other", Value::Null),
    }
}

fn fields_of(request: &RequestInfo) -> Value {
    let RequestInfo { queue, index, operation, sector, bytes, .. } = *request;
    json!({"queue": queue, "index": index, "operation": operation, "sector": sector, "bytes": bytes})
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    }
}
