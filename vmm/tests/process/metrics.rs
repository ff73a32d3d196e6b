//! A running machine and its metrics: what the guest did, over TCP and over a Unix socket.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use serde_json::Value;

use super::control::{Machine, image};
use super::{Test, cafevm, finish};

pub(crate) const TESTS: &[Test] = &[
    ("metrics_are_what_the_guest_did", metrics_are_what_the_guest_did),
    ("clients_that_break_off_disturb_no_metrics", clients_that_break_off_disturb_no_metrics),
    ("an_address_that_is_taken_is_an_error", an_address_that_is_taken_is_an_error),
];

/// Each sample of a text, by its name with labels.
type Samples = BTreeMap<String, f64>;

/// Parses the text format of Prometheus, version 0.0.4, and checks its rules.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    let mut family = ("", "");
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = (help.split_once(' ').expect("a help text").0, "");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family.0, "the help of a family comes before its type");
            family.1 = kind;
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let base = name.split('{').next().unwrap();
        let suffixes =
            if family.1 == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
        let belongs = |suffix: &&str| base.strip_suffix(*suffix) == Some(family.0);
        assert!(suffixes.iter().any(belongs), "{line} after {family:?}");
        assert!(base.starts_with("cafevm_"), "{line}");
        assert_eq!(family.1 == "counter", base.ends_with("_total"), "{line}");
        let is_new = samples.insert(name.to_owned(), value.parse().unwrap()).is_none();
        assert!(is_new, "twice: {name}");
    }
    samples
}

/// The value of a sample of a disk.
fn of(samples: &Samples, metric: &str, disk: &str, label: &str) -> f64 {
    let name = format!("cafevm_disk_{metric}{{disk=\"{disk}\",{label}}}");
    *samples.get(&name).unwrap_or_else(|| panic!("no {name} in {samples:#?}"))
}

/// Requests and bytes of an operation.
fn done(samples: &Samples, disk: &str, operation: &str) -> (f64, f64) {
    let label = format!("operation=\"{operation}\"");
    let requests = of(samples, "requests_total", disk, &label);
    let latencies = of(samples, "request_duration_seconds_count", disk, &label);
    let last =
        of(samples, "request_duration_seconds_bucket", disk, &format!("{label},le=\"+Inf\""));
    assert_eq!((latencies, last), (requests, requests), "each request has a latency");
    let bytes = if operation == "flush" { 0.0 } else { of(samples, "bytes_total", disk, &label) };
    (requests, bytes)
}

/// Sends a request and returns the response.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn scrape(stream: impl Read + Write) -> String {
    let response = ask(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = response.split_once("\r\n\r\n").expect(&response);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    body.to_owned()
}

/// The command of a machine with metrics there.
fn with_metrics(address: &str) -> Command {
    let mut command = cafevm();
    command.args(["-v", "--metrics", address]);
    command
}

/// The address at which a machine with `-v` says that its metrics are.
fn address(machine: &mut Machine) -> String {
    let stderr = machine.child.stderr.take().unwrap();
    let mut lines = BufReader::new(stderr).lines();
    let address =
        lines.find_map(|line| line.unwrap().strip_prefix("cafevm: metrics at ").map(str::to_owned));
    // Nobody must wait for a full pipe.
    thread::spawn(move || lines.for_each(drop));
    address.unwrap()
}

fn type_all(machine: &mut Machine, lines: &[&str]) {
    for line in lines {
        machine.type_line(line);
        machine.read_to("cafevm> ");
    }
}

