//! The command line: flags, their values, and the commands.
//!
//! | question | file |
//! |---|---|
//! | From the arguments to the exit status | `command.rs` |
//! | The value of `--disk` | `spec.rs` |
//! | The value of `--virtio-mmio` | `bank.rs` |
//! | `--rng`, `--input` and `--gpu` | `others.rs` |
//! | The line for wrong usage | `usage.rs` |
//! | The explanation of a rule | `explain.rs` |
//! | A kernel to start from | `new.rs` |
//! | Help, completions and the man page on standard output | `print.rs` |

pub mod bank;
pub mod command;
mod explain;
mod new;
pub mod others;
mod print;
pub mod spec;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use cafevm_devices::virtio::mmio::Policy;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::boot::KernelSource;
use crate::cli::others::Others;
use crate::config::address::ListenAddress;
use crate::config::{DiskConfig, KVM, VirtioBank, VmConfig, display};
use crate::console::{Input, Output};
use crate::doctor::DoctorConfig;
use crate::nearest::do_you_mean;
use crate::size;
use crate::trace::{Format, Kinds, TraceConfig};

/// The version, and the commit where the build knows it.
const VERSION: &str = env!("CAFEVM_VERSION");

/// A small KVM virtual machine monitor, built around a disk.
#[derive(Debug, Parser)]
#[command(name = "cafevm", version = VERSION, max_term_width = 100)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of cafevm.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a guest with disks.
    Run(Box<RunArgs>),
    /// Run the built-in guest with two scratch images, and show each register access and request.
    Demo(DemoArgs),
    /// Write a small kernel in C, with a driver for virtio and one for svirtb, to start from.
    New {
        /// A new or empty directory
        dir: PathBuf,
    },
    /// Explain a rule that a driver broke, with wrong and correct code; without RULE, list all rules.
    Explain {
        /// The id of a rule, a part of its text, or a line of the log
        rule: Vec<String>,
        /// Write all rules as a document
        #[arg(long, hide = true)]
        markdown: bool,
    },
    /// Write completions for a shell to standard output.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man page to standard output.
    Man {
        /// The command to describe [default: cafevm itself]
        #[arg(value_parser = ["run", "demo", "new", "explain", "completions", "man"])]
        command: Option<String>,
    },
}

/// The flags of `cafevm demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Show the guest's console on the display of a GPU, too, and write what is there at the end to FILE, as PNG
    #[arg(long, value_name = "FILE")]
    pub screenshot: Option<PathBuf>,

    /// Show it to VNC viewers on this host. The guest then waits at its prompt until 'exit' is typed there
    #[arg(long, value_name = "vnc=[HOST:]PORT|vnc=unix:PATH", value_parser = display::parse)]
    pub display: Option<ListenAddress>,

    /// The device file of KVM
    #[arg(long, value_name = "DEVICE", default_value = KVM)]
    pub kvm: PathBuf,
}

const DISK: &str = "\
A disk; may be given several times. The path of a raw image, or
path=FILE[,bus=virtio|svirtb][,readonly=on|off][,snapshot=on|off]
[,format=raw|qcow2][,backing=refuse|allow][,overlay=FILE]
[,cache=writeback|writethrough|none|unsafe][,engine=sync|mmap|uring|auto]
[,werror=report|stop][,bps=SIZE[,bps-burst=SIZE]][,iops=N[,iops-burst=N]],
and for virtio [,id=TEXT][,queues=N][,queue-size=N][,block-size=512|4096]
[,doorbell=auto|vcpu|thread|spin],
for svirtb [,entry-size=auto|32|28]. FILE may be nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH
(nbds: with TLS), with [,reconnect=SECONDS][,connections=N][,tls-ca=FILE][,tls-cert=FILE,tls-key=FILE]. 'ro' is short for readonly=on. Write a comma in a path as ',,'";

const VIRTIO_MMIO: &str = "\
The virtio slots: version=modern|legacy, base=ADDR, stride=BYTES, slots=N
[default: version=modern,base=0xfeb00000,stride=0x200,slots=32]";

const STATUS: &str = "\
Exit status:
  odd   the guest wrote CODE to port 0xf4 (debug exit): the status is (CODE << 1) | 1
  0     the guest powered off or reset itself, or you ended it with Ctrl-A X
  2     wrong usage
  4     the host or the configuration failed
  6     the guest crashed (the reason and its registers are on standard error)
  8     --doctor=deny: the driver broke a rule
  124   the time limit of --timeout passed
  130   a signal ended cafevm

