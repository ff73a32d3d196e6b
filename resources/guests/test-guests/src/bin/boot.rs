//! What the loader hands over, and each way for a guest to end.
//!
//! | `t=` | does |
//! |---|---|
//! | `info` (default) | prints `command line: TEXT`, `start information version N`, `module N: N bytes, sum N`, `memory: ADDRESS SIZE KIND`, `ram: N bytes`, and checks the memory map |
//! | `exit` | ends with `code=N` by a 32-bit write to port 0xf4; `t=exit8` by an 8-bit one |
//! | `reset` | ends by port 0x64 |
//! | `triple-fault` | crashes; `t=beyond` by a page fault at 4 GiB, up to where its page tables go |
//! | `exception` | meets a page fault: the run-time reports it and ends with 0x3e |
//! | `panic` | the same with 0x3f |
//! | `hang` | halts with interrupts off; `t=spin` loops without end |
//! | `echo` | prints `echo ready`, then each received byte as it is; after a line `end`: `echoed N bytes`, `ok echo` |
//! | `ports` | reads of ports and addresses that no device owns give ones |
#![no_std]
#![no_main]

use rt::boot_info::{self, BootInfo, Region};
use rt::mmio::Mmio;
use rt::{command_line, console, exit, interrupts, port, println};
use scenario::{Outcome, Report, ensure, ensure_eq};

/// Where guests are linked, and an end that none of them reaches.
const IMAGE: [u64; 2] = [0x20_0000, 0x40_0000];
const RAM: u32 = 1;

rt::entry!(main);

fn main() -> u32 {
    let mut report = Report::new();
    let code = command_line::number("code").unwrap_or(0);
    match command_line::value("t").unwrap_or("info") {
        "info" => info(&mut report, boot_info::get()),
        "exit" => exit::exit(code as u32),
        "exit8" => exit::exit8(code as u8),
        "reset" => exit::reset(),
        "triple-fault" => exit::triple_fault(),
        "beyond" => exit::triple_page_fault(),
        "exception" => exit::page_fault(),
        "panic" => panic!("as requested"),
        "hang" => {
            println!("hanging");
            exit::stop()
        }
        "spin" => {
            println!("spinning");
            loop {
                core::hint::spin_loop();
            }
        }
        "echo" => report.run("echo", echo),
        "ports" => report.run("ports", ports),
        other => {
            println!("FAIL {other}: no such scenario");
            return 1;
        }
    }
    report.code()
}

fn info(report: &mut Report, info: &BootInfo) {
    println!("command line: {}", info.command_line());
    println!("start information version {}", info.version);
    for (number, module) in info.modules().iter().enumerate() {
        match module.bytes() {
            Some(bytes) => {
                let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
                println!("module {number}: {} bytes, sum {sum}", bytes.len());
            }
            None => println!(
                "module {number}: {} bytes at {:#x}, not mapped",
                module.size, module.address
            ),
        }
    }
    let map = info.memory_map();
    for region in map {
        println!("memory: {:#x} {:#x} {}", region.address, region.size, region.kind);
    }
    let ram = map.iter().filter(|region| region.kind == RAM);
    println!("ram: {} bytes", ram.clone().map(|region| region.size).sum::<u64>());
    report.run("memory-map", || {
        ensure!(
            info.version >= 1,
            "start information of version {} has no memory map",
            info.version
        );
        for (index, region) in map.iter().enumerate() {
            let meets = |other: &&Region| {
                region.address < other.address + other.size
                    && other.address < region.address + region.size
            };
            let other = map[..index].iter().find(meets);
            ensure!(other.is_none(), "{region:x?} meets {other:x?}");
        }
        for wanted in [[0, 0x8_0000], IMAGE] {
            let whole =
                ram.clone().any(|r| r.address <= wanted[0] && wanted[1] <= r.address + r.size);
            ensure!(whole, "no RAM from {:#x} to {:#x}", wanted[0], wanted[1]);
        }
        // Devices, and what the hypervisor needs for itself below 4 GiB.
        let hole = [0xc000_0000, 1 << 32];
        let inside = ram.clone().find(|r| r.address < hole[1] && r.address + r.size > hole[0]);
        ensure!(inside.is_none(), "RAM in the hole for devices: {inside:x?}");
        Ok(())
    });
    report.run("modules", || {
        for module in info.modules() {
            let end = module.address + module.size;
            let in_ram =
                ram.clone().any(|r| r.address <= module.address && end <= r.address + r.size);
            ensure!(
                in_ram,
                "a module at {:#x}, {:#x} bytes, is not in RAM",
                module.address,
                module.size
            );
            ensure!(
                module.address >= IMAGE[1] || end <= IMAGE[0],
                "a module at {:#x} is over the image",
                module.address
            );
        }
        Ok(())
    });
}

fn echo() -> Outcome {
    /// How long the host may leave us waiting, in milliseconds.
    const LIMIT: u32 = 30_000;
    const END: &[u8] = b"end";
    interrupts::init();
    console::listen();
    println!("echo ready");
    let (mut total, mut line, mut matched) = (0, 0, 0);
    loop {
        let Some(byte) = console::wait_for_byte_until(LIMIT) else {
            scenario::fail!("nothing more came after {total} bytes");
        };
        console::send(byte);
        total += 1;
        match byte {
            b'\n' | b'\r' if line == END.len() && matched == END.len() => break,
            b'\n' | b'\r' => (line, matched) = (0, 0),
            _ => {
                if END.get(line) == Some(&byte) && matched == line {
                    matched += 1;
                }
                line += 1;
            }
        }
    }
    println!("\nechoed {total} bytes");
    Ok(())
}

fn ports() -> Outcome {
    ensure_eq!(port::read8(0x0300), 0xff, "8 bits of port 0x300");
    let Some(window) = Mmio::new(0xd000_0000, 0x1000) else {
        scenario::fail!("the hole is elsewhere")
    };
    ensure_eq!(window.read8(0), 0xff, "8 bits at 0xd0000000");
    ensure_eq!(window.read16(2), 0xffff, "16 bits at 0xd0000002");
    ensure_eq!(window.read32(4), u32::MAX, "32 bits at 0xd0000004");
    ensure_eq!(window.read64(8), u64::MAX, "64 bits at 0xd0000008");
    window.write32(4, 0);
    ensure_eq!(window.read32(4), u32::MAX, "32 bits at 0xd0000004 after a write");
    Ok(())
}
