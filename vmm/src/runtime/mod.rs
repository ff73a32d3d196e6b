//! The loops of a running machine, and its pauses.
//!
//! ```text
//!  vCPU threads ── gate ──▶ KVM_RUN ──▶ dispatch ──▶ devices
//!      ▲                                               │ leftover work, late completions
//!      │ kick                                          ▼
//!  main thread ── jobs: resize, quiesce, release ──▶ I/O thread
//!   (signals, console, time limit, control socket)
//! ```
//!
//! Both loops are an `EventManager` of small subscribers. The main thread never waits for a disk, nor for a lock that is
//! held while a disk is waited for: so signals, the time limit and the control socket are served whatever a guest or
//! the host does.
//!
//! | question | file |
//! |---|---|
//! | What is a loop made of? | `event_loop.rs`, `timer.rs` |
//! | What do threads and clients send each other? | `messages.rs` |
//! | What does the I/O thread do? | `io_thread.rs`, `jobs.rs` |
//! | How is a machine paused, and how does it go on? | `pausing.rs` |

pub(crate) mod event_loop;
pub(crate) mod io_thread;
pub(crate) mod jobs;
pub(crate) mod messages;
pub(crate) mod pausing;
pub(crate) mod timer;
