use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use cafevm_devices::block::FullAlarm;

use super::*;
use crate::threads::gate::Admitted;
use crate::threads::mailbox::{Inbox, mailbox};

/// A machine in which the test acts as the I/O thread and as the vCPU.
struct Scene {
    pausing: Pausing<'static>,
    gate: Arc<Gate>,
    kicks: Rc<Cell<u32>>,
    jobs: Inbox<Job>,
    answers: Inbox<(Ticket, Answer)>,
    vcpu: Option<Admitted>,
}

impl Scene {
    fn new() -> Self {
        let gate = Arc::new(Gate::new().unwrap());
        let kicks = Rc::new(Cell::new(0));
        let counted = kicks.clone();
        let (to_jobs, jobs) = mailbox().unwrap();
        let (to_answers, answers) = mailbox().unwrap();
        let kick = Box::new(move || counted.set(counted.get() + 1));
        let vcpu = Some(gate.admit());
        let pausing = Pausing::new(gate.clone(), kick, to_jobs, to_answers);
        Self { pausing, gate, kicks, jobs, answers, vcpu }
    }

    /// The vCPU parks at the gate until the thread is joined.
    fn park(&mut self) -> JoinHandle<Admitted> {
        let vcpu = self.vcpu.take().unwrap();
        let thread = thread::spawn(move || {
            vcpu.pass();
            vcpu
        });
        while !self.gate.is_all_parked() {
            thread::yield_now();
        }
        self.pausing.parked();
        thread
    }

    fn returns(&mut self, thread: JoinHandle<Admitted>) {
        self.vcpu = Some(thread.join().unwrap());
    }

    fn state(&self) -> &'static str {
        self.pausing.status().0
    }

    fn jobs(&self) -> Vec<Job> {
        self.jobs.take().collect()
    }

    /// The ticket's number of each answer, and whether it is a success.
    fn answers(&self) -> Vec<(u64, bool)> {
        self.answers.take().map(|(ticket, answer)| (ticket.0, answer.is_ok())).collect()
    }

    fn is_full(&mut self) {
        self.gate.raise("d.img", &io::ErrorKind::StorageFull.into());
        self.pausing.full();
    }
}

fn full() -> Full {
    Full { disk: "d.img".into(), error: "no room".into() }
}

#[test]
fn a_pause_is_answered_when_no_vcpu_runs_and_nothing_is_in_flight() {
    let mut scene = Scene::new();
    assert_eq!(scene.state(), "running");
    scene.pausing.pause(Ticket(1));
    scene.pausing.parked(); // Not yet.
    assert_eq!((scene.state(), scene.kicks.get(), scene.jobs()), ("pausing", 1, vec![]));
    let vcpu = scene.park();
    assert_eq!((scene.state(), scene.jobs()), ("pausing", vec![Job::Quiesce]));
    assert_eq!(scene.answers(), []);
    scene.pausing.quiesced(Ok(()));
    assert_eq!((scene.state(), scene.answers()), ("paused", vec![(1, true)]));
    // A second time has no effect.
    scene.pausing.pause(Ticket(2));
    assert_eq!((scene.answers(), scene.jobs()), (vec![(2, true)], vec![]));

    scene.pausing.resume(Ticket(3));
    assert_eq!((scene.state(), scene.jobs()), ("resuming", vec![Job::Release]));
    assert!(scene.gate.is_all_parked() && scene.answers().is_empty());
    scene.pausing.released(Ok(()));
    assert_eq!((scene.state(), scene.answers()), ("running", vec![(3, true)]));
    scene.returns(vcpu);
    scene.pausing.resume(Ticket(4));
    assert_eq!((scene.answers(), scene.jobs()), (vec![(4, true)], vec![]));
}

#[test]
fn what_the_host_does_not_finish_is_an_error_and_the_pause_is_still_to_come() {
    let mut scene = Scene::new();
    scene.pausing.pause(Ticket(1));
    let vcpu = scene.park();
    scene.pausing.quiesced(Err("d.img: the host has not finished".into()));
    assert_eq!((scene.state(), scene.answers()), ("pausing", vec![(1, false)]));
    scene.pausing.quiesced(Ok(()));
    assert_eq!((scene.state(), scene.answers()), ("paused", vec![]));
    scene.gate.end();
    scene.returns(vcpu);
}

