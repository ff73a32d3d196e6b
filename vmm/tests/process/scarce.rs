//! Resources that a parent process or the host withholds: a signal, room for a file, descriptors.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Resource, Rlimit, prlimit};
use vmm_sys_util::signal::{SIGRTMIN, block_signal, unblock_signal};

use super::control::{FullHost, Machine, image};
use super::{Test, cafevm, finish, guest, guests, pid, wait_within};

pub(crate) const TESTS: &[Test] = &[
    ("a_signal_that_the_parent_blocks_is_not_missed", a_signal_that_the_parent_blocks),
    ("a_host_without_descriptors_does_not_make_it_spin", a_host_without_descriptors),
];

/// Tests that need a file system of their own, which only root can mount.
pub(crate) const ROOT_TESTS: &[Test] =
    &[("a_full_host_pauses_a_machine_with_svirtb", a_full_host_pauses_a_machine_with_svirtb)];

/// A signal stops the vCPUs, and a process inherits the mask of blocked signals.
fn a_signal_that_the_parent_blocks() {
    let (_dir, elf) = guest(&guests::pvh(guests::READY_AND_SPIN));
    let mut command = cafevm();
    command.args(["--timeout", "1", "--cpus", "2", "--kernel"]).arg(elf);
    let begun = Instant::now();
    block_signal(SIGRTMIN()).unwrap();
    let child = command.spawn();
    unblock_signal(SIGRTMIN()).unwrap();
    let mut child = child.unwrap();
    assert_eq!(wait_within(&mut child, Duration::from_secs(20)), 124);
    assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    let said = finish(child).stderr;
    assert_eq!(said, "cafevm: the guest was stopped after 1 s (--timeout)\n");
}

fn a_host_without_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 4096);
    let mut machine = Machine::start(dir.path(), &path.display().to_string());
    machine.read_to("cafevm> ");
    // The lowest free number serves one more connection; the next one gets none.
    let process = pid(&machine.child);
    let fds = fs::read_dir(format!("/proc/{}/fd", machine.child.id())).unwrap();
    let taken: Vec<u64> =
        fds.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let free = (0..).find(|number| !taken.contains(number)).unwrap();
    let most = Some(free + 1);
    prlimit(Some(process), Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let mut clients: Vec<_> =
        (0..3).map(|_| UnixStream::connect(&machine.socket).unwrap()).collect();
    let before = ticks(machine.child.id());
    thread::sleep(Duration::from_secs(2));
    let used = ticks(machine.child.id()) - before;
    assert!(used < 50, "{used} hundredths of a second of processor time in 2 s");
    // Connected clients get answers, and when one leaves, another one is accepted.
    assert!(!machine.is_paused());
    drop(machine.answers);
    clients.truncate(1);
    let waiting = clients.pop().unwrap();
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (&waiting).write_all(b"{\"status\":{}}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&waiting).read_line(&mut answer).unwrap();
    assert!(answer.contains("virtio0"), "{answer}");
    machine.child.kill().unwrap();
    let said = finish_killed(machine.child);
    assert_eq!(said.matches("cannot accept a connection").count(), 1, "{said}");
}

/// The log of a killed child.
fn finish_killed(child: std::process::Child) -> String {
    String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
}

/// The processor time of a process, in hundredths of a second.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum()
}

/// The guest waits in the doorbell: it must not see an idle ring, nor run before the entry was retried.
fn a_full_host_pauses_a_machine_with_svirtb() {
    let (host, mut machine) = FullHost::with_a_write_that_waits(",bus=svirtb");
    let answer = machine.tell(r#"{"resume":{}}"#);
    assert!(answer.contains("the machine stays paused"), "{answer}");
    machine.wait_for_pause();
    host.make_room();
    assert_eq!(machine.tell(r#"{"resume":{}}"#), r#"{"result":{}}"#);
    machine.read_to("wrote sector 9");
    let said = machine.end();
    assert_eq!(said.matches("the machine is paused (werror=stop)").count(), 2, "{said}");
    assert!(fs::read(&host.image).unwrap()[9 * 512..].starts_with(b"there was room\0"));
}
