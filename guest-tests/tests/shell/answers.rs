//! What each command answers, and what it does to the disk.

use std::sync::Arc;

use cafevm::exit::Verdict;
use cafevm_devices::observe::{Direction, Tap};
use cafevm_devices::testing::{Recorded, Recorder};
use cafevm_guest_tests::{
    Failed, Guest, Outcome, Run, SECTOR, SEED, Scratch, engine, ensure, pattern, sectors,
};

use crate::expect::{Exchange, crc32, hexdump, script, transcript};

const HELP: &str = "\
\x20 help                         this list
\x20 dev svirtb | dev virtio [N]  choose the disk that the other commands use
\x20 list                         the devices of this machine
\x20 status                       read every register and explain its value
\x20 read SECTOR [COUNT]          print sectors, as hexdump -C does
\x20 write SECTOR TEXT            write one sector: the text, then zeros
\x20 fill SECTOR BYTE COUNT       write one byte all over sectors
\x20 sum SECTOR COUNT             CRC-32 of sectors, as in zlib and gzip
\x20 flush                        put what was written on stable storage
\x20 reset                        reset the disk and show the handshake
\x20 exit [CODE]                  power off; CODE: status 2 * CODE + 1
\x20 poweroff                     power off, by ACPI
\x20 reboot                       reset the machine, as a PC does: port 0x64
Numbers are decimal, or hexadecimal after 0x; a sector has 512 bytes.
Ctrl-C stops a long answer. Ctrl-D, exit and poweroff end cafevm with status 0.
";

const VIRTIO: &str =
    "  virtio 0 at 0xfeb00000, interrupt line 5: 64 sectors (32 KiB)\nin use: virtio 0\n";
const SVIRTB: &str =
    "  svirtb at 0xcafe0000: a disk that does not report its size\nin use: svirtb\n";

/// A disk's bytes after the commands of `written` below.
fn write_there(bytes: &mut [u8]) {
    const TEXT: &[u8] = b"this_is_a_test";
    bytes[sectors(1..2)].fill(0);
    bytes[SECTOR..SECTOR + TEXT.len()].copy_from_slice(TEXT);
    bytes[sectors(4..7)].fill(0xee);
    bytes[sectors(30..31)].fill(0);
    bytes[30 * SECTOR..30 * SECTOR + 10].copy_from_slice(b"two  words");
}

/// The pattern of the test disks, and the same after [`write_there`].
fn before_and_after(sectors: usize) -> (Vec<u8>, Vec<u8>) {
    let before = pattern(SEED, 0..sectors * SECTOR);
    let mut after = before.clone();
    write_there(&mut after);
    (before, after)
}

/// The same commands on either device; they call it `name`.
fn commands(guest: Guest, disks: &str, name: &str, flushed: &str) -> Result<Run, Failed> {
    let (before, after) = before_and_after(64);
    let dump = |bytes: &[u8], first: usize, count: usize| {
        hexdump(first * SECTOR, &bytes[sectors(first..first + count)])
    };
    let wrote = |sector, bytes| {
        format!("wrote sector {sector} of {name}: {bytes} bytes of text, then zeros\n")
    };
    let exchanges: &[Exchange<'_>] = &[
        ("help", HELP),
        ("list", disks),
        ("read 1", &dump(&before, 1, 1)),
        ("write 1 this_is_a_test", &wrote(1, 14)),
        ("write 0x1e two  words", &wrote(30, 10)),
        ("fill 4 0xee 3", &format!("filled 3 sectors of {name} from sector 4 on with 0xee\n")),
        ("read 0 3", &dump(&after, 0, 3)),
        ("read 3 5", &dump(&after, 3, 5)),
        ("sum 0 64", &format!("crc32 {:08x} of 32768 bytes from sector 0 on\n", crc32(&after))),
        (
            "sum 63 1",
            &format!(
                "crc32 {:08x} of 512 bytes from sector 63 on\n",
                crc32(&after[sectors(63..64)])
            ),
        ),
        ("flush", flushed),
        ("exit 5", ""),
    ];
    let run = guest.cmdline(&format!("sh=\"{}\"", script(exchanges))).run()?;
    run.ended(5)?;
    transcript(&run, disks, exchanges)?;
    Ok(run)
}

