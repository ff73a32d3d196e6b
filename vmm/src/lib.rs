//! The virtual machine monitor around the devices of `cafevm_devices`.
//!
//! ```text
//!  arguments ──▶ cli ──▶ VmConfig ──▶ run::run ──▶ RunReport ──▶ exit status
//!                                        │
//!        check, read, plan (boot) ───────┤ before the host is asked for anything
//!        images opened and locked ───────┤
//!        host: KVM opened ───────────────┤
//!        vm: memory, interrupts, vCPUs, devices
//!                                        │
//!        a thread a vCPU: vcpu ──exit──▶ dispatch ──▶ Buses ──▶ devices
//!        the main thread: runtime ── input, signals, time limit, control socket
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
//! | question | file |
//! |---|---|
//! | Which flags are there, what does SPEC mean, what is 64M? | `cli.rs`, `spec.rs`, `bank.rs`, `size.rs` |
//! | What is a machine to be, and what can no machine be? | `config.rs`, `ids.rs` |
//! | Where is what in the guest's address space? | `layout.rs` |
//! | How is a kernel understood, loaded and told things? | `boot/` |
//! | In which order is a machine put together? | `vm.rs`, `memory.rs`, `attach.rs`, `wiring.rs` |
//! | Which reads of registers are no exits? | `register_pages.rs` |
//! | What does a vCPU begin with, and what does it see of its processor? | `cpu_state.rs`, `cpuid.rs`, `msrs.rs` |
//! | What does a stock kernel learn from firmware's tables? | `acpi.rs` |
//! | What does an exit of the guest mean? | `dispatch.rs` |
//! | What is said of an access that no device owns? | `unclaimed.rs` |
//! | How does a guest power off or reset, or tell of a panic? | `power.rs`, `restart.rs` |
//! | How do vCPUs run and stop? | `vcpu.rs`, `kick.rs` |
//! | What do the other threads do meanwhile; how is a machine paused, how does it end? | `runtime/`, `signals.rs` |
//! | How is it told things while it runs? | `control/` |
//! | How does the guest's console reach a person? | `console.rs`, `output.rs`, `runtime/input.rs`, `terminal.rs`, `keys.rs` |
//! | Which thread waits for the readers of output and log? | `backlog.rs` |
//! | How is it known how long a guest takes to come up? | `milestones.rs` |
//! | What is said when something fails? | `error.rs`, `crash.rs`, `log.rs` |
//! | Which exit status? | `exit.rs` |
//! | What does `cafevm demo` show, and what does it check? | `demo/` |

#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "tests make small numbers"))]

mod acpi;
mod attach;
mod backlog;
pub mod bank;
pub mod boot;
pub mod cli;
pub mod command;
pub mod config;
pub mod console;
mod control;
mod cpu_state;
mod cpuid;
pub mod crash;
pub mod demo;
pub mod dispatch;
pub mod error;
pub mod exit;
mod host;
mod ids;
pub mod keys;
mod kick;
pub mod layout;
mod log;
mod memory;
mod milestones;
mod msrs;
mod output;
mod power;
mod register_pages;
mod restart;
pub mod run;
mod runtime;
pub mod signals;
pub mod size;
pub mod spec;
mod terminal;
pub mod unclaimed;
mod vcpu;
mod vm;
mod wiring;
