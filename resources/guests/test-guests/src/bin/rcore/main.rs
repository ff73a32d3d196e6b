//! rCore's published driver crate, `virtio-drivers`, with its own virtio-mmio transport: polled, and by interrupt.
//!
//! The disk is the first on the command line; it holds [`scenario::pattern`] with seed 1 and has 64 sectors at least.
//! `t=rw` (default): afterwards sectors 20 to 23 are all 0x20, sector 24 all 0x24. `t=readonly`: nothing is changed.
//! `t=rng`: random bytes from the last device on the command line, no disk is used.
//! `t=desk`: keyboard, mouse and GPU, see `desk.rs`; no disk is used. `t=typed`: keyboard, tablet and GPU, see `typed.rs`.
//! The guest prints `capacity N sectors`, `readonly true|false` and `id TEXT`.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

mod desk;
mod hal;
mod typed;

use core::sync::atomic::{AtomicU32, Ordering};

use rt::command_line::{self, VirtioSlot};
use rt::heap::Heap;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{interrupts, println};
use scenario::pattern::{self, SEED};
use scenario::{Failure, Outcome, Report, ensure, fail};
use virtio_drivers::device::blk::{BlkReq, BlkResp, RespStatus, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, InterruptStatus};

use hal::{Identity, checked, transport};

#[global_allocator]
static HEAP: Heap = Heap::new();

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// Requests under way at once: the crate's queue has 16 entries, and a request takes 3, or 1 where the device offers
/// indirect descriptors.
const AT_ONCE: usize = 4;

rt::entry!(main);

type Blk = VirtIOBlk<Identity, MmioTransport<'static>>;

fn open(slot: VirtioSlot) -> Result<Blk, Failure> {
    checked("new", VirtIOBlk::new(transport(slot, DeviceType::Block)?))
}

fn interrupted(_: u64) {
    INTERRUPTS.fetch_add(1, Ordering::AcqRel);
}

/// Fails where `bytes` are not what the disk holds from `sector` on.
fn check(bytes: &[u8], sector: usize) -> Outcome {
    for (index, eight) in bytes.chunks_exact(8).enumerate() {
        let offset = (sector * SECTOR_SIZE + 8 * index) as u64;
        let wanted = pattern::word(SEED, offset).to_le_bytes();
        ensure!(eight == wanted, "the word at byte {offset} is {eight:x?}, not {wanted:x?}");
    }
    Ok(())
}

fn check_all(bytes: &[u8], byte: u8) -> Outcome {
    match bytes.iter().position(|seen| *seen != byte) {
        Some(at) => fail!("byte {at} is {:#x}, not {byte:#x}", bytes[at]),
        None => Ok(()),
    }
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    if command_line::value("t") == Some("rng") {
        report.run("random-bytes", random_bytes);
        return report.code();
    }
    if command_line::value("t") == Some("desk") {
        desk::play(&mut report);
        return report.code();
    }
    if command_line::value("t") == Some("typed") {
        typed::play(&mut report);
        return report.code();
    }
    let Some(slot) = command_line::virtio_slots().next() else {
        report.run("find-a-disk", || fail!("no virtio_mmio.device= on the command line"));
        return report.code();
    };
    let read_only = command_line::value("t") == Some("readonly");
    let mut opened = None;
    report.run("init", || {
        let mut disk = open(slot)?;
        println!("capacity {} sectors", disk.capacity());
        println!("readonly {}", disk.readonly());
        let mut id = [0; 20];
        let len = checked("device_id", disk.device_id(&mut id))?;
        println!("id {}", core::str::from_utf8(&id[..len]).unwrap_or("not UTF-8"));
        ensure!(disk.readonly() == read_only, "readonly() is {}", disk.readonly());
        opened = Some(disk);
        Ok(())
    });
    let Some(mut disk) = opened else { return report.code() };
    report.run("polled-reads", || polled_reads(&mut disk));
    if read_only {
        report.run("a-write-is-refused", || {
            let refused = disk.write_blocks(3, &[0x55; SECTOR_SIZE]);
            ensure!(
                refused == Err(virtio_drivers::Error::IoError),
                "write_blocks gave {refused:?}"
            );
            checked("flush", disk.flush())?;
            let mut bytes = [0; SECTOR_SIZE];
            checked("read_blocks", disk.read_blocks(3, &mut bytes))?;
            check(&bytes, 3)
        });
    } else {
        report.run("polled-writes", || polled_writes(&mut disk));
    }
    report.run("past-the-end", || {
        let capacity = disk.capacity() as usize;
        let refused = disk.read_blocks(capacity, &mut [0; SECTOR_SIZE]);
        ensure!(
            refused == Err(virtio_drivers::Error::IoError),
            "read_blocks at the end gave {refused:?}"
        );
        Ok(())
    });
    interrupts::handle(slot.line, interrupted, 0);
    report.run("by-interrupt", || by_interrupt(&mut disk));
    report.run("init-again", || {
        drop(disk);
        let mut disk = open(slot)?;
        polled_reads(&mut disk)
    });
    report.code()
}

