//! Guesses the kind of a file that is not an ELF file, so that the error can name the mistake.

/// A signature of a kind of file: its bytes, their offset, and the text of the error.
struct Sign {
    at: usize,
    bytes: &'static [u8],
    text: &'static str,
}

const SIGNS: [Sign; 17] = [
    Sign { at: 56, bytes: b"ARM\x64", text: "it is a Linux Image for arm64, another architecture" },
    Sign {
        at: 56,
        bytes: b"RSC\x05",
        text: "it is a Linux Image for RISC-V, another architecture",
    },
    Sign {
        at: 0x24,
        bytes: b"\x18\x28\x6f\x01",
        text: "it is a Linux zImage for arm, another architecture",
    },
    Sign {
        at: 4,
        bytes: b"zimg",
        text: "it is a compressed EFI image of Linux, as arm64, RISC-V and LoongArch have, not x86",
    },
    Sign {
        at: 0,
        bytes: b"\x1f\x8b",
        text: "it is compressed with gzip; unpack it first (gzip -d)",
    },
    Sign { at: 0, bytes: b"\xfd7zXZ\0", text: "it is compressed with xz; unpack it first (xz -d)" },
    Sign {
        at: 0,
        bytes: b"\x28\xb5\x2f\xfd",
        text: "it is compressed with zstd; unpack it first (zstd -d)",
    },
    Sign { at: 0, bytes: b"BZh", text: "it is compressed with bzip2; unpack it first (bzip2 -d)" },
    // The format of the kernel's own build, which the lz4 tool calls "legacy".
    Sign {
        at: 0,
        bytes: b"\x02\x21\x4c\x18",
        text: "it is compressed with lz4; unpack it first (lz4 -d)",
    },
    Sign {
        at: 0,
        bytes: b"\x5d\0\0",
        text: "it is compressed with lzma; unpack it first (xz --format=lzma -d)",
    },
    Sign {
        at: 0,
        bytes: b"\x04\x22\x4d\x18",
        text: "it is compressed with lz4; unpack it first (lz4 -d)",
    },
    Sign { at: 0, bytes: b"#!", text: "it is a script" },
    Sign { at: 0, bytes: b"MZ", text: "it is a program for EFI or Windows" },
    Sign { at: 0, bytes: b"070701", text: "it is a cpio archive, perhaps an initrd (--initrd)" },
    Sign { at: 0, bytes: b"QFI\xfb", text: "it is a qcow2 disk image" },
    Sign { at: 0, bytes: b"!<arch>\n", text: "it is a library of object files; link it" },
    Sign {
        at: 510,
        bytes: b"\x55\xaa",
        text: "it is a boot sector or a disk image; give a kernel, as a bzImage or an ELF file",
    },
];

/// The kind of the file, as text.
pub(super) fn like(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "it is empty".to_owned();
    }
    let seen = |sign: &&Sign| bytes.get(sign.at..).is_some_and(|rest| rest.starts_with(sign.bytes));
    if let Some(sign) = SIGNS.iter().find(seen) {
        return sign.text.to_owned();
    }
    let start = bytes.get(..512).unwrap_or(bytes);
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    if start.iter().all(is_text) {
        return "it is a text file".to_owned();
    }
    if start.iter().all(|&byte| byte == 0) {
        return "it begins with zeros".to_owned();
    }
    let first: Vec<_> = start.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("it begins with {}; a flat binary needs an ELF header", first.join(" "))
}

/// Whether the file has a Multiboot header, a protocol that cafevm does not support: version 1 (in the first 8 KiB, its
/// first three words add up to zero) or 2 (in the first 32 KiB, four words).
pub(super) fn multiboot(bytes: &[u8]) -> bool {
    let found = |magic: u32, within: usize, words: usize| {
        let start = bytes.get(..within).unwrap_or(bytes);
        let (all, _) = start.as_chunks::<4>();
        let all: Vec<u32> = all.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let is_header = |header: &[u32]| {
            header.first() == Some(&magic)
                && header.iter().fold(0u32, |sum, word| sum.wrapping_add(*word)) == 0
        };
        all.windows(words).any(is_header)
    };
    found(0x1bad_b002, 8 << 10, 3) || found(0xe852_50d6, 32 << 10, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiboot_header_is_known_by_its_sum() {
        let header = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        assert!(multiboot(&header(&[7, 0x1bad_b002, 3, 0u32.wrapping_sub(0x1bad_b005), 9])));
        assert!(multiboot(&header(&[0xe852_50d6, 0, 24, 0u32.wrapping_sub(0xe852_50d6 + 24)])));
        assert!(!multiboot(&header(&[0x1bad_b002, 3, 0])));
        assert!(!multiboot(b""));
    }

    #[test]
    fn common_mistakes_are_recognised() {
        for (bytes, says) in [
            (b"\x1f\x8b\x08".as_slice(), "gzip"),
            (b"#!/bin/sh\n", "script"),
            (b"hello, world\n", "text file"),
            (b"", "empty"),
            (&[0; 4096], "zeros"),
            (b"\xeb\x3c\x90\x01\x02", "begins with eb 3c 90 01"),
        ] {
            assert!(like(bytes).contains(says), "{says}: {}", like(bytes));
        }
    }
}
