//! Guesses the format of a disk image that is probably not raw, for a warning only: a guest may write any bytes to its
//! disk.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// A format, and its signatures with their offsets.
type Format = (&'static str, &'static [(usize, &'static [u8])]);

/// The name of a format that can be given with `format=`.
pub(super) const QCOW2: &str = "a qcow2 image";

const FORMATS: [Format; 9] = [
    (QCOW2, &[(0, b"QFI\xfb")]),
    ("a VMDK image", &[(0, b"KDMV")]),
    ("a VMDK image", &[(0, b"COWD")]),
    ("a VMDK descriptor", &[(0, b"# Disk DescriptorFile")]),
    ("a VHDX image", &[(0, b"vhdxfile")]),
    ("a VHD image", &[(0, b"conectix")]),
    ("a VDI image", &[(0x40, b"\x7f\x10\xda\xbe")]),
    ("a QED image", &[(0, b"QED\0")]),
    ("an ISO image with a partition table", &[(0x8001, b"CD001"), (0x1fe, b"\x55\xaa")]),
];

/// How many bytes are read.
const LEN: usize = 0x8006;

/// The format that matches the first bytes.
pub(super) fn like(image: &File) -> Option<&'static str> {
    let mut bytes = vec![0; LEN];
    let mut len = 0;
    // A shorter image has fewer bytes. A read error gives no warning here; opening the disk reports it.
    while let Ok(count @ 1..) = image.read_at(bytes.get_mut(len..)?, len as u64) {
        len += count;
    }
    let bytes = bytes.get(..len)?;
    let has =
        |&(at, sign): &(usize, &[u8])| bytes.get(at..).is_some_and(|rest| rest.starts_with(sign));
    FORMATS.iter().find(|(_, signs)| signs.iter().all(has)).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(usize, &[u8])]) -> Option<&'static str> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at as u64).unwrap();
        }
        like(&file)
    }

    #[test]
    fn formats_are_known_by_all_their_bytes() {
        for (name, signs) in FORMATS {
            assert_eq!(of(signs), Some(name));
        }
        assert_eq!(of(&[(0x8001, b"CD001")]), None, "a plain ISO image is a raw image");
        assert_eq!(of(&[(0x1fe, b"\x55\xaa")]), None, "as most raw images are");
        assert_eq!(of(&[]), None);
        let short = tempfile::tempfile().unwrap();
        short.write_all_at(b"QF", 0).unwrap();
        assert_eq!(like(&short), None);
    }
}
