//! Everything that depends on x86 and the PC. A port to another processor replaces this folder.
//!
//! | question | file |
//! |---|---|
//! | What is the initial state of a vCPU? | `cpu_state.rs`, `msrs.rs` |
//! | What does a guest see of its processor? | `cpuid.rs` |
//! | What do the firmware's tables describe to a stock kernel? | `acpi.rs` |
//! | How does a guest power off, reset, or report a panic? | `power.rs` |
//! | Is a reset a restart, or the end of a panic? | `restart.rs` |
//! | What does a crash report show? | `crash.rs` |
//! | How are breakpoints and single steps set? | `debug.rs` |
//! | Where in RAM is a linear address? | `paging.rs` |
//! | What is the state of the interrupt controllers? | `interrupts.rs` |
//! | What can an exit of a vCPU lead to? | `outcome.rs`, `access.rs` |

pub mod access;
pub(crate) mod acpi;
pub(crate) mod cpu_state;
pub(crate) mod cpuid;
pub mod crash;
pub mod debug;
pub(crate) mod interrupts;
pub(crate) mod msrs;
pub mod outcome;
pub(crate) mod paging;
pub(crate) mod power;
pub(crate) mod restart;
