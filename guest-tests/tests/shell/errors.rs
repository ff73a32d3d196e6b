//! Every line with which the shell refuses a command; no disk is touched by any of them.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, SEED, Scratch, pattern};

use crate::expect::{Exchange, hexdump, script, transcript};

const NO_DISK: &str = "no disk on this machine; the monitor attaches one with --disk FILE\n";
const VIRTIO: &str = "  virtio 0 at 0xfeb00000, interrupt line 5: 64 sectors (32 KiB)\n";
const SVIRTB: &str = "  svirtb at 0xcafe0000: a disk that does not report its size\n";

fn shell(exchanges: &[Exchange<'_>]) -> Guest {
    Guest::new(cafevm_resources::SHELL).cmdline(&format!("sh=\"{}\"", script(exchanges)))
}

pub(crate) fn wrong_commands() -> Outcome {
    const NO_NUMBER: &str = "no number (decimal, or hexadecimal after 0x)";
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let no_number = |command: &str, name: &str, word: &str| {
        format!("{command}: {name} is '{word}', {NO_NUMBER}\n")
    };
    let long = "x".repeat(50);
    let cut = "x".repeat(40);
    let exchanges: &[Exchange<'_>] = &[
        ("reed 1", "reed: no such command; 'help' lists them\n"),
        ("READ 1", "READ: no such command; 'help' lists them\n"),
        (&long, &format!("{cut}: no such command; 'help' lists them\n")),
        ("help me", "help: 'me' is one word too many; usage: help\n"),
        ("dev", "dev: usage: dev svirtb | dev virtio [N]\n"),
        ("dev sata", "dev: 'sata' is no kind of disk; usage: dev svirtb | dev virtio [N]\n"),
        ("dev virtio x", &no_number("dev", "N", "x")),
        ("dev virtio 0 0", "dev: '0' is one word too many; usage: dev svirtb | dev virtio [N]\n"),
        ("dev svirtb 0", "dev: '0' is one word too many; usage: dev svirtb | dev virtio [N]\n"),
        ("status now", "status: 'now' is one word too many; usage: status\n"),
        ("read", "read: SECTOR is missing; usage: read SECTOR [COUNT]\n"),
        ("read one", &no_number("read", "SECTOR", "one")),
        ("read -1", &no_number("read", "SECTOR", "-1")),
        ("read +1", &no_number("read", "SECTOR", "+1")),
        ("read 0x", &no_number("read", "SECTOR", "0x")),
        ("read 0x+1", &no_number("read", "SECTOR", "0x+1")),
        ("read 18446744073709551616", &no_number("read", "SECTOR", "18446744073709551616")),
        (&format!("read {long}"), &no_number("read", "SECTOR", &cut)),
        ("read 1 two", &no_number("read", "COUNT", "two")),
        ("read 1 2 3", "read: '3' is one word too many; usage: read SECTOR [COUNT]\n"),
        ("write", "write: SECTOR is missing; usage: write SECTOR TEXT\n"),
        ("write text", &no_number("write", "SECTOR", "text")),
        ("write 1", "write: TEXT is missing; usage: write SECTOR TEXT\n"),
        ("fill", "fill: SECTOR is missing; usage: fill SECTOR BYTE COUNT\n"),
        ("fill 1", "fill: BYTE is missing; usage: fill SECTOR BYTE COUNT\n"),
        ("fill 1 2", "fill: COUNT is missing; usage: fill SECTOR BYTE COUNT\n"),
        ("fill 1 2 3 4", "fill: '4' is one word too many; usage: fill SECTOR BYTE COUNT\n"),
        ("fill 1 256 1", "fill: BYTE is 256, and 255 is the most\n"),
        ("sum", "sum: SECTOR is missing; usage: sum SECTOR COUNT\n"),
        ("sum 1", "sum: COUNT is missing; usage: sum SECTOR COUNT\n"),
        ("sum 1 2 3", "sum: '3' is one word too many; usage: sum SECTOR COUNT\n"),
        ("flush 1", "flush: '1' is one word too many; usage: flush\n"),
        ("reset 1", "reset: '1' is one word too many; usage: reset\n"),
        ("reboot 1", "reboot: '1' is one word too many; usage: reboot\n"),
        ("exit zero", &no_number("exit", "CODE", "zero")),
        ("exit 128", "exit: CODE is 128, and 127 is the most\n"),
        ("exit 4294967296", "exit: CODE is 4294967296, and 127 is the most\n"),
        ("exit 1 2", "exit: '2' is one word too many; usage: exit [CODE]\n"),
        ("exit 3", ""),
    ];
    let run = shell(exchanges).virtio(&image).run()?;
    run.ended(3)?;
    transcript(&run, &format!("{VIRTIO}in use: virtio 0\n"), exchanges)?;
    image.is_untouched()
}

pub(crate) fn wrong_on_virtio() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let past = |command: &str, first: u64| {
        format!(
            "{command}: sector {first} is past the end of virtio 0, which has sectors 0 to 63\n"
        )
    };
    let no_count = |command: &str| format!("{command}: COUNT is 0, and 1 is the least\n");
    let too_long = format!("write 1 {}", "t".repeat(513));
    let exchanges: &[Exchange<'_>] = &[
        ("read 64", &past("read", 64)),
        ("read 63 2", &past("read", 64)),
        ("read 0xffffffffffffffff 2", &past("read", u64::MAX)),
        ("read 0 0", &no_count("read")),
        ("sum 60 5", &past("sum", 64)),
        ("sum 0 0", &no_count("sum")),
        ("write 64 x", &past("write", 64)),
        (&too_long, "write: TEXT has 513 bytes, and a sector has 512\n"),
        ("fill 60 1 5", &past("fill", 64)),
        ("fill 100 1 1", &past("fill", 100)),
        ("fill 0 1 0", &no_count("fill")),
        // Not one of them hurt the device.
        ("flush", "virtio 0 is flushed\n"),
        ("exit", ""),
    ];
    let run = shell(exchanges).virtio(&image).run()?;
    run.powered_off()?;
    transcript(&run, &format!("{VIRTIO}in use: virtio 0\n"), exchanges)?;
    image.is_untouched()
}

