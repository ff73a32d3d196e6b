//! The virtual machine monitor around the devices of `cafevm_devices`.
//!
//! ```text
//!  arguments ──▶ cli ──▶ VmConfig ──▶ run::run ──▶ RunReport ──▶ exit status
//!                                        │
//!        check, read, plan (boot) ───────┤ before the host is asked for anything
//!        images opened and locked ───────┤
//!        KVM opened ─────────────────────┤
//!        machine: memory, interrupts, vCPUs, devices
//!                                        │
//!        a thread a vCPU: vcpu ──exit──▶ dispatch ──▶ Buses ──▶ devices
//!        the main thread: run ── input, signals, time limit, control socket
//!        the I/O thread: runtime ── what a doorbell left, what the host finishes later
//! ```
//!
//! To run a machine from a program (a test, a demonstration), make a [`config::VmConfig`], a [`run::Console`],
//! and call [`run::run`]:
//!
//! ```no_run
//! use cafevm::boot::KernelSource;
//! use cafevm::config::{DiskConfig, VmConfig};
//! use cafevm::console::{Input, Output};
//! use cafevm::run::{Console, run};
//!
//! # fn main() -> Result<(), cafevm::error::Error> {
//! let config = VmConfig {
//!     command_line: "sh=\"read 0; exit\"".to_owned(),
//!     disks: vec![DiskConfig::new("d.img")],
//!     ..VmConfig::new(KernelSource::built_in())
//! };
//! let console = Console { output: Output::Stdout, input: Input::None, signals: None };
//! println!("{:?}", run(&config, console)?.verdict);
//! # Ok(())
//! # }
//! ```
//!
//! # Which file do I open?
//!
//! | question | room |
//! |---|---|
//! | Which flags are there, what does SPEC mean, what is the exit status? | `cli/`, `exit.rs` |
//! | What is a machine to be, and what can no machine be? | `config/` |
//! | How is a kernel understood, loaded and started? | `boot/` |
//! | What is particular to x86: processor state, ACPI, power, crash reports? | `x86/` |
//! | What does an exit of the guest mean, and how do vCPUs run and stop? | `vcpu/` |
//! | In which order is a machine put together, and how do devices reach KVM? | `machine/` |
//! | How do threads wake each other, pause and end? | `threads/` |
//! | What do the loops do while a machine runs? | `runtime/` |
//! | How does one run begin and end? | `run/` |
//! | How does the guest's console reach a person? | `console/` |
//! | How is a running machine controlled? | `control/` |
//! | How are log lines written? | `log/` |
//! | What does `cafevm demo` show, and what does it check? | `demo/` |
//! | Where is what in the guest's address space? | `layout.rs` |
//! | What is said when something fails? | `error.rs` |
//! | What is 64M? | `size.rs` |
//!
//! Imports run one way: `cli -> demo -> run -> {console, control} -> runtime -> machine -> vcpu -> threads -> exit -> x86 ->
//! config -> error -> boot -> size -> {log, layout}`.

#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "tests make small numbers"))]

pub mod boot;
pub mod cli;
pub mod config;
pub mod console;
mod control;
pub mod demo;
pub mod error;
pub mod exit;
pub mod layout;
mod log;
mod machine;
pub mod run;
mod runtime;
pub mod size;
mod threads;
pub mod vcpu;
pub mod x86;
