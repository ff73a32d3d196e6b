//! The shell at its serial port: what is typed is echoed, mended, and run when the line ends.

use std::path::Path;

use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Guest, Outcome, SECTOR, SEED, Scratch, ensure, pattern, sectors};

use crate::expect::{PROMPT, hexdump, same_text};

/// The shell's output before the first prompt, with a virtio disk of 64 sectors.
const HELLO: &str = "cafevm shell: a block shell on the bare machine. 'help' lists its commands.
  virtio 0 at 0xfeb00000, interrupt line 5: 64 sectors (32 KiB)
in use: virtio 0
";

/// A line as typed, how it looks then, and what it prints.
type Typed<'a> = (&'a [u8], &'a str, &'a str);

/// Types these lines into a fresh shell; afterwards its disk holds what `change` makes of it.
fn typed(lines: &[Typed<'_>], change: impl FnOnce(&mut [u8])) -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let mut wanted = HELLO.to_owned();
    let mut input = Vec::new();
    for (bytes, echo, answer) in lines {
        input.extend_from_slice(bytes);
        wanted += &format!("{PROMPT}{echo}\n{answer}");
    }
    let run = Guest::new(cafevm_resources::SHELL).virtio(&image).input(input).run()?;
    run.powered_off()?;
    same_text(&run, &wanted)?;
    image.holds(change)
}

/// How a backspace looks: back, over it, back.
const RUBBED_OUT: &str = "\x08 \x08";

pub(crate) fn mended() -> Outcome {
    let rubbed_out = |times: usize| RUBBED_OUT.repeat(times);
    let wrote = |sector, bytes| {
        let s = if bytes == 1 { "" } else { "s" };
        format!("wrote sector {sector} of virtio 0: {bytes} byte{s} of text, then zeros\n")
    };
    let lines: &[Typed<'_>] = &[
        (b"\r", "", ""),
        (b"   \r\n", "   ", ""),
        // Backspace, and what most terminals send for it.
        (
            b"wrjt\x08\x7fite 1 mended\r",
            &format!("wrjt{}ite 1 mended", rubbed_out(2)),
            &wrote(1, 6),
        ),
        // At the line's start there is nothing to take back.
        (b"x\x08\x08\x08write 2 b\n", &format!("x{}write 2 b", rubbed_out(1)), &wrote(2, 1)),
        (
            b"fill 0 0 64\x15write 3 c\r",
            &format!("fill 0 0 64{}write 3 c", rubbed_out(11)),
            &wrote(3, 1),
        ),
        (b"fill 0 0 64\x03", "fill 0 0 64^C", ""),
        (b"write 4\td d\r", "write 4 d d", &wrote(4, 3)),
        // Keys that mean nothing, or nothing here.
        (b"wri\x1b[15~te 5\x1b[3~ e\x1bOP\x1b[B\x0c\r", "write 5 e", &wrote(5, 1)),
        // One column, two bytes and four.
        (
            "write 6 \u{e9}\u{1f980}\x7f\u{fc}\x7f!\r".as_bytes(),
            &format!("write 6 \u{e9}\u{1f980}{0}\u{fc}{0}!", RUBBED_OUT),
            &wrote(6, 3),
        ),
        (b"nonsense\r\n", "nonsense", "nonsense: no such command; 'help' lists them\n"),
        (b"exit\r", "exit", ""),
    ];
    typed(lines, |wanted| {
        for (sector, text) in (1..).zip(["mended", "b", "c", "d d", "e", "\u{e9}!"]) {
            let bytes = &mut wanted[sectors(sector..sector + 1)];
            bytes.fill(0);
            bytes[..text.len()].copy_from_slice(text.as_bytes());
        }
    })
}

/// Keys that move, delete, recall and complete. What is echoed depends on each step, so that the results are compared.
pub(crate) fn edited() -> Outcome {
    let left = |n: usize| "\x1b[D".repeat(n);
    let input = [
        // In the middle of a line: deleted, inserted, at both ends.
        format!("wrte 1 middle{}i\r", left(11)),
        format!("rite 2 ends\x1b[Hw\x1b[F!{}\x1b[3~s\r", left(2)),
        "\x02\x06nothing write 3 word\x01\x1b[C\x1b[C\x0b\x15write 3 wrong right\x17\x17kill\r"
            .into(),
        // A character of two bytes is one step.
        format!("write 4 \u{e9}\u{e8}{}x{}\x7f\r", left(1), "\x1b[C"),
        // The last line again, then the one before that, then back to what was typed.
        "\x1b[A\x1b[A\x10\x1b[B\x0e\x0e\x15write 5 typed\r".into(),
        "write 6 kept\x1b[A\x1b[B!\r".into(),
        "\x1b[A\x7f?\r".into(),
        // One command begins with wr, none with xy; re, read, reset and reboot do.
        "wr\t7 tab\rxy\t\x15re\t\x15he\t\r".into(),
    ];
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let run = Guest::new(cafevm_resources::SHELL).virtio(&image).input(input.concat()).run()?;
    run.powered_off()?;
    ensure!(run.text.contains("\nread reset reboot \n"), "{run}");
    ensure!(run.text.contains("  help                         this list"), "{run}");
    image.holds(|wanted| {
        for (sector, text) in
            (1..).zip(["middle", "ends!", "kill", "\u{e9}x", "typed", "kept?", "tab"])
        {
            let bytes = &mut wanted[sectors(sector..sector + 1)];
            bytes.fill(0);
            bytes[..text.len()].copy_from_slice(text.as_bytes());
        }
    })
}

/// The end of the input ends the shell, with status 0, also where the last line has no end, and where there is no input.
pub(crate) fn end_of_input() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let program = Path::new(env!("CARGO_BIN_EXE_cafevm-under-test"));
    let disk = image.path().display().to_string();
    for (input, arguments) in [
        ("write 1 last", &[][..]),
        ("write 1 last\n", &[]),
        ("write 1 last\n\x04read 0\n", &[]),
        ("", &["--cmdline", "sh=\"write 1 last\""]),
        ("", &["--cmdline", "sh=\"write 1 last\"", "--serial", "null"]),
    ] {
        let all = ["run", "--timeout", "60", "--disk", &disk];
        let mut shell = Process::start(program, all.into_iter().chain(arguments.iter().copied()))?;
        shell.send(input.as_bytes())?;
        let ended = shell.finish()?;
        ensure!(ended.status.code() == Some(0), "{input:?}: {:?}", ended.status);
        ensure!(!ended.text().contains("> read 0"), "{input:?}: {}", ended.text());
        image.holds(|wanted| {
            wanted[sectors(1..2)].fill(0);
            wanted[SECTOR..SECTOR + 4].copy_from_slice(b"last");
        })?;
    }
    Ok(())
}

