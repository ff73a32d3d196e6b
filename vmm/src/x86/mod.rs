//! What is particular to x86 and its PC: what another processor would need anew.
//!
//! | question | file |
//! |---|---|
//! | What does a vCPU begin with? | `cpu_state.rs`, `msrs.rs` |
//! | What does a guest see of its processor? | `cpuid.rs` |
//! | What does a stock kernel learn from firmware's tables? | `acpi.rs` |
//! | How does a guest power off, reset, or report a panic? | `power.rs` |
//! | Is a reset a restart or the end of a panic? | `restart.rs` |
//! | What does a crash report show? | `crash.rs` |
//! | What can an exit of a vCPU come to? | `outcome.rs`, `access.rs` |

pub mod access;
pub(crate) mod acpi;
pub(crate) mod cpu_state;
pub(crate) mod cpuid;
pub mod crash;
pub(crate) mod msrs;
pub mod outcome;
pub(crate) mod power;
pub(crate) mod restart;
