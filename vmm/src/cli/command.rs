//! Runs the command that the arguments name, and returns the exit status.

use std::panic;
use std::sync::Arc;

use crate::boot::KernelSource;
use crate::cli::{self, Command, DemoArgs, Instead, RunArgs, explain, new, print};
use crate::config::VmConfig;
use crate::console::{milestones, terminal};
use crate::demo::demo;
use crate::error::Error;
use crate::exit::{self, Verdict};
use crate::log;
use crate::run::signals::Signals;
use crate::run::{Console, run};
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
    match demo(args.kvm) {
        Ok(()) => exit::DONE,
        Err(error) => failed(error),
    }
}

/// Opens the trace and attaches it to the machine's devices.
fn open_trace(trace: &TraceConfig, config: &VmConfig) -> Result<Tracer, TraceError> {
    let kernel = match &config.kernel {
        KernelSource::File(path) => Some(path.as_path()),
        KernelSource::Bytes { .. } => None,
    };
    let tracer = Tracer::open(trace, kernel)?;
    config.tap.attach(Arc::new(tracer.clone()));
    Ok(tracer)
}

fn run_command(args: RunArgs, change: impl FnOnce(&mut VmConfig) -> Result<(), String>) -> u8 {
    log::start(args.verbose);
    let trace = args.trace();
    let (mut config, output, input) = args.into_config();
    if let Err(line) = change(&mut config) {
        log::error_line(line);
        return exit::USAGE;
    }
    let tracer = match trace.map(|trace| open_trace(&trace, &config)).transpose() {
        Ok(tracer) => tracer,
        Err(error) => {
            log::error_line(&error);
            return if error.is_usage() { exit::USAGE } else { exit::FAILED };
        }
    };
    let timeout = config.timeout;
    let report = Signals::catch()
        .map_err(Error::from)
        .and_then(|signals| run(&config, Console { output, input, signals: Some(signals) }));
    if let Some(tracer) = tracer {
        tracer.finish(report.is_ok());
    }
    match report {
        Ok(report) => {
            match &report.verdict {
                Verdict::Crash(crash) => {
                    log::error_line(format_args!(
                        "the guest crashed (vCPU {}): {}",
                        crash.cpu, crash.cause
                    ));
                    log::lines(&crash.registers);
                }
                Verdict::TimedOut => {
                    let seconds = timeout.unwrap_or_default().as_secs_f64();
                    log::line(format_args!("the guest was stopped after {seconds} s (--timeout)"));
                }
                Verdict::Interrupted(signal) => log::line(format_args!("ended by {signal}")),
                Verdict::DebugExit(_) | Verdict::PowerOff | Verdict::Reset | Verdict::Quit => {}
            }
            report.status()
        }
        Err(Error::Config(error)) if error.is_usage() => {
            log::error_line(error);
            exit::USAGE
        }
        Err(error) => failed(error),
    }
}