pub(crate) fn long_lines() -> Outcome {
    let full = format!("write 7 {}", "f".repeat(SECTOR));
    let most = format!("write 8 {}", "g".repeat(632));
    let over = format!("{most}hhh");
    let too_long = "that line has more than 640 characters: cut, and not run\n";
    let lines: &[Typed<'_>] = &[
        (
            &[full.as_bytes(), b"\r"].concat(),
            &full,
            "wrote sector 7 of virtio 0: 512 bytes of text, then zeros\n",
        ),
        (
            &[most.as_bytes(), b"\r"].concat(),
            &most,
            "write: TEXT has 632 bytes, and a sector has 512\n",
        ),
        (&[over.as_bytes(), b"\r"].concat(), &most, too_long),
        // Taken back as a whole, it is no longer too long.
        (
            &[over.as_bytes(), b"\x15write 9 i\r"].concat(),
            &format!("{most}{}write 9 i", RUBBED_OUT.repeat(640)),
            "wrote sector 9 of virtio 0: 1 byte of text, then zeros\n",
        ),
        (b"exit\r", "exit", ""),
    ];
    typed(lines, |wanted| {
        wanted[sectors(7..8)].fill(b'f');
        wanted[sectors(9..10)].fill(0);
        wanted[9 * SECTOR] = b'i';
    })
}

pub(crate) fn not_text() -> Outcome {
    // Echoed as it came, whatever it is.
    let lines: &[Typed<'_>] = &[
        (b"write 1 \xff\xfe\r", "write 1 \u{fffd}\u{fffd}", "that line is not UTF-8: not run\n"),
        (b"exit\r", "exit", ""),
    ];
    typed(lines, |_| ())
}

/// Ctrl-C stops a long answer, and the next command is answered in full.
pub(crate) fn ctrl_c() -> Outcome {
    const SECTORS: usize = 4096;
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", SECTORS * SECTOR)?;
    let program = Path::new(env!("CARGO_BIN_EXE_cafevm-under-test"));
    let disk = image.path().display().to_string();
    let mut shell = Process::start(program, ["run", "--timeout", "120", "--disk", &disk])?;
    shell.wait_for(PROMPT)?;
    // Two MiB in lines of 80 characters would take minutes here.
    shell.send(format!("read 0 {SECTORS}\r").as_bytes())?;
    shell.wait_for("\n00000400  80 00")?;
    shell.send(b"\x03")?;
    shell.wait_for("^C\r\n")?;
    // The Ctrl-C came as a byte, too, and ended an empty line.
    shell.wait_for(&format!("{PROMPT}^C\r\n{PROMPT}"))?;
    shell.send(b"read 1\r")?;
    let sector = pattern(SEED, sectors(1..2));
    shell.wait_for(&format!(
        "read 1\r\n{}{PROMPT}",
        hexdump(SECTOR, &sector).replace('\n', "\r\n")
    ))?;
    shell.send(b"exit 7\r")?;
    let ended = shell.finish()?;
    ensure!(ended.status.code() == Some(15), "{:?}: {}", ended.status, ended.text());
    ensure!(ended.log.is_empty(), "the log: {}", ended.log);
    image.is_untouched()
}

/// What is typed while a command runs waits for its turn.
pub(crate) fn typed_ahead() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    let program = Path::new(env!("CARGO_BIN_EXE_cafevm-under-test"));
    let disk = format!("path={},bus=svirtb", image.path().display());
    let cmdline = "sh=\"fill 0 1 64\"";
    let mut shell = Process::start(
        program,
        ["run", "--timeout", "120", "--disk", &disk, "--cmdline", cmdline],
    )?;
    shell.send(b"fill 1 2 1\rfill 2 3 1\rsum 0 64\rexit 1\r")?;
    let ended = shell.finish()?;
    ensure!(ended.status.code() == Some(3), "{:?}: {}", ended.status, ended.text());
    image.holds(|wanted| {
        wanted.fill(1);
        wanted[sectors(1..2)].fill(2);
        wanted[sectors(2..3)].fill(3);
    })
}
