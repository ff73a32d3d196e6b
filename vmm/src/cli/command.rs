//! Runs the command that the arguments name, and returns the exit status.

use std::panic;
use std::sync::Arc;

use cafevm_devices::catalogue;

use crate::cli::{self, Command, DemoArgs, Instead, RunArgs, explain, new, print};
use crate::config::VmConfig;
use crate::console::{milestones, terminal};
use crate::demo::demo;
use crate::doctor::{DoctorConfig, Reports};
use crate::error::Error;
use crate::exit::{self, Verdict};
use crate::log;
use crate::run::signals::Signals;
use crate::run::{Console, RunReport, run};
use crate::trace::{TraceConfig, TraceError, Tracer};

/// Runs the command that the process's arguments name. Returns the exit status.
pub fn main() -> u8 {
    main_with(|_| Ok(()))
}

/// Like [`main`], but passes the machine to `change` before it starts. An error of `change` is logged, and no machine
/// starts. For test programs.
pub fn main_with(change: impl FnOnce(&mut VmConfig) -> Result<(), String>) -> u8 {
    milestones::begin();
    let status = execute(change);
    log::flush();
    status
}

fn execute(change: impl FnOnce(&mut VmConfig) -> Result<(), String>) -> u8 {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Instead::Help(text)) => return print(text.as_bytes()),
        Err(Instead::NoCommand(help)) => {
            log::lines(help.trim_end());
            return exit::USAGE;
        }
        Err(Instead::Usage(line)) => {
            log::error_line(line);
            return exit::USAGE;
        }
    };
    end_on_panic();
    match cli.command {
        Command::Run(args) => run_command(*args, change),
        Command::Demo(args) => demo_command(args),
        Command::New { dir } => match new::write(&dir) {
            Ok(text) => print(text.as_bytes()),
            Err(error) => failed(error),
        },
        Command::Explain { markdown: true, .. } => print(explain::document().as_bytes()),
        Command::Explain { rule, .. } => match explain::explain(&rule) {
            Ok(text) => print(text.as_bytes()),
            Err(error) => {
                log::error_line(error);
                exit::USAGE
            }
        },
        Command::Completions { shell } => print(&print::completions(shell)),
        Command::Man { command } => match print::man(command.as_deref()) {
            Ok(page) => print(&page),
            Err(error) => failed(error),
        },
    }
}

fn print(text: &[u8]) -> u8 {
    match print::print(text) {
        Ok(()) => exit::DONE,
        Err(error) => failed(error),
    }
}

fn failed(error: impl std::fmt::Display) -> u8 {
    log::error_line(error);
    exit::FAILED
}

/// Makes a panic in any thread, which is a bug of cafevm, restore the terminal and exit with an even status. Rust's own
/// status, 101, is odd, and odd statuses belong to the guest.
pub fn end_on_panic() {
    panic::set_hook(Box::new(|info| {
        terminal::restore();
        let place =
            info.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("no reason given");
        log::last_line(format_args!("a bug in cafevm: {what}{place}; please report it"));
        std::process::exit(i32::from(exit::FAILED));
    }));
}

fn demo_command(args: DemoArgs) -> u8 {
    log::start(0);
    match demo(args.kvm, args.screenshot.as_deref(), args.display) {
        Ok(()) => exit::DONE,
        Err(error) => failed(error),
    }
}

/// Opens the trace and attaches it to the machine's devices.
fn open_trace(trace: &TraceConfig, config: &VmConfig) -> Result<Tracer, TraceError> {
    let tracer = Tracer::open(trace, config.kernel_file())?;
    config.tap.attach(Arc::new(tracer.clone()));
    Ok(tracer)
}

/// Opens the doctor and attaches it to the machine's devices.
fn open_doctor(doctor: &DoctorConfig, config: &mut VmConfig) -> Result<Arc<Reports>, TraceError> {
    let reports = Arc::new(Reports::open(doctor, config.kernel_file())?);
    config.tap.attach_reporter_of_rules(reports.doctor());
    config.doctor = Some(reports.doctor());
    Ok(reports)
}

