//! What an observer sees.

use std::sync::Arc;

use super::drive::{Tested, rect};
use crate::observe::Tap;
use crate::testing::{Recorded, Recorder};

#[test]
fn commands_are_in_words() {
    let recorder = Arc::new(Recorder::default());
    let mut tested = Tested::observed(Tap::to(recorder.clone()));
    recorder.take();
    tested.resource(3, 2, 8, 4);
    tested.set_scanout(3, rect(0, 0, 8, 4));
    tested.transfer(3, rect(2, 1, 4, 2), 40);
    tested.flush(4, rect(0, 0, 8, 4));
    tested.ask_cursor(0x301, &[0, 7, 9, 0, 0, 0, 0, 0]);
    let (mut words, mut finished) = (Vec::new(), Vec::new());
    for recorded in recorder.take() {
        match recorded {
            Recorded::Finished { request, outcome, .. } => {
                finished.push((request.operation, outcome));
            }
            Recorded::Other { event, .. } if event.starts_with("Content") => words.push(event),
            _ => {}
        }
    }
    let expected = [
        "Content { queue: 0, what: \"RESOURCE_CREATE_2D resource 3: 8x4, format 2\" }",
        "Content { queue: 0, what: \"RESOURCE_ATTACH_BACKING resource 3: 1 entries\" }",
        "Content { queue: 0, what: \"SET_SCANOUT 0: resource 3, 8x4 at 0,0\" }",
        "Content { queue: 0, what: \"TRANSFER_TO_HOST_2D resource 3: 4x2 at 2,1, from byte 40 of its backing\" }",
        "Content { queue: 0, what: \"RESOURCE_FLUSH resource 4: 8x4 at 0,0\" }",
        "Content { queue: 1, what: \"MOVE_CURSOR to 7,9\" }",
    ];
    assert_eq!(words, expected);
    assert_eq!(finished[2], ("SET_SCANOUT", "ok".to_owned()));
    assert_eq!(finished[4], ("RESOURCE_FLUSH", "there is no resource 4".to_owned()));
}
