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
//! To run a machine from a program, such as a test, create a [`config::VmConfig`] and a [`run::Console`], and call
//! [`run::run`]:
//!
#![doc = "```no_run"]
#![doc = include_str!("../docs/run.rs")]
#![doc = "```"]
//!
//! # Which file do I open?
//!
//! | question | room |
//! |---|---|
//! | Which flags are there, what does SPEC mean, what is the exit status? | `cli/`, `exit.rs` |
//! | What describes a machine, and which descriptions are refused? | `config/` |
//! | How is a kernel parsed, loaded and started? | `boot/` |
//! | What depends on x86: processor state, ACPI, power, crash reports? | `x86/` |
//! | How is an exit of the guest handled, and how do vCPUs run and stop? | `vcpu/` |
//! | In which order is a machine assembled, and how are devices connected to KVM? | `machine/` |
//! | How do threads wake each other, pause and end? | `threads/` |
//! | What do the event loops do while a machine runs? | `runtime/` |
//! | How does a run start and stop? | `run/` |
//! | How is the guest's console connected to a file or a terminal? | `console/` |
//! | How is a running machine controlled? | `control/` |
//! | How does gdb debug the guest? | `gdb/` |
//! | Which metrics are there, and how are they served? | `metrics/` |
//! | How are log lines written? | `log/` |
//! | How is a trace of devices and drivers written? | `trace/` |
//! | How does `--doctor` report a driver's mistakes? | `doctor/` |
//! | What does a guest wait for? | `waiting/` |
//! | What does `cafevm demo` show, and what does it check? | `demo/` |
//! | What is at which guest-physical address? | `layout.rs` |
//! | Which errors are there, and what are their texts? | `error.rs` |
//! | How are sizes such as 64M parsed? | `size.rs` |
//! | Which word is meant by a misspelled one? | `nearest.rs` |
//! | In which function is the guest? | `symbols.rs` |
//!
//! Imports run one way: `cli -> demo -> run -> {console, control, gdb, metrics} -> waiting -> runtime -> machine -> vcpu -> threads -> exit -> x86 ->
//! config -> error -> boot -> size -> {log, layout}`. `cli` and `demo` also use `trace`, and `cli` uses
//! `doctor`, which use `vcpu`.

#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "tests make small numbers"))]

pub mod boot;
pub mod cli;
pub mod config;
pub mod console;
mod control;
pub mod demo;
pub mod display;
pub mod doctor;
pub mod error;
pub mod exit;
mod gdb;
pub mod layout;
mod log;
mod machine;
mod metrics;
mod nearest;
pub mod run;
mod runtime;
pub mod size;
mod symbols;
mod threads;
pub mod trace;
pub mod vcpu;
mod waiting;
pub mod x86;
