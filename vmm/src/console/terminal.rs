//! The terminal on standard input: raw while the guest uses it, otherwise with its previous settings.
//!
//! In raw mode keys reach the guest unchanged, including Ctrl-C. Output is still post-processed, so that log lines
//! begin at the left. In the background the terminal belongs to another process, usually the shell: cafevm neither
//! reads nor changes it there, because the kernel would stop the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::getpgrp;
use rustix::stdio::{stderr, stdin};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};

use crate::console::keys::WAY_OUT;

/// Whether this process group is in the terminal's foreground.
fn is_in_foreground() -> bool {
    // A terminal that does not control this session has no foreground.
    tcgetpgrp(stdin()).map_or(true, |group| group == getpgrp())
}

/// Whether [`show_way_out`] was called.
static SAID: AtomicBool = AtomicBool::new(false);

/// Logs once how to end cafevm, if cafevm is in the foreground and standard error is a terminal, too.
pub(crate) fn show_way_out() {
    let ours = isatty(stdin()) && is_in_foreground();
    if ours && isatty(stderr()) && !SAID.swap(true, Ordering::Relaxed) {
        crate::log::line(WAY_OUT);
    }
}

/// The terminal's previous settings, while it is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal on standard input. The drop restores its settings.
#[derive(Debug)]
pub(crate) struct Terminal(());

impl Terminal {
    /// None if standard input is not a terminal.
    pub(crate) fn on_stdin() -> Option<Self> {
        isatty(stdin()).then_some(Self(()))
    }

    /// Whether cafevm may read and change the terminal.
    pub(crate) fn in_foreground(&self) -> bool {
        is_in_foreground()
    }

    /// Makes the terminal raw, if it is in the foreground. A raw terminal stays raw.
    pub(crate) fn enter(&self) {
        let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.in_foreground() {
            return;
        }
        let saved = match before.take().map_or_else(|| tcgetattr(stdin()), Ok) {
            Ok(saved) => saved,
            Err(error) => {
                return tracing::warn!(
                    "the terminal's settings cannot be read: {error}; keys reach the guest a line at a time"
                );
            }
        };
        let mut raw = saved.clone();
        raw.make_raw();
        raw.output_modes = saved.output_modes;
        if let Err(error) = tcsetattr(stdin(), OptionalActions::Now, &raw) {
            tracing::warn!(
                "the terminal cannot be made raw: {error}; keys reach the guest a line at a time"
            );
        }
        *before = Some(saved);
    }

    /// Restores the previous settings.
    pub(crate) fn leave(&self) {
        restore();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal's previous settings from any thread: for the exit after a panic.
pub(crate) fn restore() {
    // No wait for the lock: the thread that panicked may hold it.
    let Ok(mut before) = BEFORE.try_lock() else { return };
    let Some(saved) = before.take() else { return };
    // In the background the kernel would stop the process, and the shell has changed the settings.
    if is_in_foreground()
        && let Err(error) = tcsetattr(stdin(), OptionalActions::Now, &saved)
    {
        tracing::warn!("the terminal's settings cannot be restored: {error}; run 'stty sane'");
    }
}
