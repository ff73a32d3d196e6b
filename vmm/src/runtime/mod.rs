//! The event loops of a running machine, and pauses.
//!
//! ```text
//!  vCPU threads ── gate ──▶ KVM_RUN ──▶ dispatch ──▶ devices
//!      ▲                                               │ leftover work, late completions
//!      │ kick                                          ▼
//!  main thread ── jobs: resize, quiesce, release ──▶ I/O thread
//!   (signals, console, time limit, control socket)
//! ```
//!
//! Both loops are an `EventManager` with small subscribers. The main thread never waits for a disk, nor for a lock that
//! is held during I/O. So it always handles signals, the time limit and the control socket.
//!
//! | question | file |
//! |---|---|
//! | What is a loop? | `event_loop.rs`, `timer.rs` |
//! | How does a socket listen, and how are connections accepted? | `listener.rs`, `unix_socket.rs` |
//! | What do threads and clients send each other? | `messages.rs` |
//! | What does the I/O thread do? | `io_thread.rs`, `jobs.rs` |
//! | Which thread serves a doorbell, if not the vCPU? | `rung.rs` |
//! | Who looks after the connection to an NBD server? | `nbd.rs` |
//! | How is a machine paused and resumed? | `pausing.rs` |

pub(crate) mod event_loop;
pub(crate) mod io_thread;
pub(crate) mod jobs;
pub(crate) mod listener;
pub(crate) mod messages;
pub(crate) mod nbd;
pub(crate) mod pausing;
pub(crate) mod rung;
pub(crate) mod timer;
pub(crate) mod unix_socket;