/// The observers of a run.
struct Observers {
    tracer: Option<Tracer>,
    doctor: Option<Arc<Reports>>,
}

impl Observers {
    fn open(
        trace: Option<TraceConfig>,
        doctor: Option<DoctorConfig>,
        config: &mut VmConfig,
    ) -> Result<Self, TraceError> {
        let tracer = trace.map(|trace| open_trace(&trace, config)).transpose()?;
        let doctor = doctor.map(|doctor| open_doctor(&doctor, config)).transpose();
        if let (Err(_), Some(tracer)) = (&doctor, &tracer) {
            tracer.finish(false);
        }
        Ok(Self { tracer, doctor: doctor? })
    }

    /// Ends the files, and logs what was found. Returns whether the driver made mistakes, as far as that is known.
    fn finish(&self, ran: bool, config: &VmConfig) -> bool {
        if let Some(tracer) = &self.tracer {
            tracer.finish(ran);
        }
        if let Some(doctor) = &self.doctor {
            return doctor.finish(ran);
        }
        let rules = config.tap.broken_rules();
        let ids: Vec<_> =
            rules.into_iter().filter_map(catalogue::find).map(|rule| rule.id).collect();
        if !ids.is_empty() {
            log::line(format_args!(
                "mistakes were found: {}; see 'cafevm explain ID', or run with --doctor",
                ids.join(", ")
            ));
        }
        false
    }
}

fn run_command(args: RunArgs, change: impl FnOnce(&mut VmConfig) -> Result<(), String>) -> u8 {
    log::start(args.verbose);
    let (trace, doctor, denies) = (args.trace(), args.doctor(), args.doctor == Some(true));
    let (mut config, output, input) = args.into_config();
    if let Err(line) = change(&mut config) {
        log::error_line(line);
        return exit::USAGE;
    }
    let observers = match Observers::open(trace, doctor, &mut config) {
        Ok(observers) => observers,
        Err(error) => {
            log::error_line(&error);
            return if error.is_usage() { exit::USAGE } else { exit::FAILED };
        }
    };
    let report = Signals::catch()
        .map_err(Error::from)
        .and_then(|signals| run(&config, Console { output, input, signals: Some(signals) }));
    if let Ok(report) = &report {
        report_end(report, &config);
    }
    let found = observers.finish(report.is_ok(), &config);
    match report {
        Ok(_) if found && denies => exit::DENIED,
        Ok(report) => report.status(),
        Err(Error::Config(error)) if error.is_usage() => {
            log::error_line(error);
            exit::USAGE
        }
        Err(error) => failed(error),
    }
}

/// Logs how the machine ended, unless the guest ended it.
fn report_end(report: &RunReport, config: &VmConfig) {
    match &report.verdict {
        Verdict::Crash(crash) => {
            log::error_line(format_args!(
                "the guest crashed (vCPU {}): {}",
                crash.cpu, crash.cause
            ));
            report.hints.iter().for_each(log::line);
            log::lines(&crash.registers);
        }
        Verdict::TimedOut => {
            let seconds = config.timeout.unwrap_or_default().as_secs_f64();
            log::line(format_args!("the guest was stopped after {seconds} s (--timeout)"));
        }
        Verdict::Interrupted(signal) => log::line(format_args!("ended by {signal}")),
        Verdict::DebugExit(_) | Verdict::PowerOff | Verdict::Reset | Verdict::Quit => {}
    }
    // An idle guest that the user ends has nothing outstanding; one that ran out of time may wait for what it missed.
    if let Some(waited) = &report.waited
        && (waited.is_outstanding || waited.is_used && report.verdict == Verdict::TimedOut)
    {
        log::line(format_args!("what the guest waited for:\n{waited}"));
    }
}
