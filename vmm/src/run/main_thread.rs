//! The main thread: signals, the console's input, the time limit, the control socket and pauses, until the machine
//! ends.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::doctor::Doctor;
use cafevm_devices::irq::Wake;
use event_manager::{EventOps, Events};

use crate::console::Input;
use crate::console::input::{Feeder, InputSubscriber};
use crate::console::terminal::Terminal;
use crate::control::{ControlSocket, Operator, Seat};
use crate::display::hands::Hands;
use crate::display::screenshot::Screenshots;
use crate::display::typing::{Typist, TypistSubscriber};
use crate::error::HostError;
use crate::exit::Verdict;
use crate::gdb::{self, GdbSocket};
use crate::metrics::{Exporter, MetricsSocket};
use crate::run::signals::{self, Signal, Signals};
use crate::run::start::Running;
use crate::run::{Debugging, footprint};
use crate::runtime::event_loop::{AtExit, EventLoop, Subscriber, watch};
use crate::runtime::listener::Listener;
use crate::runtime::messages::{Answer, Done, Job, Ticket};
use crate::runtime::pausing::Pausing;
use crate::runtime::timer::Timer;
use crate::threads::ending::Ending;
use crate::threads::gate::Gate;
use crate::threads::mailbox::{Inbox, Outbox, mailbox};
use crate::threads::wake::WakeFd;
use crate::waiting::watch::StallWatch;
use crate::waiting::{self, Explain};

/// The parts that the main thread works with, beside the running machine.
pub(crate) struct MainThread<'a> {
    pub(crate) running: &'a Running,
    pub(crate) input: Input,
    /// The bytes that the guest gets after the end of its input.
    pub(crate) end_of_input: &'static [u8],
    pub(crate) signals: Option<&'a Signals>,
    pub(crate) control: Option<Listener>,
    pub(crate) metrics: Option<Listener>,
    pub(crate) gdb: Option<Debugging>,
    pub(crate) timeout: Option<Duration>,
    /// Reports stalls after this time.
    pub(crate) doctor: Option<(Arc<Doctor>, Duration)>,
    /// Jobs for the I/O thread, and their results.
    pub(crate) jobs: Outbox<Job>,
    pub(crate) results: Inbox<Done>,
}

impl MainThread<'_> {
    /// Runs the loop until the machine ends; [`Ending`] then has the reason.
    ///
    /// # Errors
    ///
    /// The resource that the host does not provide.
    pub(crate) fn until_the_end(self) -> Result<(), HostError> {
        let Self {
            running,
            input,
            end_of_input,
            signals,
            control,
            metrics,
            timeout,
            doctor,
            jobs,
            results,
            gdb,
        } = self;
        let Running { ending, gate, devices, serial, drained, examiner, .. } = running;
        let explain: Explain<'_> = Rc::new(|| examiner.examine(|| running.kick()));
        let (to_client, answers) = mailbox()?;
        let kick = Box::new(|| running.kick());
        let pausing = Pausing::new(gate.clone(), kick, jobs.clone(), to_client.clone());
        let pausing = Rc::new(RefCell::new(pausing));
        let feeder = Feeder::new(input, end_of_input);
        let terminal = feeder.terminal();

        let mut events: EventLoop<dyn Subscriber + '_> = EventLoop::new()?;
        events.add(Box::new(AtExit(ending.clone())))?;
        if let Some(timeout) = timeout {
            let timer = Timer::new()?;
            events.add(Box::new(TimeLimit { timer, timeout, ending: ending.clone() }))?;
        }
        if let Some(doctor) = doctor {
            let is_held = || {
                gate.is_closed()
                    || devices.is_delaying()
                    || running.debugger.as_ref().is_some_and(|debugger| debugger.holds())
            };
            let stalls =
                StallWatch::new(doctor, examiner.clone(), explain.clone(), Box::new(is_held))?;
            events.add(Box::new(stalls))?;
        }
        if let Some(signals) = signals {
            let (ending, look, explain) = (ending.clone(), drained.clone(), explain.clone());
            let subscriber = SignalSubscriber { signals, terminal, ending, look, explain };
            events.add(Box::new(subscriber))?;
        }
        let (ending, look) = (ending.clone(), drained.clone());
        let input =
            InputSubscriber::new(feeder, serial.clone(), look, ending.clone(), explain.clone())?;
        events.add(Box::new(input))?;
        if let Some(Debugging { listener, address, program, debugger }) = gdb {
            let machine = gdb::Machine {
                debugger,
                ram: running.ram.clone(),
                ending: running.ending.clone(),
                gate: gate.clone(),
                explain: explain.clone(),
                kick: Box::new(|| running.kick()),
            };
            events.add(Box::new(GdbSocket::new((listener, address), program, machine)?))?;
        }
        if let Some(listener) = control {
            let hands = Hands::of(&devices.peripherals.inputs);
            let typist = Rc::new(RefCell::new(Typist::new(hands.clone(), to_client.clone())?));
            events.add(Box::new(TypistSubscriber(typist.clone())))?;
            let screen = devices.peripherals.display.as_ref().map(|display| display.screen());
            let screen = screen.map(|screen| {
                let (answers, roll) = (to_client.clone(), running.roll.clone());
                (screen.clone(), Screenshots::new(screen, answers, roll))
            });
            let seat = Seat { screen, hands, typist };
            let (devices, pausing, ending) = (devices.clone(), pausing.clone(), ending.clone());
            let operator =
                Operator::new(devices, jobs, pausing, ending, explain, to_client.clone(), seat);
            events.add(Box::new(ControlSocket::new(listener, operator, answers)?))?;
        }
        if let Some(listener) = metrics {
            let exits = running.threads.iter().map(|(_, vcpu)| vcpu.exits().clone()).collect();
            let exporter = Exporter::new(running.devices.clone(), exits);
            events.add(Box::new(MetricsSocket::new(listener, exporter)?))?;
        }
        let (gate, ending) = (gate.clone(), ending.clone());
        events.add(Box::new(PauseSubscriber {
            gate,
            ending,
            pausing,
            results,
            answers: to_client,
        }))?;
        footprint::drop_pages_of_the_start();
        events.run(&running.ending)
    }
}

