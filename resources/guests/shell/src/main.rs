//! The built-in guest: a block shell on the serial console, and on a GPU's screen where there is one.
//!
//! Kernel command line:
//!
//! | word | means |
//! |---|---|
//! | `sh="write 1 text; read 1; exit"` | commands to run first, separated by `;`; then the prompt, if none was `exit` |
//! | `poll=1` | the virtio disks are polled; else they interrupt, and the processor halts while it waits |
//! | `entry=28`, `entry=32` | bytes from one svirtb ring entry to the next: as the text has it (the default), or as a C compiler pads it |
//! | `virtio_mmio.device=SIZE@BASE:LINE` | a virtio disk; the loader adds these |
//!
//! The end of the input (Ctrl-D on an empty line; cafevm sends it where its own input ends) powers the machine off.
//!
//! | file | what |
//! |---|---|
//! | `line.rs`, `keys.rs`, `history.rs` | the line editor |
//! | `arguments.rs` | a command's words |
//! | `commands.rs` | the commands, and the table that `help` prints |
//! | `devices.rs` | the devices of the machine |
//! | `disks.rs` | its disks, and the one in use |
//! | `screen.rs`, `terminal.rs` | the console on a GPU's display: how it is shown, its text |
//! | `sheet.rs`, `font.rs` | its glyphs |
//! | `inputs.rs`, `keyboard.rs`, `pointer.rs` | keyboards, mice and tablets |
//! | `status.rs` | registers in words |
//! | `dump.rs`, `crc32.rs` | bytes for the eye, bytes for a comparison |
#![no_std]
#![no_main]

mod arguments;
mod commands;
mod crc32;
mod devices;
mod disks;
mod dump;
mod font;
mod history;
mod inputs;
mod keyboard;
mod keys;
mod line;
mod pointer;
mod screen;
mod sheet;
mod status;
mod terminal;

use core::ops::ControlFlow;

use devices::Others;
use disks::Disks;
use line::{Editor, Line};
use rt::{command_line, console, exit, interrupts, print, println};

const HELLO: &str = "cafevm shell: a block shell on the bare machine. 'help' lists its commands.\n";
const PROMPT: &str = "cafevm> ";

rt::entry!(main);

fn main() -> u32 {
    interrupts::init();
    console::listen();
    print!("{HELLO}");
    let mut others = Others::new();
    let mut disks = Disks::find(&mut others);
    others.set_up(HELLO);
    devices::list(&disks);
    disks.introduce();
    match run(&mut disks) {
        ControlFlow::Break(0) | ControlFlow::Continue(()) => exit::power_off(),
        ControlFlow::Break(code) => code,
    }
}

/// The script, then the prompt: until a command ends the machine, with its code, or the input ends.
fn run(disks: &mut Disks) -> ControlFlow<u32> {
    for command in command_line::value("sh").unwrap_or_default().split(';') {
        let command = command.trim_ascii();
        if !command.is_empty() {
            println!("{PROMPT}{command}");
            commands::run(disks, command)?;
        }
    }
    let mut editor = Editor::new(PROMPT, &commands::NAMES);
    loop {
        print!("{PROMPT}");
        match editor.read_line() {
            Line::Text(text) => commands::run(disks, text.trim_ascii())?,
            Line::TooLong(max) => {
                println!("that line has more than {max} characters: cut, and not run");
            }
            Line::End => return ControlFlow::Continue(()),
            Line::NotText => println!("that line is not UTF-8: not run"),
        }
    }
}
