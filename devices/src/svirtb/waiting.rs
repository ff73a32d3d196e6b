//! What svirtb and its driver wait for, for a driver's author.

use crate::observe::Waiting;

/// svirtb at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The name of its status.
    pub(super) status: &'static str,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The address of the entry at tail, and whether it looks like a filled entry; none without a ring.
    pub(super) next: Option<(u64, bool)>,
}

/// Examines a svirtb device. None if no driver uses it.
pub(super) fn examine(device: &Snapshot) -> Option<Waiting> {
    let Snapshot { status, head, tail, next } = *device;
    let mut waiting = Waiting::default();
    match (status, next) {
        ("MAGIC", _) => return None,
        ("DRIVER_OK", _) => waiting.outstanding(
            "the status is DRIVER_OK: the driver did not write READY, so the device takes no doorbell".to_owned(),
        ),
        ("RESET", _) => waiting.outstanding(
            "the status is RESET, the error state: the device does nothing until the driver writes RESET to status"
                .to_owned(),
        ),
        _ if head != tail => waiting.outstanding(format!(
            "queue_tail is {tail} and queue_head {head}: the device is working on entry {tail}"
        )),
        (_, Some((at, true))) => waiting.outstanding(format!(
            "queue_head and queue_tail are {tail}, but entry {tail} at {at:#x} is filled in: a doorbell is missing, or \
             queue_head is not the index after the last entry"
        )),
        _ => waiting
            .lines
            .push(format!("everything was answered: queue_head and queue_tail are {tail}")),
    }
    Some(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_that_is_missing_is_named() {
        let of = |status, head, tail, next| {
            examine(&Snapshot { status, head, tail, next }).map(|waiting| {
                assert_eq!(waiting.lines.len(), 1);
                (waiting.is_outstanding, waiting.lines.concat())
            })
        };
        assert_eq!(of("MAGIC", 0, 0, None), None);
        for (status, head, tail, next, outstanding, expected) in [
            ("DRIVER_OK", 0, 0, None, true, "did not write READY"),
            ("RESET", 3, 1, None, true, "the error state"),
            ("READY", 3, 1, None, true, "is working on entry 1"),
            ("READY", 2, 2, Some((0x1040, true)), true, "entry 2 at 0x1040 is filled in"),
            ("READY", 2, 2, Some((0x1040, false)), false, "queue_head and queue_tail are 2"),
        ] {
            let (is_outstanding, line) = of(status, head, tail, next).unwrap();
            assert!(line.contains(expected), "{line}");
            assert_eq!(is_outstanding, outstanding, "{line}");
        }
    }
}