/// The device behind the disks fills buffers of any length up to 4096 bytes, each time with others.
fn random_bytes() -> Outcome {
    let Some(slot) = command_line::virtio_slots().last() else {
        fail!("no virtio_mmio.device= on the command line")
    };
    let transport = transport(slot, DeviceType::EntropySource)?;
    let mut rng = checked("new", VirtIORng::<Identity, _>::new(transport))?;
    let (mut bytes, mut last) = ([0; 4096], [0; 16]);
    for len in [16, 17, 64, 4096] {
        bytes.fill(0);
        let got = checked("request_entropy", rng.request_entropy(&mut bytes[..len]))?;
        ensure!(got == len, "{got} bytes of {len}");
        ensure!(bytes[..16] != last && bytes[..16] != [0; 16], "they are {:x?}", &bytes[..16]);
        ensure!(bytes[len - 8..len] != [0; 8], "the last of {len} bytes are zeros");
        ensure!(bytes[len..].iter().all(|byte| *byte == 0), "more than {len} bytes were written");
        last.copy_from_slice(&bytes[..16]);
    }
    Ok(())
}

fn polled_reads(disk: &mut Blk) -> Outcome {
    let mut bytes = [0xee; 4 * SECTOR_SIZE];
    for sector in 0..8 {
        checked("read_blocks", disk.read_blocks(sector, &mut bytes[..SECTOR_SIZE]))?;
        check(&bytes[..SECTOR_SIZE], sector)?;
    }
    checked("read_blocks", disk.read_blocks(40, &mut bytes))?;
    check(&bytes, 40)
}

fn polled_writes(disk: &mut Blk) -> Outcome {
    let mut bytes = [0x20; 4 * SECTOR_SIZE];
    checked("write_blocks", disk.write_blocks(20, &bytes))?;
    checked("flush", disk.flush())?;
    bytes.fill(0xee);
    checked("read_blocks", disk.read_blocks(20, &mut bytes))?;
    check_all(&bytes, 0x20)
}

/// Several reads under way, the processor asleep until all are done; the last is a write, where that is allowed.
fn by_interrupt(disk: &mut Blk) -> Outcome {
    let mut requests = [const { None }; AT_ONCE];
    let mut responses: [BlkResp; AT_ONCE] = Default::default();
    let mut headers: [BlkReq; AT_ONCE] = Default::default();
    let mut data = [[0xee_u8; SECTOR_SIZE]; AT_ONCE];
    disk.enable_interrupts();
    // What the polled requests before have left pending is not ours.
    disk.ack_interrupt();
    let before = INTERRUPTS.load(Ordering::Acquire);
    for (n, token) in requests.iter_mut().enumerate() {
        // SAFETY: header, data and response are not touched until the request is completed below.
        let begun = unsafe {
            disk.read_blocks_nb(30 + n, &mut headers[n], &mut data[n], &mut responses[n])
        };
        *token = Some(checked("read_blocks_nb", begun)?);
    }
    let mut seen = before;
    while let Some(left) = requests.iter().position(Option::is_some) {
        let came =
            Wait::Interrupt.until(DEVICE_LIMIT, || INTERRUPTS.load(Ordering::Acquire) != seen);
        seen = INTERRUPTS.load(Ordering::Acquire);
        let pending = disk.ack_interrupt().contains(InterruptStatus::QUEUE_INTERRUPT);
        ensure!(
            came,
            "no interrupt with request {left} under way; pending in the device: {pending}"
        );
        while let Some(done) = disk.peek_used() {
            let Some(n) = requests.iter().position(|token| *token == Some(done)) else {
                fail!("the used ring names token {done}");
            };
            requests[n] = None;
            // SAFETY: the same header, data and response as were given with this token.
            let completed = unsafe {
                disk.complete_read_blocks(done, &headers[n], &mut data[n], &mut responses[n])
            };
            checked("complete_read_blocks", completed)?;
            ensure!(responses[n].status() == RespStatus::OK, "status {:?}", responses[n].status());
            check(&data[n], 30 + n)?;
        }
    }
    if disk.readonly() {
        return Ok(());
    }
    let [header, ..] = &mut headers;
    let [response, ..] = &mut responses;
    let bytes = [0x24; SECTOR_SIZE];
    let seen = INTERRUPTS.load(Ordering::Acquire);
    // SAFETY: as above.
    let token =
        checked("write_blocks_nb", unsafe { disk.write_blocks_nb(24, header, &bytes, response) })?;
    let came = Wait::Interrupt.until(DEVICE_LIMIT, || INTERRUPTS.load(Ordering::Acquire) != seen);
    ensure!(came, "no interrupt for a write");
    disk.ack_interrupt();
    ensure!(
        disk.peek_used() == Some(token),
        "the used ring names {:?}, not {token}",
        disk.peek_used()
    );
    // SAFETY: as above.
    checked("complete_write_blocks", unsafe {
        disk.complete_write_blocks(token, header, &bytes, response)
    })?;
    let mut back = [0; SECTOR_SIZE];
    checked("read_blocks", disk.read_blocks(24, &mut back))?;
    check_all(&back, 0x24)
}