#[test]
fn a_resume_ends_a_pause_at_any_moment() {
    let mut scene = Scene::new();
    // vCPUs are parking.
    scene.pausing.pause(Ticket(1));
    scene.pausing.resume(Ticket(2));
    assert_eq!((scene.state(), scene.answers()), ("running", vec![(1, false), (2, true)]));
    assert_eq!(scene.jobs(), []);
    // The disks become idle.
    scene.pausing.pause(Ticket(3));
    let vcpu = scene.park();
    scene.pausing.resume(Ticket(4));
    assert_eq!((scene.jobs(), scene.answers()), (vec![Job::Quiesce], vec![(3, false)]));
    scene.pausing.quiesced(Ok(()));
    assert_eq!((scene.jobs(), scene.state()), (vec![Job::Release], "resuming"));
    // Another pause, before the machine runs.
    scene.pausing.pause(Ticket(5));
    scene.pausing.released(Ok(()));
    assert_eq!((scene.state(), scene.answers()), ("pausing", vec![(4, false)]));
    assert!(scene.gate.is_all_parked(), "no vCPU ran meanwhile");
    scene.pausing.quiesced(Ok(()));
    assert_eq!((scene.state(), scene.answers()), ("paused", vec![(5, true)]));
    // The disks are stuck.
    scene.pausing.resume(Ticket(6));
    scene.pausing.released(Ok(()));
    scene.returns(vcpu);
    scene.pausing.pause(Ticket(7));
    let vcpu = scene.park();
    scene.pausing.quiesced(Err("stuck".into()));
    scene.pausing.resume(Ticket(8));
    assert_eq!(scene.state(), "resuming");
    scene.pausing.released(Ok(()));
    assert_eq!(scene.answers(), [(6, true), (7, false), (8, true)]);
    scene.returns(vcpu);
}

#[test]
fn a_full_disk_pauses_the_machine_until_there_is_room() {
    let mut scene = Scene::new();
    scene.is_full();
    scene.pausing.full(); // A full disk signals several times.
    assert_eq!((scene.state(), scene.kicks.get()), ("pausing", 1));
    assert!(scene.pausing.status().1.unwrap().starts_with("d.img: "));
    let vcpu = scene.park();
    scene.pausing.quiesced(Ok(()));
    assert_eq!(scene.state(), "paused");
    // Still no room.
    scene.pausing.resume(Ticket(1));
    scene.pausing.released(Err(full()));
    assert_eq!((scene.state(), scene.answers()), ("pausing", vec![(1, false)]));
    scene.pausing.quiesced(Ok(()));
    assert_eq!(scene.state(), "paused");
    assert_eq!(scene.pausing.status().1.unwrap(), "d.img: no room");
    // A disk becomes full after its retry, before the guest continues.
    scene.pausing.resume(Ticket(2));
    scene.pausing.full();
    scene.pausing.released(Ok(()));
    assert_eq!((scene.state(), scene.answers()), ("pausing", vec![(2, false)]));
    scene.pausing.quiesced(Ok(()));
    // Now there is room.
    scene.pausing.resume(Ticket(3));
    scene.gate.forget_full();
    scene.pausing.released(Ok(()));
    assert_eq!((scene.pausing.status(), scene.answers()), (("running", None), vec![(3, true)]));
    scene.returns(vcpu);
}

#[test]
fn a_resume_while_a_full_disk_stops_the_machine_waits_for_the_vcpus() {
    let mut scene = Scene::new();
    scene.is_full();
    scene.pausing.resume(Ticket(1));
    assert_eq!((scene.state(), scene.answers()), ("pausing", vec![]));
    let vcpu = scene.park();
    assert_eq!((scene.state(), scene.jobs()), ("resuming", vec![Job::Release]));
    scene.gate.forget_full();
    scene.pausing.released(Ok(()));
    assert_eq!((scene.state(), scene.answers()), ("running", vec![(1, true)]));
    scene.returns(vcpu);
}
