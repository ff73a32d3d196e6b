//! The list of running threads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::threads::ending::Ending;

/// The threads that shutdown waits for.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    present: Mutex<Vec<String>>,
    left: Condvar,
}

impl Roll {
    /// Adds a thread, before it starts.
    pub(crate) fn enter(self: &Arc<Self>, name: String, ending: &Arc<Ending>) -> Present {
        self.present().push(name.clone());
        Present { roll: self.clone(), name, ending: Some(ending.clone()) }
    }

    /// Adds a thread whose end is not that of the machine.
    pub(crate) fn enter_visitor(self: &Arc<Self>, name: String) -> Present {
        self.present().push(name.clone());
        Present { roll: self.clone(), name, ending: None }
    }

    /// Waits at most `limit` until no thread is left. Returns those that are left.
    pub(crate) fn wait(&self, limit: Duration) -> Vec<String> {
        let some = |present: &mut Vec<String>| !present.is_empty();
        let waited = self.left.wait_timeout_while(self.present(), limit, some);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn present(&self) -> MutexGuard<'_, Vec<String>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of a running thread. The thread drops it last, also after a panic; then the machine ends, unless the thread
/// is a visitor.
#[derive(Debug)]
pub(crate) struct Present {
    roll: Arc<Roll>,
    name: String,
    ending: Option<Arc<Ending>>,
}

impl Drop for Present {
    fn drop(&mut self) {
        if let Some(ending) = &self.ending {
            ending.stop();
        }
        self.roll.present().retain(|name| *name != self.name);
        self.roll.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_is_waited_for_until_it_ends_and_not_beyond_the_limit() {
        let (roll, ending) = (Arc::new(Roll::default()), Arc::new(Ending::new().unwrap()));
        assert!(roll.wait(Duration::ZERO).is_empty());
        let (first, second) = (roll.enter("a".into(), &ending), roll.enter("b".into(), &ending));
        drop(first);
        assert!(ending.requested());
        assert_eq!(roll.wait(Duration::ZERO), ["b"]);
        let (go, gone) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let _present = second;
            gone.recv().unwrap_err();
        });
        drop(go);
        assert!(roll.wait(Duration::from_secs(60)).is_empty());
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_panics_is_gone() {
        let (roll, ending) = (Arc::new(Roll::default()), Arc::new(Ending::new().unwrap()));
        let present = roll.enter("a".into(), &ending);
        let thread = thread::spawn(move || {
            let _present = present;
            panic!("on purpose");
        });
        assert!(roll.wait(Duration::from_secs(60)).is_empty());
        assert!(ending.requested() && thread.join().is_err());
    }
}