fn metrics_are_what_the_guest_did() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, svirtb) = (image(dir.path(), 1 << 20), dir.path().join("s.img"));
    fs::File::create(&svirtb).unwrap().set_len(1 << 20).unwrap();
    let mut command = with_metrics("0");
    command.arg("--disk").arg(format!("path={},bus=svirtb", svirtb.display()));
    let disk = format!("path={},id=da\"ta", disk.display());
    let mut machine = Machine::spawn(command, dir.path(), &disk);
    let address = address(&mut machine);
    machine.read_to("cafevm> ");
    let scrape = || parse(&scrape(TcpStream::connect(&address).unwrap()));

    let before = scrape();
    assert!(before.keys().any(|name| name.starts_with("cafevm_build_info{version=")));
    let info =
        |name: &String| name.starts_with("cafevm_disk_info{disk=\"virtio0\",id=\"da\\\"ta\"");
    assert!(before.keys().any(info), "{before:#?}");
    let size = "cafevm_disk_size_bytes{disk=\"svirtb\"}";
    assert_eq!(before[size], f64::from(1 << 20));
    assert_eq!(done(&before, "virtio0", "read"), (0.0, 0.0));

    type_all(
        &mut machine,
        &["dev virtio 0", "read 0", "read 7", "write 3 x", "write 4 y", "flush"],
    );
    type_all(&mut machine, &["dev svirtb", "write 3 x", "read 3", "read 4"]);
    let after = scrape();
    assert_eq!(done(&after, "virtio0", "read"), (2.0, 1024.0));
    assert_eq!(done(&after, "virtio0", "write"), (2.0, 1024.0));
    assert_eq!(done(&after, "virtio0", "flush"), (1.0, 0.0));
    assert_eq!(done(&after, "virtio0", "discard"), (0.0, 0.0));
    assert_eq!(done(&after, "svirtb", "write"), (1.0, 512.0));
    assert_eq!(done(&after, "svirtb", "read"), (2.0, 1024.0));
    // svirtb flushes after each batch with writes.
    assert_eq!(done(&after, "svirtb", "flush"), (1.0, 0.0));
    assert_eq!(of(&after, "errors_total", "virtio0", "error=\"host\""), 0.0);
    assert_eq!(after["cafevm_disk_requests_in_flight{disk=\"virtio0\"}"], 0.0);
    // A bucket has all requests that took less.
    let read = "cafevm_disk_request_duration_seconds_bucket{disk=\"virtio0\",operation=\"read\"";
    let counts: Vec<_> = after.iter().filter(|(name, _)| name.starts_with(read)).collect();
    assert_eq!(counts.len(), 25);
    assert!(counts.iter().all(|(_, count)| **count <= 2.0));
    // Doorbells are writes to memory, what the shell prints goes to ports.
    for exit in ["mmio_write", "port_write"] {
        let name = format!("cafevm_vcpu_exits_total{{vcpu=\"0\",exit=\"{exit}\"}}");
        assert!(after[&name] > before[&name], "{name}");
    }

    let status: Value = serde_json::from_str(&machine.tell(r#"{"status":{}}"#)).unwrap();
    let disk = &status["result"]["disks"][0];
    assert_eq!(disk["requests"]["read"], 2);
    assert_eq!(disk["bytes"]["write"], 1024);
    assert_eq!(disk["requests"]["flush"], 1);
    assert_eq!((&disk["errors"]["out-of-range"], &disk["in-flight"]), (&0.into(), &0.into()));
    machine.type_line("exit");
    machine.child.wait().unwrap();
}

/// A client that sends this, reads the response as far as there is one, and goes.
fn rudely(socket: &Path, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The other side may have given up already.
    let _sent = stream.write_all(request);
    let _half = stream.shutdown(std::net::Shutdown::Write);
    let mut response = Vec::new();
    let _read = stream.read_to_end(&mut response);
    response
}

fn clients_that_break_off_disturb_no_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("metrics");
    let disk = image(dir.path(), 1 << 20).display().to_string();
    let command = with_metrics(&format!("unix:{}", socket.display()));
    let mut machine = Machine::spawn(command, dir.path(), &disk);
    address(&mut machine);
    machine.read_to("cafevm> ");
    let begins = |response: Vec<u8>, with: &str| {
        let text = String::from_utf8_lossy(&response).into_owned();
        assert!(text.starts_with(with), "{text:?}, not {with}");
    };
    // Silent clients, all but one of those that fit.
    let silent: Vec<_> = (0..7).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for round in 0..20 {
        assert_eq!(rudely(&socket, b"GET /met"), b"", "half a request");
        drop(UnixStream::connect(&socket).unwrap());
        // A client that does not wait for its response.
        UnixStream::connect(&socket).unwrap().write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        begins(rudely(&socket, b"\x16\x03\x01\x02\0"), "HTTP/1.1 400 ");
        begins(rudely(&socket, b"GET /x HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 ");
        begins(rudely(&socket, b"PUT /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 ");
        begins(rudely(&socket, &[b'x'; 1 << 20]), "HTTP/1.1 4");
        let samples = parse(&scrape(UnixStream::connect(&socket).unwrap()));
        assert_eq!(done(&samples, "virtio0", "read"), (f64::from(round), f64::from(round * 512)));
        type_all(&mut machine, &["read 0"]);
    }
    let head = ask(UnixStream::connect(&socket).unwrap(), "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    drop(silent);
    machine.type_line("exit");
    machine.child.wait().unwrap();
    assert!(!socket.exists());
}

fn an_address_that_is_taken_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    for (address, why) in [
        (taken.local_addr().unwrap().to_string(), "Address already in use"),
        (format!("unix:{}", file.display()), "a file is there that is no socket"),
        ("unix:/no/such/directory/socket".to_owned(), "No such file"),
    ] {
        let ended = finish(cafevm().args(["--metrics", &address]).spawn().unwrap());
        assert_eq!(ended.status, 4, "{}", ended.stderr);
        let begin = format!(
            "cafevm: --metrics {}: cannot listen there: ",
            address.trim_start_matches("unix:")
        );
        assert!(ended.stderr.starts_with(&begin), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1);
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}
