//! Readers of standard output and standard error that read late, slowly or never: they delay nothing, and the bytes
//! that they miss are counted.

use std::fs::{File, create_dir_all};
use std::io::{BufRead, BufReader, PipeReader, Read, Write, pipe};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::{Test, cafevm, finish, guest, guests, pid, run, wait_within};

pub(crate) const TESTS: &[Test] = &[
    ("a_guest_that_repeats_itself_is_logged_a_few_times", a_guest_that_repeats_itself),
    ("a_log_that_nobody_reads_does_not_keep_it", a_log_that_nobody_reads_does_not_keep_it),
    ("a_log_that_is_read_late_counts_what_was_dropped", a_log_that_is_read_late),
    ("output_into_a_full_pipe_does_not_keep_it", output_into_a_full_pipe_does_not_keep_it),
    ("a_guest_ends_though_nobody_reads_what_it_printed", a_guest_ends_though_nobody_reads),
    ("bytes_written_without_room_are_counted", bytes_written_without_room_are_counted),
    ("a_guest_that_polls_the_line_status_loses_nothing", || loses_nothing(guests::LINE_STATUS)),
    ("a_guest_that_waits_for_the_interrupt_loses_nothing", || loses_nothing(guests::INTERRUPT_ID)),
];

/// The limit for the end: cafevm's own limits are 1 s for each of output and log.
const SOON: Duration = Duration::from_secs(10);

/// A full pipe.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = pipe().unwrap();
    let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b'.'; size]).unwrap();
    (reader, Stdio::from(writer))
}

/// Waits for a guest's first byte, with a limit.
fn runs(child: &mut Child) {
    let mut stdout = child.stdout.take().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(stdout.read_exact(&mut [0]).map(|()| stdout)));
    match told.recv_timeout(SOON) {
        Ok(stdout) => child.stdout = Some(stdout.unwrap()),
        Err(error) => {
            child.kill().unwrap();
            panic!("the guest does not run: {error}");
        }
    }
}

fn a_guest_that_repeats_itself() {
    let ended = run(&guests::pvh(guests::PANIC_2000_TIMES), &[]);
    assert_eq!(ended.status, 1);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].contains("starts its crash kernel"), "{lines:#?}");
    assert!(lines[3].contains("2000 times"), "{lines:#?}");
}

/// Ends a machine in the two ways that do not need the guest.
fn ends(start: impl Fn(&[&str]) -> (Child, PipeReader)) {
    let (mut child, _unread) = start(&["--timeout", "2"]);
    assert_eq!(wait_within(&mut child, Duration::from_secs(2) + SOON), 124);
    let (mut child, _unread) = start(&["--timeout", "60"]);
    // Long enough for the guest to start.
    thread::sleep(Duration::from_secs(2));
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert_eq!(wait_within(&mut child, SOON), 130);
}

fn a_log_that_nobody_reads_does_not_keep_it() {
    let (_dir, path) = guest(&guests::pvh(guests::PANIC_FOR_EVER));
    ends(|args| {
        let (reader, stderr) = full_pipe();
        let child = cafevm().args(args).stderr(stderr).arg("--kernel").arg(&path).spawn().unwrap();
        (child, reader)
    });
}

/// With -v there is a line for each disk, with the name of its file: here 19 lines of more than 3,800 bytes, which do
/// not fit into the queue.
fn a_log_that_is_read_late() {
    let (dir, path) = guest(&guests::pvh(guests::READY_AND_SPIN));
    let mut deep = dir.path().to_owned();
    while deep.as_os_str().len() < 3700 {
        deep.push("d".repeat(200));
    }
    create_dir_all(&deep).unwrap();
    let mut command = cafevm();
    command.args(["-v", "--timeout", "60", "--kernel"]).arg(path);
    for n in 0..19 {
        let image = deep.join(format!("{n}.img"));
        File::create(&image).unwrap().set_len(4096).unwrap();
        command.arg("--disk").arg(image);
    }
    let (mut reader, stderr) = full_pipe();
    let mut child = command.stderr(stderr).spawn().unwrap();
    drop(command);
    runs(&mut child);
    let read = thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        log
    });
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert_eq!(wait_within(&mut child, SOON), 130);
    let log = read.join().unwrap();
    let notice = log.lines().find(|line| line.contains("log lines were dropped")).expect(&log);
    assert!(notice.starts_with("cafevm: warning: "), "{notice}");
    // Both are at the end; which one is first depends on how fast the reader is.
    let last: Vec<_> = log.lines().rev().take(2).collect();
    assert!(last.contains(&"cafevm: ended by SIGTERM"), "{log}");
}

fn output_into_a_full_pipe_does_not_keep_it() {
    let (_dir, path) = guest(&guests::pvh(guests::FLOOD));
    ends(|args| {
        let (reader, stdout) = full_pipe();
        let child = cafevm().args(args).stdout(stdout).arg("--kernel").arg(&path).spawn().unwrap();
        (child, reader)
    });
}

/// Runs a guest that ends while nothing reads its output. Returns the log.
fn unread(elf: &[u8], args: &[&str]) -> String {
    let (_dir, path) = guest(elf);
    let (_unread, stdout) = full_pipe();
    let mut command = cafevm();
    command.args(["--timeout", "60", "--kernel"]).arg(path).args(args).stdout(stdout);
    let mut child = command.spawn().unwrap();
    assert_eq!(wait_within(&mut child, 3 * SOON), 1);
    finish(child).stderr
}

fn a_guest_ends_though_nobody_reads() {
    let log = unread(&guests::pvh(guests::PRINT_PVH), &["--cmdline", "hello"]);
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("the last 5 bytes of the guest's output were dropped"), "{log}");
}

fn bytes_written_without_room_are_counted() {
    let log = unread(&guests::pvh(guests::FLOOD_300000), &[]);
    assert_eq!(log.lines().count(), 2, "{log}");
    let left = 256 << 10;
    assert!(log.contains(&format!(" {} bytes ", 300_000 - left)), "{log}");
    assert!(log.contains(&format!("the last {left} bytes ")), "{log}");
}

/// The reader starts when the guest reports that it waits for room.
fn loses_nothing(ready: [u8; 2]) {
    const BLOCKS: usize = 20_000;
    let (_dir, path) = guest(&guests::pvh(&guests::printing(BLOCKS as u32, ready)));
    let (mut reader, stdout) = full_pipe();
    let mut command = cafevm();
    command.args(["--timeout", "60", "--kernel"]).arg(path).stdout(stdout);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("crash kernel"), "{line}");

    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!(wait_within(&mut child, SOON), 3, "it waited");
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    let filled = seen.iter().take_while(|&&byte| byte == b'.').count();
    assert!(seen[filled..] == guests::BLOCK.repeat(BLOCKS), "{} bytes", seen.len() - filled);
}
