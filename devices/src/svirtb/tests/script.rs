//! Random scripts of a guest, played to the device and to the model of it. Mostly the guest keeps to the
//! protocol, and now and then it breaks a rule: else no script would come further than the first error.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::testing::svirtb_model::{DRIVER_OK, MAGIC, Model, READY, RESET};

/// What the guest does next.
#[derive(Debug, Clone)]
enum Step {
    /// RESET, and the handshake with this ring.
    Handshake(SvirtbRing),
    /// Queues entries, and rings once.
    Batch(Vec<SvirtbEntry>),
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    Read {
        offset: u64,
        width: usize,
    },
    /// Changes its own RAM.
    Poke {
        addr: u64,
        bytes: Vec<u8>,
    },
}

/// A machine, and what its guest does.
#[derive(Debug, Clone)]
struct Script {
    image: Vec<u8>,
    read_only: bool,
    entry_size: EntrySize,
    steps: Vec<Step>,
}

/// One in so many values is broken.
const RARELY: u32 = 100;

fn mostly<T: std::fmt::Debug + Clone + 'static>(
    good: impl Strategy<Value = T> + 'static,
    bad: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![RARELY - 1 => good, 1 => bad]
}

fn any_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..0x1_2000,
        0xf_f000u64..RAM_END + 0x1000,
        Just(super::super::BASE),
        (0u64..600).prop_map(|n| u64::MAX - n),
        any::<u64>(),
    ]
}

fn any_register_value() -> impl Strategy<Value = u32> {
    prop_oneof![Just(MAGIC), Just(DRIVER_OK), Just(READY), Just(RESET), 0u32..20, any::<u32>()]
}

fn entry() -> impl Strategy<Value = SvirtbEntry> {
    // Buffers in both ranges of RAM, now and then over the ring.
    let addr = prop_oneof![0u64..0xf000, (1u64 << 20)..RAM_END - 0x1000];
    let size = prop_oneof![3 => Just(512), 2 => 0u64..3000];
    (
        mostly(addr, any_address()),
        mostly(size, any_address()),
        mostly(0u64..8, prop_oneof![0u64..12, any_address()]),
        mostly(0u32..2, any_register_value()),
    )
        .prop_map(|(addr, size, sector, cmd)| SvirtbEntry { addr, size, sector, cmd })
}

fn ring() -> impl Strategy<Value = SvirtbRing> {
    let size = prop_oneof![1u32..6, 6u32..40];
    let stride = prop_oneof![Just(28), Just(32)];
    let base = prop_oneof![Just(0xe000), 0xd000u64..0xe000, Just(u64::MAX)];
    (mostly(base, any_address()), mostly(size, any_register_value()), stride).prop_map(
        |(base, size, stride)| {
            // One kind of ring ends where RAM does.
            let end = RAM_END.wrapping_sub(u64::from(size) * stride);
            SvirtbRing { base: if base == u64::MAX { end } else { base }, size, stride }
        },
    )
}

/// Entries for a file: sector after sector, with buffers that may overlap.
fn file(first: SvirtbEntry, count: u64) -> Vec<SvirtbEntry> {
    let next = |n: u64| SvirtbEntry {
        sector: first.sector.wrapping_add(n),
        addr: first.addr.wrapping_add(n * (first.size % 1500)),
        size: if first.size < 3000 { 512 } else { first.size },
        ..first
    };
    (0..count).map(next).collect()
}

