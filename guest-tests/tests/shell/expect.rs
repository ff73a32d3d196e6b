//! What the shell must print.

use cafevm_guest_tests::{Outcome, Run, ensure, extra};

/// What stands before each command.
pub(crate) const PROMPT: &str = "cafevm> ";
const HELLO: &str = "cafevm shell: a block shell on the bare machine. 'help' lists its commands.\n";

/// A command, and all that it prints.
pub(crate) type Exchange<'a> = (&'a str, &'a str);

/// The commands as they stand in `sh=`.
pub(crate) fn script(exchanges: &[Exchange<'_>]) -> String {
    exchanges.iter().map(|(command, _)| *command).collect::<Vec<_>>().join("; ")
}

/// Fails unless the shell found `disks`, was given these commands and answered each in these words, to the letter.
pub(crate) fn transcript(run: &Run, disks: &str, exchanges: &[Exchange<'_>]) -> Outcome {
    let mut wanted = format!("{HELLO}{disks}");
    for (command, answer) in exchanges {
        wanted += &format!("{PROMPT}{command}\n{answer}");
    }
    same_text(run, &wanted)
}

/// Fails unless this is the shell's whole output, without the devices that the environment has added.
pub(crate) fn same_text(run: &Run, wanted: &str) -> Outcome {
    let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
    let (mut seen, wanted) = (lines(&run.text), lines(wanted));
    if std::env::var_os(extra::VARIABLE).is_some() {
        const ADDED: [&str; 4] = ["  gpu at ", "  keyboard at ", "  mouse at ", "  tablet at "];
        seen.retain(|line| !ADDED.iter().any(|device| line.starts_with(device)));
    }
    let differs = (0..seen.len().max(wanted.len())).find(|&n| seen.get(n) != wanted.get(n));
    if let Some(n) = differs {
        let of = |lines: &[String]| {
            lines.get(n).map_or("nothing".to_owned(), |line| format!("{line:?}"))
        };
        ensure!(false, "line {}: {} where it must be {}: {run}", n + 1, of(&seen), of(&wanted));
    }
    Ok(())
}

/// Bytes as `hexdump -C` shows them, from this offset of the disk on.
pub(crate) fn hexdump(offset: usize, bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut last: Option<&[u8]> = None;
    let mut starred = false;
    for (at, line) in (offset..).step_by(16).zip(bytes.chunks(16)) {
        if line.len() == 16 && last == Some(line) {
            if !starred {
                text += "*\n";
            }
            starred = true;
            continue;
        }
        (last, starred) = (Some(line), false);
        let half =
            |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
        let (left, right) = line.split_at(line.len().min(8));
        let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
        let letters: String = line.iter().map(shown).collect();
        text += &format!("{at:08x}  {:<24} {:<24} |{letters}|\n", half(left), half(right));
    }
    text + &format!("{:08x}\n", offset + bytes.len())
}

/// CRC-32 as in zlib, bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = if register & 1 == 0 { register >> 1 } else { register >> 1 ^ 0xedb8_8320 };
        }
    }
    !register
}
