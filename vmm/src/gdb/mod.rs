//! `--gdb`: a debugger for the guest, by gdb's remote protocol.
//!
//! ```text
//!  gdb ── socket ──▶ GdbSocket ── bytes ──▶ Session (gdbstub) ──▶ Guest ──▶ Debugger ◀── vCPU threads
//!                    (main thread)                                            ▲
//!                                                    a finding of --doctor ───┘
//! ```
//!
//! The vCPUs leave their registers in [`Debugger`](crate::vcpu::debugger::Debugger) when they stop, so nothing here
//! waits for them.
//!
//! | question | file |
//! |---|---|
//! | Where does gdb connect, and when does the guest stop? | `socket.rs` |
//! | How do bytes become commands, and stops replies? | `session.rs` |
//! | What does gdb see of the machine? | `target.rs`, `registers.rs` |
//! | Where does gdb find the symbols? | `program.rs`, `host_io.rs` |

mod host_io;
mod program;
mod registers;
mod session;
mod socket;
mod target;

pub(crate) use program::Program;
pub(crate) use socket::{GdbSocket, Machine};
