//! Random scripts of a guest against the oracle of a virtqueue: in memory, on a file with each engine, and with held
//! requests.

use cafevm_devices::block::EngineKind;
use cafevm_devices::testing::oracle::{Tally, play, play_on, play_on_a_snapshot_of};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn script() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..3000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_device_does_what_the_model_does(script in script()) {
        play(&script);
    }

    #[test]
    fn and_so_it_does_on_a_file(script in prop::collection::vec(any::<u8>(), 0..1000)) {
        let dir = tempfile::tempdir().unwrap();
        play_on(&dir.path().join("d.img"), EngineKind::Sync, &script);
    }

    #[test]
    fn and_so_it_does_on_a_mapped_file(script in prop::collection::vec(any::<u8>(), 0..1000)) {
        let dir = tempfile::tempdir().unwrap();
        play_on(&dir.path().join("d.img"), EngineKind::Mmap, &script);
    }

    #[test]
    fn and_so_it_does_by_io_uring(script in prop::collection::vec(any::<u8>(), 0..1000)) {
        let dir = tempfile::tempdir().unwrap();
        play_on(&dir.path().join("d.img"), EngineKind::Uring, &script);
    }

    #[test]
    fn and_so_it_does_by_io_uring_where_it_would_block(script in prop::collection::vec(any::<u8>(), 0..1000)) {
        let dir = tempfile::tempdir().unwrap();
        play_on(&dir.path().join("d.img"), EngineKind::Auto, &script);
    }

    #[test]
    fn and_so_it_does_on_a_snapshot_of_a_file(script in prop::collection::vec(any::<u8>(), 0..1000)) {
        let dir = tempfile::tempdir().unwrap();
        play_on_a_snapshot_of(&dir.path().join("d.img"), &script);
    }
}

#[test]
fn most_of_what_the_scripts_ask_for_is_right_and_nothing_is_left_out() {
    let mut runner = TestRunner::deterministic();
    let mut all = Tally::default();
    for _ in 0..100 {
        let Tally { done, refused, broken, awaited } =
            play(&script().new_tree(&mut runner).unwrap().current());
        all.done += done;
        all.refused += refused;
        all.broken += broken;
        all.awaited += awaited;
    }
    assert!(all.done > 2000 && all.done > 5 * all.refused, "{all:?}");
    assert!(all.refused > 100 && all.broken > 100 && all.awaited > 100, "{all:?}");
}
