//! `--trace`: the events of the devices as text, as JSON and for Perfetto.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    ("a_trace_as_text_has_the_kinds_asked_for", text_has_the_kinds_asked_for),
    ("a_trace_as_json_has_an_object_in_each_line", json_has_an_object_in_each_line),
    ("a_trace_for_perfetto_has_each_request_as_a_slice", perfetto_has_each_request_as_a_slice),
    ("a_trace_replaces_only_a_trace", a_trace_replaces_only_a_trace),
    ("a_trace_on_standard_error_is_complete", on_standard_error_it_is_complete),
];

/// Runs the built-in shell with a disk: a write, a read and a flush.
fn run(dir: &Path, args: &[&str]) -> Output {
    fs::write(dir.join("d.img"), [0; 4096]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cafevm"));
    let script = "sh=\"write 1 x; read 1; flush; exit\"";
    command.args(["run", "--disk", "d.img", "--cmdline", script]).args(args);
    command.current_dir(dir).output().unwrap()
}

fn traced(args: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    let args: Vec<_> = args.iter().chain(&["--trace-file", "t"]).copied().collect();
    let output = run(dir.path(), &args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.as_str()), (Some(0), ""));
    fs::read_to_string(dir.path().join("t")).unwrap()
}

fn text_has_the_kinds_asked_for() {
    let blocks = traced(&["--trace", "block"]);
    let lines: Vec<_> = blocks.lines().skip(1).collect();
    let ends = ["write at sector 1, 512 bytes", "read at sector 1, 512 bytes", "flush"];
    assert_eq!(lines.len(), 6, "{blocks}");
    for (pair, what) in lines.chunks(2).zip(ends) {
        assert!(pair[0].ends_with(&format!("=> descriptor 0: {what} starts")), "{blocks}");
        assert!(
            pair[1].contains(&format!("{what}: ok (")) && pair[1].ends_with(" us)"),
            "{blocks}"
        );
    }
    let all = traced(&["--trace", "all"]);
    for line in [
        "vCPU 0   virtio0 -> QueueNotify       0x00000000  the doorbell of queue 0  (rip 0x",
        "virtio0 [] queue 0: available index 1, used index 0\n",
        "virtio0 [] descriptor 1: 512 bytes at 0x",
        "virtio0 !! an interrupt\n",
        "virtio0 -> the driver acknowledges the interrupt\n",
        "virtio0    the status changes from 0xb to 0xf\n",
    ] {
        assert!(all.contains(line), "{line}: {all}");
    }
}

fn json_has_an_object_in_each_line() {
    let text = traced(&["--trace-format", "json"]);
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).skip(1).collect();
    let names: HashSet<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    for name in [
        "register",
        "status",
        "queue_ready",
        "notified",
        "chain_taken",
        "descriptor",
        "submitted",
        "finished",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    let times: Vec<_> = events.iter().map(|event| event["t"].as_f64().unwrap()).collect();
    assert!(times.is_sorted());
    let write = events.iter().find(|e| e["event"] == "finished").unwrap();
    assert_eq!((&write["operation"], &write["sector"]), (&"write".into(), &1.into()));
    assert!(write["us"].as_f64().unwrap() > 0.0, "{write}");
}

fn perfetto_has_each_request_as_a_slice() {
    let trace: Value = serde_json::from_str(&traced(&["--trace-format", "perfetto"])).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let ids = |ph: &str| -> Vec<_> {
        let requests = events.iter().filter(|e| e["ph"] == ph);
        requests.map(|e| e["id2"]["local"].as_str().unwrap()).collect()
    };
    assert_eq!((ids("b"), ids("e")), (vec!["0x1", "0x2", "0x3"], vec!["0x1", "0x2", "0x3"]));
    let named = |what: &str| -> Vec<_> {
        let names = events.iter().filter(|e| e["name"] == what);
        names.map(|e| e["args"]["name"].as_str().unwrap()).collect()
    };
    // A track a vCPU and a device, and a group of tracks a queue.
    assert_eq!(named("thread_name"), ["vCPU 0", "virtio0"]);
    assert_eq!(named("process_name"), ["threads", "devices", "virtio0 queue 0"]);
}

fn a_trace_replaces_only_a_trace() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("t");
    let failed = |args: &[&str], says: &str| {
        let output = run(dir.path(), args);
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains(says) && line.lines().count() == 1, "{args:?}: {line}");
        output.status.code().unwrap()
    };
    // A run that fails leaves no file.
    assert_eq!(failed(&["--trace-file", "t", "--kernel", "nope"], "--kernel nope"), 4);
    assert!(!file.exists());
    for _ in 0..2 {
        assert!(run(dir.path(), &["--trace-file", "t"]).status.success());
        assert!(fs::read_to_string(&file).unwrap().starts_with("# cafevm trace"));
    }
    fs::write(&file, "my notes").unwrap();
    assert_eq!(failed(&["--trace-file", "t"], "exists and was not written by cafevm"), 4);
    assert_eq!(fs::read_to_string(&file).unwrap(), "my notes");
    // Neither an image nor a pipe.
    assert_eq!(failed(&["--trace-file", "d.img"], "was not written by cafevm"), 4);
    assert_eq!(failed(&["--trace-file", "/dev/stdin"], "was not written by cafevm"), 4);
    assert_eq!(failed(&["--trace-file", "no/t"], "cannot be created"), 4);
    assert_eq!(failed(&["--trace", "all", "--trace-format", "json"], "needs --trace-file"), 2);
    assert_eq!(failed(&["--trace", "all", "--symbols", "t"], "--symbols t: "), 4);
}

fn on_standard_error_it_is_complete() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["--trace", "all"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains(": ok (")).count(), 3, "{text}");
    let file = traced(&["--trace", "all"]);
    let handshake = |text: &str| text.lines().filter(|line| line.contains(" Status ")).count();
    assert_eq!(handshake(&text), handshake(&file));
    assert!(handshake(&file) > 5, "{file}");
}