fn shell() -> Guest {
    Guest::new(cafevm_resources::SHELL)
}

pub(crate) fn every_command_on_virtio() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    commands(shell().virtio(&image), VIRTIO, "virtio 0", "virtio 0 is flushed\n")?;
    image.holds(write_there)?;

    // Registers in words, and the handshake: their values depend on the device, but not which lines there are.
    let run = Guest::shell("status; reset; status; read 63; exit").virtio(&image).run()?;
    run.powered_off()?;
    let status = run.between("cafevm> status", "cafevm> reset")?;
    for says in [
        "virtio 0: virtio-mmio registers at 0xfeb00000, interrupt line 5\n",
        "  0x000  MagicValue               0x74726976  \"virt\"\n",
        "  0x004  Version                  0x00000002  the modern register layout\n",
        "  0x008  DeviceID                 0x00000002  a block device\n",
        "  0x00c  VendorID                 0x554d4551  \"QEMU\", which drivers look for\n",
        "  0x044  QueueReady               0x00000001  queue 0 is in use\n",
        "  0x070  Status                   0x0000000f  ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK\n",
        "  0x100  capacity, low half       0x00000040  64 sectors of 512 bytes\n",
        "  0x104  capacity, high half      0x00000000  0 times 2^32 sectors more\n",
        "  0x114  blk_size                 0x00000200  512 bytes in a block\n",
        "  driver: queue of 8, 0 requests, 0 interrupts, waits by interrupt\n",
        "  driver has accepted: FLUSH; VERSION_1\n",
    ] {
        ensure!(status.contains(says), "status does not print '{says}': {run}");
    }
    let reset = run.between("cafevm> reset", "cafevm> status")?;
    ensure!(
        reset.starts_with(
            "  read  MagicValue           0x74726976  is it a virtio-mmio device? \"virt\"\n"
        ),
        "{run}"
    );
    ensure!(
        reset.ends_with(
            "  write Status               0x0000000f  DRIVER_OK: the device is live\nin use: virtio 0, 64 sectors (32 KiB)\n"
        ),
        "{run}"
    );
    // The same device as before: every register, and the disk behind it.
    let after = run.between("in use: virtio 0, 64 sectors (32 KiB)", "cafevm> read 63")?;
    ensure!(after == format!("cafevm> status\n{status}"), "status after reset: {run}");
    let (_, bytes) = before_and_after(64);
    let read = run.between("cafevm> read 63", "cafevm> exit")?;
    ensure!(read == hexdump(63 * SECTOR, &bytes[sectors(63..64)]), "{run}");
    image.holds(write_there)
}

