//! Each `engine=` in a whole machine: its image grows, and is cut while in use.

use std::fs::OpenOptions;

use cafevm_devices::block::EngineKind;

use super::Test;
use super::control::{Machine, image};

pub(crate) const TESTS: &[Test] = &[(
    "an_image_that_is_cut_is_the_guests_error_with_every_engine",
    an_image_that_is_cut_is_the_guests_error,
)];

fn an_image_that_is_cut_is_the_guests_error() {
    for (engine, _) in EngineKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 1 << 20);
        let mut machine =
            Machine::start(dir.path(), &format!("{},id=data,engine={engine}", path.display()));
        machine.read_to("cafevm> ");
        let say = |machine: &mut Machine, line: &str| {
            machine.type_line(line);
            machine.read_to("cafevm> ")
        };
        let answer = machine.tell(r#"{"resize":{"id":"data","size":2097152}}"#);
        assert_eq!(answer, r#"{"result":{"id":"data","size":2097152}}"#, "{engine}");
        say(&mut machine, "reset");
        for sector in [5, 1000, 3000] {
            let said = say(&mut machine, &format!("write {sector} it is {sector}"));
            assert!(said.contains(&format!("wrote sector {sector}")), "{engine}: {said}");
            let said = say(&mut machine, &format!("read {sector}"));
            assert!(said.contains(&format!("it is {sector}")), "{engine}: {said}");
        }
        OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 10).unwrap();
        for sector in [3000, 1000] {
            let said = say(&mut machine, &format!("read {sector}"));
            assert!(said.contains("IOERR"), "{engine}: {said}");
        }
        assert!(say(&mut machine, "read 5").contains("it is 5"), "{engine}");
        let log = machine.end();
        assert!(log.contains("cut off while in use"), "{engine}: {log}");
    }
}