On a terminal: Ctrl-A X ends cafevm, Ctrl-A D explains what the guest waits for, Ctrl-A H lists the keys, Ctrl-A Ctrl-A sends Ctrl-A.";

/// The flags of `cafevm run`.
#[derive(Debug, Args)]
#[command(after_help = STATUS)]
pub struct RunArgs {
    /// The kernel: a Linux bzImage, or an ELF file for x86 with a PVH note or a 64-bit entry [default: the built-in block shell]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// The kernel, as with --kernel
    #[arg(value_name = "KERNEL", conflicts_with = "kernel")]
    pub positional_kernel: Option<PathBuf>,

    /// An initial RAM disk for the kernel
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// The kernel's command line. cafevm appends the address of each virtio device; for Linux it adds console=ttyS0
    /// and panic=-1, unless there is a console= or panic=
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_parser = OsStringValueParser::new().try_map(command_line)
    )]
    pub cmdline: String,

    /// The disks.
    #[arg(long = "disk", value_name = "SPEC", value_parser = OsStringValueParser::new().try_map(spec::parse), help = DISK)]
    pub disks: Vec<DiskConfig>,

    /// The other virtio devices.
    #[command(flatten)]
    pub others: Others,

    /// The virtio slots.
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = bank::parse, help = VIRTIO_MMIO)]
    pub virtio_mmio: Option<VirtioBank>,

    /// Refuse every mistake of a virtio driver. Without this flag, tolerable mistakes are logged and tolerated
    #[arg(long)]
    pub strict: bool,

    /// Serve the screen by VNC to this host: at a TCP port of a loopback address, or at a Unix socket. Adds --gpu, and
    /// --input keyboard and --input tablet, where there is no --gpu, or no --input
    #[arg(long, value_name = "vnc=[HOST:]PORT|vnc=unix:PATH", value_parser = display::parse)]
    pub display: Option<ListenAddress>,

    /// Create a socket for control messages in JSON: status, explain, pause, resume, resize, limit, quit, screenshot, keys,
    /// type, pointer
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// The guest's RAM, with K, M, G or T: 64M is 64 MiB
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size::parse, allow_hyphen_values = true)]
    pub memory: u64,

    /// The number of vCPUs
    #[arg(long, value_name = "N", default_value = "1", value_parser = cpus, allow_hyphen_values = true)]
    pub cpus: u32,

    /// Where the output of the serial console goes: stdio, null, or a file, to which it is appended; './null' is a file
    #[arg(long, value_name = "stdio|null|FILE", default_value = "stdio")]
    pub serial: PathBuf,

    /// Stop the guest after this time
    #[arg(long, value_name = "SECONDS", value_parser = timeout, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,

    /// Write a trace of the devices: bus (register accesses), ring (queues, ring entries, descriptors), block (requests),
    /// irq, or all; several with commas
    #[arg(long, value_name = "KINDS", value_parser = kinds)]
    pub trace: Option<Kinds>,

    /// Write the trace to this file; without --trace, all kinds [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub trace_file: Option<PathBuf>,

    /// The format of the trace
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub trace_format: Format,

    /// Report the driver's mistakes as they happen, each once, with the place in the guest's code. With =deny, an error
    /// or a warning makes the exit status 8. Each read of a register is an exit then, so the guest is slower
    #[arg(long, value_name = "deny", num_args = 0..=1, require_equals = true, default_missing_value = "report", value_parser = doctor)]
    pub doctor: Option<bool>,

    /// Write the findings to this file as JSON, an object a line; implies --doctor
    #[arg(long, value_name = "FILE")]
    pub doctor_json: Option<PathBuf>,

    /// With --doctor: explain what the guest waits for after this time without progress
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = timeout, allow_hyphen_values = true)]
    pub stall: Duration,

    /// An ELF file with the guest's symbols, for --trace, --doctor and explanations [default: the kernel]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,

    /// Wait for gdb at this TCP port or Unix socket before the guest starts. With --doctor, a finding stops the guest
    #[arg(long, value_name = "[HOST:]PORT|unix:PATH", value_parser = ListenAddress::parse)]
    pub gdb: Option<ListenAddress>,

    /// Serve metrics for Prometheus over HTTP at this TCP port or Unix socket: requests, bytes, errors and latencies of
    /// each disk, and exits (GET /metrics)
    #[arg(long, value_name = "[HOST:]PORT|unix:PATH", value_parser = ListenAddress::parse)]
    pub metrics: Option<ListenAddress>,

    /// The device file of KVM
    #[arg(long, value_name = "DEVICE", default_value = KVM)]
    pub kvm: PathBuf,

    /// Log the parts of the machine and the number of exits; twice: also debug messages
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl RunArgs {
    /// The trace that the flags ask for.
    pub fn trace(&self) -> Option<TraceConfig> {
        let kinds = self.trace.or(self.trace_file.as_ref().map(|_| Kinds::ALL))?;
        let (file, symbols) = (self.trace_file.clone(), self.symbols.clone());
        Some(TraceConfig { kinds, file, format: self.trace_format, symbols })
    }

    /// The doctor that the flags ask for.
    pub fn doctor(&self) -> Option<DoctorConfig> {
        let wanted = self.doctor.is_some() || self.doctor_json.is_some();
        let (json, symbols) = (self.doctor_json.clone(), self.symbols.clone());
        wanted.then_some(DoctorConfig { json, symbols })
    }

    /// The machine that the flags describe, and the two ends of its console.
    pub fn into_config(self) -> (VmConfig, Output, Input) {
        let kernel = self
            .kernel
            .or(self.positional_kernel)
            .map_or_else(KernelSource::built_in, KernelSource::File);
        let policy = if self.strict { Policy::Strict } else { Policy::Lenient };
        let config = VmConfig {
            virtio: VirtioBank { policy, ..self.virtio_mmio.unwrap_or_default() },
            control: self.control,
            initrd: self.initrd,
            command_line: self.cmdline,
            disks: self.disks,
            others: self.others.seen_by(self.display.as_ref()),
            display: self.display,
            memory: self.memory,
            cpus: self.cpus,
            timeout: self.timeout,
            kvm: self.kvm,
            symbols: self.symbols,
            stall: self.stall,
            gdb: self.gdb,
            metrics: self.metrics,
            ..VmConfig::new(kernel)
        };
        let serial_is = |word| self.serial.as_os_str().eq_ignore_ascii_case(word);
        let (output, input) = if serial_is("stdio") {
            (Output::Stdout, Input::Stdin)
        } else if serial_is("null") {
            (Output::Null, Input::None)
        } else {
            (Output::File(self.serial), Input::None)
        };
        (config, output, input)
    }
}

