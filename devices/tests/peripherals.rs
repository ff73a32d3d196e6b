//! Random scripts of a guest with a GPU and with an input device, against their models.

use cafevm_devices::testing::fuzz;
use cafevm_devices::testing::fuzz::{GpuTally, InputTally};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn script() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..3000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_gpu_shows_what_its_model_shows(script in script()) {
        fuzz::virtio_gpu(&script);
    }

    #[test]
    fn an_input_device_loses_no_part_of_a_group(script in script()) {
        fuzz::virtio_input(&script);
    }
}

#[test]
fn the_scripts_reach_what_they_are_for() {
    let mut runner = TestRunner::deterministic();
    let (mut gpu, mut input) = (GpuTally::default(), InputTally::default());
    for _ in 0..50 {
        let script = script().new_tree(&mut runner).unwrap().current();
        let GpuTally { done, refused, shown, pointers } = fuzz::virtio_gpu(&script);
        gpu.done += done;
        gpu.refused += refused;
        gpu.shown += shown;
        gpu.pointers += pointers;
        let InputTally { received, dropped, owed } = fuzz::virtio_input(&script);
        input.received += received;
        input.dropped += dropped;
        input.owed += owed;
    }
    assert!(gpu.done > gpu.refused && gpu.refused > 500, "{gpu:?}");
    assert!(gpu.shown > 100 && gpu.pointers > 100, "{gpu:?}");
    assert!(input.received > 500 && input.dropped > 500 && input.owed > 20, "{input:?}");
}
