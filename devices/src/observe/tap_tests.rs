//! Observers are attached and detached; without one, nothing is built.

use std::sync::Mutex;
use std::thread;

use super::*;

/// Counts the doorbells.
#[derive(Default)]
struct Doorbells(Mutex<Vec<u32>>);

impl Doorbells {
    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Doorbells {
    fn event(&self, seen: &Seen<'_>) {
        if let Event::Notified { queue } = seen.event {
            self.0.lock().unwrap().push(queue);
        }
    }
}

fn ring(tap: &Tap, queue: u32) {
    tap.emit(&"a device".into(), || Event::Notified { queue });
}

#[test]
fn an_event_is_built_only_while_an_observer_is_attached() {
    let tap = Tap::default();
    let built = Mutex::new(0);
    let emit = || {
        tap.emit(&"a device".into(), || {
            *built.lock().unwrap() += 1;
            Event::Notified { queue: 0 }
        });
    };
    emit();
    assert_eq!((*built.lock().unwrap(), tap.is_on()), (0, false));
    let id = tap.attach(Arc::new(Doorbells::default()));
    emit();
    assert_eq!((*built.lock().unwrap(), tap.is_on()), (1, true));
    tap.detach(id);
    emit();
    assert_eq!((*built.lock().unwrap(), tap.is_on()), (1, false));
}

#[test]
fn each_observer_gets_the_events_between_its_attachment_and_its_end() {
    let tap = Tap::default();
    let (first, second) = (Arc::new(Doorbells::default()), Arc::new(Doorbells::default()));
    let one = tap.attach(first.clone());
    ring(&tap, 1);
    let two = tap.clone().attach(second.clone());
    ring(&tap, 2);
    tap.detach(one);
    ring(&tap, 3);
    tap.detach(one);
    tap.detach(two);
    ring(&tap, 4);
    assert_eq!((first.take(), second.take()), (vec![1, 2], vec![2, 3]));
}

#[test]
fn an_observer_may_detach_itself() {
    struct Once(Tap, Mutex<Option<ObserverId>>, Doorbells);
    impl Observer for Once {
        fn event(&self, seen: &Seen<'_>) {
            self.2.event(seen);
            if let Some(id) = self.1.lock().unwrap().take() {
                self.0.detach(id);
            }
        }
    }
    let tap = Tap::default();
    let once = Arc::new(Once(tap.clone(), Mutex::default(), Doorbells::default()));
    *once.1.lock().unwrap() = Some(tap.attach(once.clone()));
    ring(&tap, 1);
    ring(&tap, 2);
    assert_eq!((once.2.take(), tap.is_on()), (vec![1], false));
}

#[test]
fn observers_come_and_go_while_events_are_emitted() {
    const RINGS: u32 = 20_000;
    let tap = Tap::default();
    let all = Arc::new(Doorbells::default());
    tap.attach(all.clone());
    thread::scope(|scope| {
        scope.spawn(|| (0..RINGS).for_each(|n| ring(&tap, n)));
        scope.spawn(|| {
            for _ in 0..500 {
                let id = tap.attach(Arc::new(Doorbells::default()));
                tap.detach(id);
            }
        });
    });
    assert!(all.take().into_iter().eq(0..RINGS), "an event was lost or came out of order");
}
