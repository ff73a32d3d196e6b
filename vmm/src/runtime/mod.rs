//! A machine that runs: its loops, its pauses, its end.
//!
//! ```text
//!  vCPU threads ── gate ──▶ KVM_RUN ──▶ dispatch ──▶ devices
//!      ▲                                               │ leftover work, late completions
//!      │ kick                                          ▼
//!  main thread ── jobs: resize, quiesce, release ──▶ I/O thread
//!   (signals, console, time limit, control socket)
//! ```
//!
//! Both loops are an `EventManager` of small concerns. The main thread never waits for a disk, nor for a lock that is
//! held while a disk is waited for: so signals, the time limit and the control socket are served whatever a guest or
//! the host does.
//!
//! | question | file |
//! |---|---|
//! | What is a loop made of? | `event_loop.rs`, `wake.rs`, `timer.rs`, `mailbox.rs` |
//! | What does the main thread do, and what the I/O thread? | `main_thread.rs`, `input.rs`; `io_thread.rs`, `jobs.rs` |
//! | How is a machine paused, and how does it go on? | `pausing.rs`, `gate.rs` |
//! | How does it end, and who is waited for then? | `end.rs`, `roll.rs`, `stop.rs` |

pub(crate) mod disks;
pub(crate) mod end;
pub(crate) mod event_loop;
pub(crate) mod gate;
mod input;
pub(crate) mod io_thread;
pub(crate) mod jobs;
pub(crate) mod mailbox;
pub(crate) mod main_thread;
pub(crate) mod pausing;
pub(crate) mod roll;
mod stop;
pub(crate) mod timer;
pub(crate) mod wake;
