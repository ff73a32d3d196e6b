//! Accesses of the guest to addresses and ports without a device: their values, and the log.

use super::{Test, guests, run};

pub(crate) const TESTS: &[Test] = &[
    ("what_is_at_no_address_reads_as_ones", what_is_at_no_address_reads_as_ones),
    ("an_access_that_no_device_owns_is_told", an_access_that_no_device_owns_is_told),
    (
        "many_accesses_that_no_device_owns_are_few_lines",
        many_accesses_that_no_device_owns_are_few_lines,
    ),
    ("ports_that_stock_kernels_probe_are_not_told", ports_that_stock_kernels_probe_are_not_told),
];

fn what_is_at_no_address_reads_as_ones() {
    // in eax, dx at 0xcf8, and mov eax, [0xd0000000]; then the low byte is the code, and 0x7f ones are 255.
    for code in [&b"\x66\xba\xf8\x0c\xed\xe6\xf4"[..], b"\xa1\x00\x00\x00\xd0\xe6\xf4"] {
        assert_eq!(run(&guests::pvh(code), &[]).status, 255);
    }
}

fn an_access_that_no_device_owns_is_told() {
    let rip = format!("rip {:#x}", guests::BASE);
    for (code, words) in [
        (guests::READ_NOWHERE, ["reads 4 bytes at 0x10001000", rip.as_str()]),
        (guests::WRITE_NOWHERE, ["writes 0x76697274 (4 bytes) at 0x10001000", "rip 0x20000"]),
    ] {
        let ended = run(&guests::pvh(code), &[]);
        assert_eq!((ended.status, ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
        assert!(ended.stderr.starts_with("cafevm: warning: "), "{}", ended.stderr);
        for word in words.into_iter().chain(["slot0 at 0xfeb00000 to 0xfeb001ff"]) {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    }
}

fn many_accesses_that_no_device_owns_are_few_lines() {
    for (code, lines) in [(guests::READ_NOWHERE_OFTEN, 2), (guests::READ_ALL_OVER, 6)] {
        let ended = run(&guests::pvh(code), &[]);
        assert_eq!((ended.status, ended.stderr.lines().count()), (1, lines), "{}", ended.stderr);
        let last = ended.stderr.lines().last().unwrap();
        assert!(last.contains("10000 accesses"), "{last}");
    }
}

fn ports_that_stock_kernels_probe_are_not_told() {
    // out 0x80, al, the delay; and in eax, dx at 0xcf8, PCI's; then out 0xf4. The second reads port 0x402 instead.
    let ended = run(&guests::pvh(b"\xe6\x80\x66\xba\xf8\x0c\xed\xb0\x00\xe6\xf4"), &[]);
    assert_eq!((ended.status, ended.stderr.as_str()), (1, ""));
    let ended = run(&guests::pvh(b"\x66\xba\x02\x04\xec\xb0\x00\xe6\xf4"), &[]);
    assert_eq!((ended.status, ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
    for word in ["reads 1 byte at port 0x402", "serial at 0x3f8 to 0x3ff", "rip 0x20000"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}