pub(crate) fn every_command_on_svirtb() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR + 5)?;
    let flushed =
        "svirtb has no flush: what was written is in the image when the doorbell returns\n";
    commands(shell().svirtb(&image), SVIRTB, "svirtb", flushed)?;
    image.holds(write_there)?;

    let (_, bytes) = before_and_after(65);
    let tail = hexdump(63 * SECTOR, &bytes[63 * SECTOR..64 * SECTOR + 5]);
    let told = |queue: u32| {
        format!(
            "svirtb: registers at 0xcafe0000
  0x000  status                   0x00000001  READY: live
  0x004  queue_size               0x00000040  64 entries in the ring
  0x008  queue_addr_hi            0x00000000  ring address, bits 63..32
  0x00c  queue_addr_lo            RING  ring address, bits 31..0
  0x010  queue_head               {queue:#010x}  {queue} is where the driver puts its next entry
  0x014  queue_tail               {queue:#010x}  {queue} is the entry that the device does next
  driver: ring of 64 entries, 28 bytes each
"
        )
    };
    let handshake = "\
\x20 write status               0x00000002  start over: the device forgets everything
  read  status               0x74726976  is a fresh device there? its status is the magic, \"virt\"
  write status               0x00000000  DRIVER_OK: a driver is here and will give the address of its ring
  read  status               0x00000000  still DRIVER_OK? then the device listens
  write queue_addr_hi        0x00000000  where the ring is: bits 63..32 of its address
  write queue_addr_lo        RING  bits 31..0
  write queue_size           0x00000040  how many entries it has
  write status               0x00000001  READY: the ring is described
  read  status               0x00000001  still READY? then the device has taken the ring and is live
in use: svirtb, a ring of 64 entries, 28 bytes each
";
    let mut run =
        Guest::shell("status; read 63 2; status; reset; status; exit 127").svirtb(&image).run()?;
    run.ended(127)?;
    // Where the ring is, is the guest's affair; that it stays there is not.
    let ring =
        run.text.split("queue_addr_lo").nth(1).and_then(|text| text.split_whitespace().next());
    let ring = ring.unwrap_or("(none)").to_owned();
    run.text = run.text.replace(&ring, "RING");
    transcript(
        &run,
        SVIRTB,
        &[
            ("status", &told(0)),
            ("read 63 2", &tail),
            // The second sector is but a part of one, which it takes a second read to know.
            ("status", &told(2)),
            ("reset", handshake),
            ("status", &told(0)),
            ("exit 127", ""),
        ],
    )?;
    image.holds(write_there)
}

pub(crate) fn three_disks() -> Outcome {
    let scratch = Scratch::new()?;
    let (first, second) =
        (scratch.image("1.img", 64 * SECTOR)?, scratch.image("2.img", 3 * SECTOR + 1)?);
    let svirtb = scratch.image("s.img", 33 * SECTOR)?;
    let exchanges: &[Exchange<'_>] = &[
        ("write 0 first", "wrote sector 0 of virtio 0: 5 bytes of text, then zeros\n"),
        ("dev virtio 1", "in use: virtio 1, 3 sectors (1.5 KiB)\n"),
        ("fill 2 1 1", "filled 1 sectors of virtio 1 from sector 2 on with 0x01\n"),
        ("dev svirtb", "in use: svirtb, a ring of 64 entries, 28 bytes each\n"),
        ("fill 32 255 1", "filled 1 sectors of svirtb from sector 32 on with 0xff\n"),
        ("dev virtio", "in use: virtio 0, 64 sectors (32 KiB)\n"),
        ("fill 63 3 1", "filled 1 sectors of virtio 0 from sector 63 on with 0x03\n"),
        ("exit", ""),
    ];
    let guest = shell().cmdline(&format!("sh=\"{}\"", script(exchanges)));
    let run = guest.virtio(&first).svirtb(&svirtb).virtio(&second).run()?;
    run.powered_off()?;
    let disks = "  virtio 0 at 0xfeb00000, interrupt line 5: 64 sectors (32 KiB)
  virtio 1 at 0xfeb00200, interrupt line 6: 3 sectors (1.5 KiB)
  svirtb at 0xcafe0000: a disk that does not report its size
in use: virtio 0
";
    transcript(&run, disks, exchanges)?;
    first.holds(|wanted| {
        wanted[sectors(0..1)].fill(0);
        wanted[..5].copy_from_slice(b"first");
        wanted[sectors(63..64)].fill(3);
    })?;
    second.holds(|wanted| wanted[sectors(2..3)].fill(1))?;
    svirtb.holds(|wanted| wanted[sectors(32..33)].fill(0xff))
}

pub(crate) fn polled() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let guest = shell().cmdline("poll=1").virtio(&image);
    commands(guest, VIRTIO, "virtio 0", "virtio 0 is flushed\n")?;
    image.holds(write_there)?;
    let run = Guest::shell("read 0; status; exit").cmdline("poll=1").virtio(&image).run()?;
    run.printed("  driver: queue of 8, 1 requests, 0 interrupts, waits by polling")
}

pub(crate) fn entries_of_32_bytes() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    // Both know the size: with different sizes the guest would not get this far.
    let guest = shell().cmdline("entry=32").disk(&image, "bus=svirtb,entry-size=32");
    let flushed =
        "svirtb has no flush: what was written is in the image when the doorbell returns\n";
    commands(guest, SVIRTB, "svirtb", flushed)?;
    image.holds(write_there)?;
    let run = Guest::shell("dev svirtb; exit").cmdline("entry=32").svirtb(&image).run()?;
    run.printed("in use: svirtb, a ring of 64 entries, 32 bytes each")
}