/// Ends the machine when the time limit passes.
struct TimeLimit {
    timer: Timer,
    timeout: Duration,
    ending: Arc<Ending>,
}

impl Subscriber for TimeLimit {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.timer.set(Some(self.timeout))?;
        watch(ops, &self.timer)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        self.timer.set(None)?;
        self.ending.end(Verdict::TimedOut);
        Ok(())
    }
}

/// Carries out signals.
struct SignalSubscriber<'a> {
    signals: &'a Signals,
    terminal: Option<Rc<Terminal>>,
    ending: Arc<Ending>,
    /// Makes the console check whether it is in the terminal's foreground.
    look: Arc<WakeFd>,
    explain: Explain<'a>,
}

impl Subscriber for SignalSubscriber<'_> {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.signals.streams().try_for_each(|stream| watch(ops, stream))
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        for signal in self.signals.received() {
            match signal {
                Signal::Explain => waiting::log(&(self.explain)()),
                Signal::End(signal) => self.ending.end(Verdict::Interrupted(signal)),
                Signal::Pause => {
                    if let Some(terminal) = &self.terminal {
                        terminal.leave();
                    }
                    if let Err(error) = signals::pause() {
                        tracing::warn!(
                            "cannot stop the process after SIGTSTP: {error}; it continues"
                        );
                    }
                }
                Signal::Resumed => {
                    // Another process may have used the terminal meanwhile, and changed its settings.
                    if let Some(terminal) = &self.terminal {
                        terminal.enter();
                    }
                    self.look.wake();
                }
            }
        }
        Ok(())
    }
}

/// Passes events to the pause logic: vCPUs that park, full disks, and results of jobs.
struct PauseSubscriber<'a> {
    gate: Arc<Gate>,
    ending: Arc<Ending>,
    pausing: Rc<RefCell<Pausing<'a>>>,
    results: Inbox<Done>,
    answers: Outbox<(Ticket, Answer)>,
}

impl Subscriber for PauseSubscriber<'_> {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.gate.all_parked)?;
        watch(ops, &self.gate.full)?;
        watch(ops, &self.results)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        // A machine that has ended is not paused; nothing is logged about it.
        if self.ending.requested() {
            return Ok(());
        }
        let mut pausing = self.pausing.borrow_mut();
        if self.gate.full.clear() {
            pausing.full();
        }
        if self.gate.all_parked.clear() {
            pausing.parked();
        }
        for done in self.results.take() {
            match done {
                Done::Answered { ticket, answer } => self.answers.send((ticket, answer)),
                Done::Quiesced(result) => pausing.quiesced(result),
                Done::Released(result) => pausing.released(result),
            }
        }
        Ok(())
    }
}