fn command_line(text: OsString) -> Result<String, &'static str> {
    text.into_string().map_err(|_| "it is not UTF-8; give UTF-8")
}

fn kinds(text: &str) -> Result<Kinds, String> {
    let parse = |name| {
        Kinds::named(name).ok_or_else(|| {
            let hint = do_you_mean(name, Kinds::NAMES);
            let name = name.escape_debug();
            format!("unknown kind '{name}'{hint}; the kinds are {}", Kinds::NAMES.join(", "))
        })
    };
    let (first, others) = text.split_once(',').map_or((text, None), |(a, b)| (a, Some(b)));
    let first = parse(first)?;
    others.map_or(Ok(first), |others| Ok(first.and(kinds(others)?)))
}

/// Whether findings are denied.
fn doctor(text: &str) -> Result<bool, &'static str> {
    match text {
        "report" => Ok(false),
        "deny" => Ok(true),
        _ => Err("give --doctor or --doctor=deny"),
    }
}

fn cpus(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("a machine needs at least 1 vCPU".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("give a whole number, 1 or more".to_owned()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number of seconds greater than 0, such as 10 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    let timeout = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if timeout.is_zero() { Err(wrong()) } else { Ok(timeout) }
}

/// A text to print instead of running a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// The help or the version, as requested: for standard output, with status 0.
    Help(String),
    /// The help, because the command is missing: for standard error.
    NoCommand(String),
    /// One line about wrong usage: for standard error.
    Usage(String),
}

/// Reads the command line; `args` begin with the program's name.
///
/// # Errors
///
/// The text to print instead.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Instead> {
    let args: Vec<_> = args.into_iter().collect();
    Cli::try_parse_from(&args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Instead::Help(error.to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Instead::NoCommand(error.to_string())
        }
        _ => Instead::Usage(usage::line(&error, &args)),
    })
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
