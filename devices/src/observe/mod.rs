//! Reports of devices: one stream of typed events, and its observers.
//!
//! ```text
//!  a device ──▶ Reporter ──┬─ Event::Broken ──▶ RuleLog: always, at a bounded rate
//!  a bus ──────────────────┴─▶ Tap ──▶ Observers: attached and detached while the machine runs
//! ```
//!
//! | question | file |
//! |---|---|
//! | What can be observed? | `event.rs` |
//! | How is an observer attached? What does the tap cost without one? | `tap.rs` |
//! | How does a device report? | `reporter.rs` |
//! | Which broken rules are in the log, and how often? | `rule_log.rs` |
//! | What does the explanation of a rule contain? | `rule_info.rs` |
//! | What does a guest wait for? | `waiting.rs` |
//!
//! A device makes no text: an observer that needs text formats the values of an event ([`Words`]).

mod event;
mod reporter;
mod rule_info;
mod rule_log;
mod tap;
mod waiting;

pub use event::{
    DescriptorInfo, Direction, Event, Outcome, Place, RequestInfo, Rule, Seen, Suppression, Words,
};
pub use reporter::Reporter;
pub use rule_info::{RuleInfo, Severity};
pub use rule_log::RuleLog;
pub use tap::{Observer, ObserverId, Tap};
pub use waiting::Waiting;