fn step() -> impl Strategy<Value = Step> {
    let offset = || prop_oneof![4 => (0u64..6).prop_map(|n| n * 4), 1 => 0u64..0xff8];
    let data = prop_oneof![
        6 => any_register_value().prop_map(|value| value.to_le_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..=8),
    ];
    let width = prop_oneof![6 => Just(4usize), 1 => 1usize..=8];
    prop_oneof![
        2 => ring().prop_map(Step::Handshake),
        12 => prop::collection::vec(entry(), 0..8).prop_map(Step::Batch),
        4 => (entry(), 2u64..12).prop_map(|(first, count)| Step::Batch(file(first, count))),
        1 => (offset(), data).prop_map(|(offset, data)| Step::Write { offset, data }),
        2 => (offset(), width).prop_map(|(offset, width)| Step::Read { offset, width }),
        3 => (0u64..0xff00, prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(addr, bytes)| Step::Poke { addr, bytes }),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    (
        prop_oneof![3 => 4090u64..5000, 1 => 1u64..5000],
        prop::bool::weighted(0.05),
        prop_oneof![3 => Just(EntrySize::Auto), 1 => Just(EntrySize::Padded), 1 => Just(EntrySize::Packed)],
        ring(),
        prop::collection::vec(step(), 1..40),
    )
        .prop_map(|(size, read_only, entry_size, ring, mut steps)| {
            steps.insert(0, Step::Handshake(ring));
            let image = (0..size).map(|n| (n % 251).to_le_bytes()[0]).collect();
            Script { image, read_only, entry_size, steps }
        })
}

fn handshake(machine: &mut Machine, model: &mut Model, ring: SvirtbRing) {
    let _ = machine.driver.restart(ring);
    let [lo, hi] =
        [ring.base, ring.base >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap());
    for (offset, value) in
        [(0, RESET), (0, DRIVER_OK), (8, hi), (12, lo), (4, ring.size), (0, READY)]
    {
        model.write(offset, &value.to_le_bytes());
    }
}

/// Plays a script to the model, and to a device with an observer and one without. Returns the model at the end.
fn play(script: &Script) -> Model {
    play_to(script, Machine::unobserved);
    play_to(script, Machine::off)
}

type Make = fn(&[u8], bool, EntrySize, SvirtbRing) -> Machine;

fn play_to(script: &Script, make: Make) -> Model {
    let Script { image, read_only, entry_size, steps } = script;
    let given = match entry_size {
        EntrySize::Auto => None,
        EntrySize::Padded => Some(32),
        EntrySize::Packed => Some(28),
    };
    let mut machine = make(image, *read_only, *entry_size, RING);
    let mut model = Model::new(&RAM, image, *read_only, given);
    let mut ring = RING;
    let mut head = 0;
    for step in steps {
        match step {
            Step::Handshake(new) => {
                (ring, head) = (*new, 0);
                handshake(&mut machine, &mut model, ring);
            }
            Step::Batch(entries) => {
                // A driver that sees an error begins anew; this one does so half of the time.
                if model.registers[0] == RESET && head % 2 == 0 {
                    handshake(&mut machine, &mut model, ring);
                    head = 0;
                }
                for entry in entries.iter().take(ring.size.saturating_sub(1) as usize) {
                    let addr = ring.base.wrapping_add(u64::from(head) * ring.stride);
                    if let Some(bytes) = model.bytes(addr, 28) {
                        bytes.copy_from_slice(&entry.to_bytes());
                        machine.driver.ram().write(addr, &entry.to_bytes()).unwrap();
                        head = (head + 1) % ring.size;
                    }
                }
                machine.driver.set(Register::QueueHead, head);
                model.write(16, &head.to_le_bytes());
            }
            Step::Write { offset, data } => {
                machine.driver.device().write(*offset, data);
                model.write(*offset, data);
            }
            Step::Read { offset, width } => {
                let mut data = [0xee; 8];
                machine.driver.device().read(*offset, &mut data[..*width]);
                assert_eq!(data[..*width], model.read(*offset, *width));
            }
            Step::Poke { addr, bytes } => {
                machine.driver.ram().write(*addr, bytes).unwrap();
                model.bytes(*addr, bytes.len() as u64).unwrap().copy_from_slice(bytes);
            }
        }
        assert_eq!(machine.registers(), model.registers, "after {step:?}");
        machine.events();
    }
    assert!(machine.image.bytes() == model.image, "the images differ");
    assert!(machine.image.stable() == model.image, "not all is on stable storage");
    for (base, bytes) in &model.ram {
        assert!(machine.bytes(*base, bytes.len()) == *bytes, "RAM at {base:#x} differs");
    }
    model
}

proptest! {
    #[test]
    fn the_device_does_what_the_model_does(script in script()) {
        play(&script);
    }
}

#[test]
fn most_of_what_the_scripts_ask_for_is_right() {
    let mut runner = TestRunner::deterministic();
    let (mut served, mut refused, mut written) = (0, 0, 0);
    for _ in 0..50 {
        let script = script().new_tree(&mut runner).unwrap().current();
        let model = play(&script);
        (served, refused) = (served + model.served, refused + model.refused);
        written += usize::from(model.image != script.image);
    }
    assert!(
        served > 1000 && refused > 50 && served > 5 * refused,
        "{served} served, {refused} refused"
    );
    assert!(written > 25, "only {written} of 50 scripts wrote anything");
}
