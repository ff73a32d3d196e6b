//! The terminal on standard input: raw while the guest has it, and as it was before in every other moment.
//!
//! Raw means that keys go to the guest unchanged, Ctrl-C too. Output is still post-processed, so that lines of
//! the log begin at the left. In the background the terminal belongs to somebody else (usually the shell): it
//! is neither read nor changed there, as the kernel would stop us for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::getpgrp;
use rustix::stdio::{stderr, stdin};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};

use crate::console::keys::WAY_OUT;

/// Whether our process group is the terminal's foreground.
fn is_in_foreground() -> bool {
    // A terminal that does not control this session has no foreground.
    tcgetpgrp(stdin()).map_or(true, |group| group == getpgrp())
}

/// Whether [`say_way_out`] has said it.
static SAID: AtomicBool = AtomicBool::new(false);

/// Says once how to end cafevm, if the terminal is ours and standard error is one, too.
pub(crate) fn say_way_out() {
    let ours = isatty(stdin()) && is_in_foreground();
    if ours && isatty(stderr()) && !SAID.swap(true, Ordering::Relaxed) {
        crate::log::line(WAY_OUT);
    }
}

/// The terminal's settings from before; none while it has them.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal on standard input. When it is dropped, the terminal has its settings from before.
#[derive(Debug)]
pub(crate) struct Terminal(());

impl Terminal {
    /// None where standard input is not a terminal.
    pub(crate) fn on_stdin() -> Option<Self> {
        isatty(stdin()).then_some(Self(()))
    }

    /// Whether the terminal is ours to read and change.
    pub(crate) fn in_foreground(&self) -> bool {
        is_in_foreground()
    }

    /// Makes it raw, if it is in the foreground; without effect where it is raw.
    pub(crate) fn enter(&self) {
        let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.in_foreground() {
            return;
        }
        let saved = match before.take().map_or_else(|| tcgetattr(stdin()), Ok) {
            Ok(saved) => saved,
            Err(error) => return tracing::warn!("the terminal's settings cannot be read: {error}"),
        };
        let mut raw = saved.clone();
        raw.make_raw();
        raw.output_modes = saved.output_modes;
        if let Err(error) = tcsetattr(stdin(), OptionalActions::Now, &raw) {
            tracing::warn!("the terminal cannot be made raw: {error}");
        }
        *before = Some(saved);
    }

    /// Gives it its settings from before.
    pub(crate) fn leave(&self) {
        restore();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal its settings from before, whoever made it raw: for the end by a panic.
pub(crate) fn restore() {
    // Not waited for: the thread that panicked may hold it.
    let Ok(mut before) = BEFORE.try_lock() else { return };
    let Some(saved) = before.take() else { return };
    // In the background the kernel would stop us, and the shell has settings of its own by now.
    if is_in_foreground()
        && let Err(error) = tcsetattr(stdin(), OptionalActions::Now, &saved)
    {
        tracing::warn!("the terminal cannot be restored: {error}; 'stty sane' helps");
    }
}