pub(crate) fn read_only_disks() -> Outcome {
    let scratch = Scratch::new()?;
    let (virtio, svirtb) =
        (scratch.image("v.img", 64 * SECTOR)?, scratch.image("s.img", 64 * SECTOR)?);
    let (bytes, _) = before_and_after(64);
    let sum = format!("crc32 {:08x} of 32768 bytes from sector 0 on\n", crc32(&bytes));
    let not_set_up =
        "it is not set up: the handshake was not done, or failed; 'reset' starts over\n";
    let exchanges: &[Exchange<'_>] = &[
        ("write 1 x", "write: virtio 0: it is read-only\n"),
        ("fill 1 2 3", "fill: virtio 0: it is read-only\n"),
        ("flush", "virtio 0 is flushed\n"),
        ("sum 0 64", &sum),
        ("dev svirtb", "in use: svirtb, a ring of 64 entries, 28 bytes each\n"),
        ("sum 0 64", &sum),
        (
            "write 1 x",
            "write: svirtb: it stopped at ring entry 1 with status RESET, its error state (the host's log has the reason); 'reset' starts over\n",
        ),
        ("fill 1 2 3", &format!("fill: svirtb: {not_set_up}")),
        ("read 1", &format!("read: svirtb: {not_set_up}")),
        ("dev svirtb", "in use: svirtb, a ring of 64 entries, 28 bytes each\n"),
        ("sum 0 64", &sum),
        ("exit", ""),
    ];
    let guest = shell().cmdline(&format!("sh=\"{}\"", script(exchanges)));
    let run = guest.disk(&virtio, "ro").disk(&svirtb, "bus=svirtb,readonly=on").run()?;
    run.powered_off()?;
    let disks = "  virtio 0 at 0xfeb00000, interrupt line 5: 64 sectors (32 KiB), read-only
  svirtb at 0xcafe0000: a disk that does not report its size
in use: virtio 0
";
    transcript(&run, disks, exchanges)?;
    virtio.is_untouched()?;
    svirtb.is_untouched()
}

/// 64 sectors in one request are one doorbell, and no other access to the disk's registers.
pub(crate) fn a_doorbell_a_request() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    // svirtb's driver then reads the tail and the status, but as memory where the page is mapped by then.
    for (bus, reads) in [("bus=virtio", 0), ("bus=svirtb", 3)] {
        let accesses = |commands| {
            let recorder = Arc::new(Recorder::default());
            let tap = Tap::to(recorder.clone());
            let guest = Guest::shell(commands).cmdline("poll=1").disk(&image, bus);
            guest.with(|config| config.tap = tap).run()?.powered_off()?;
            let events = recorder.take();
            let count = |wanted: Direction| {
                let is_one = |event: &&Recorded| match event {
                    // There may be other devices.
                    Recorded::Register { device, direction, .. } => {
                        *direction == wanted && ["virtio0", "svirtb"].contains(&device.as_str())
                    }
                    _ => false,
                };
                events.iter().filter(is_one).count()
            };
            Ok::<_, Failed>((count(Direction::Read), count(Direction::Write)))
        };
        let (without, with) = (accesses("exit")?, accesses("sum 0 64; exit")?);
        ensure!(without.1 > 0, "{bus}: the handshake writes no register");
        // A disk whose thread is still looking needs no doorbell.
        let fewest = if engine::is_rung_elsewhere() { 0 } else { 1 };
        ensure!(
            (without.1 + fewest..=without.1 + 1).contains(&with.1),
            "{bus}: {} writes of registers after {}",
            with.1,
            without.1
        );
        ensure!(
            with.0 <= without.0 + reads,
            "{bus}: {} reads of registers after {}",
            with.0,
            without.0
        );
    }
    Ok(())
}

pub(crate) fn reboot() -> Outcome {
    let run = Guest::shell("reboot; exit 9").run()?;
    ensure!(run.verdict == Verdict::Reset, "{run}");
    Ok(())
}
