//! What devices report: events, and the log of broken rules.

mod event;
mod rule_log;

pub use event::{Direction, Event, Observer, Tracer};
pub use rule_log::{Complaints, Rule};