/// svirtb does not report its size: what lies past the end is found by reading, or is an error of the device.
pub(crate) fn wrong_on_svirtb() -> Outcome {
    const MOST: u64 = u64::MAX / 512;
    const UNTOUCHED: &str = "the device left the buffer untouched\n";
    let scratch = Scratch::new()?;
    // More than the shell reads at once, which is 128 sectors.
    let image = scratch.image("d.img", 140 * SECTOR + 9)?;
    let stopped = |command: &str, entry: u32| {
        format!(
            "{command}: svirtb: it stopped at ring entry {entry} with status RESET, its error state (the host's log has the reason); 'reset' starts over\n"
        )
    };
    let not_set_up = |command: &str| {
        format!(
            "{command}: svirtb: it is not set up: the handshake was not done, or failed; 'reset' starts over\n"
        )
    };
    let again = "in use: svirtb, a ring of 64 entries, 28 bytes each\n";
    let past_all = |command: &str, first: u64| {
        format!(
            "{command}: sector {first} is past the end of svirtb, which has sectors 0 to {}\n",
            MOST - 1
        )
    };
    let end = hexdump(139 * SECTOR, &pattern(SEED, 139 * SECTOR..140 * SECTOR + 9));
    let exchanges: &[Exchange<'_>] = &[
        ("read 141", &format!("read: svirtb: sector 141 is past its end: {UNTOUCHED}")),
        ("read 140 2", &format!("read: svirtb: sector 141 is past its end: {UNTOUCHED}")),
        ("sum 100 60", &format!("sum: svirtb: sector 141 is past its end: {UNTOUCHED}")),
        (
            "sum 0 142",
            "sum: svirtb: it ends after 71689 bytes: the device left the rest of the buffer untouched\n",
        ),
        ("read 0 0", "read: COUNT is 0, and 1 is the least\n"),
        (&format!("read {MOST}"), &past_all("read", MOST)),
        ("write 0xffffffffffffffff x", &past_all("write", u64::MAX)),
        // It takes two reads to know what is past the end, and one to know that all is there: nine so far.
        ("write 141 x", &stopped("write", 9)),
        ("write 1 x", &not_set_up("write")),
        ("read 1", &not_set_up("read")),
        ("sum 1 1", &not_set_up("sum")),
        ("dev svirtb", again),
        ("fill 200 1 3", &stopped("fill", 0)),
        ("fill 1 1 1", &not_set_up("fill")),
        ("dev svirtb", again),
        ("read 139 2", &end),
        ("exit 1", ""),
    ];
    let run = shell(exchanges).svirtb(&image).run()?;
    run.ended(1)?;
    transcript(&run, &format!("{SVIRTB}in use: svirtb\n"), exchanges)?;
    image.is_untouched()
}

pub(crate) fn no_disk() -> Outcome {
    let complaint = |command: &str| format!("{command}: {NO_DISK}");
    let exchanges: &[Exchange<'_>] = &[
        ("status", &complaint("status")),
        ("read 0", &complaint("read")),
        ("write 0 x", &complaint("write")),
        ("fill 0 1 1", &complaint("fill")),
        ("sum 0 1", &complaint("sum")),
        ("flush", &complaint("flush")),
        ("reset", &complaint("reset")),
        ("dev virtio", "dev: no virtio disk on this machine\n"),
        ("dev svirtb", "dev: no svirtb disk on this machine\n"),
        ("exit 0x11", ""),
    ];
    let run = shell(exchanges).run()?;
    run.ended(0x11)?;
    transcript(&run, NO_DISK, exchanges)
}

pub(crate) fn a_virtio_disk_only() -> Outcome {
    let scratch = Scratch::new()?;
    let (first, second) = (scratch.image("1.img", 64 * SECTOR)?, scratch.image("2.img", SECTOR)?);
    let exchanges: &[Exchange<'_>] = &[
        ("dev svirtb", "dev: no svirtb disk on this machine\n"),
        ("dev virtio 1", "dev: no virtio 1 on this machine: there is virtio 0 only\n"),
        ("exit", ""),
    ];
    let run = shell(exchanges).virtio(&first).run()?;
    transcript(&run, &format!("{VIRTIO}in use: virtio 0\n"), exchanges)?;

    let exchanges: &[Exchange<'_>] = &[
        ("dev virtio 2", "dev: no virtio 2 on this machine: there are virtio 0 to 1\n"),
        (
            "dev virtio 0xffffffffffffffff",
            "dev: no virtio 18446744073709551615 on this machine: there are virtio 0 to 1\n",
        ),
        ("exit", ""),
    ];
    let run = shell(exchanges).virtio(&first).virtio(&second).run()?;
    let disks =
        "  virtio 1 at 0xfeb00200, interrupt line 6: 1 sector (512 bytes)\nin use: virtio 0\n";
    transcript(&run, &format!("{VIRTIO}{disks}"), exchanges)
}

pub(crate) fn an_svirtb_disk_only() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("s.img", SECTOR)?;
    let exchanges: &[Exchange<'_>] =
        &[("dev virtio", "dev: no virtio disk on this machine\n"), ("exit", "")];
    let run = shell(exchanges).svirtb(&image).run()?;
    transcript(&run, &format!("{SVIRTB}in use: svirtb\n"), exchanges)
}
