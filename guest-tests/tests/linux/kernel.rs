//! One kernel in the three forms in which it can be booted: as Debian ships it, and the vmlinux in it with and
//! without its PVH note.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use cafevm_guest_tests::{Failed, ensure, fail};

// Fields of the setup header (Linux's `arch/x86/boot.rst`).
const SETUP_SECTS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The first bytes of what a payload is compressed with, and what unpacks it.
const UNPACKERS: [(&[u8], &[&str]); 4] = [
    (b"\x02\x21\x4c\x18", &["lz4", "-dc"]),
    (b"\x28\xb5\x2f\xfd", &["zstd", "-dc"]),
    (b"\xfd7zXZ", &["xz", "-dc"]),
    (b"\x1f\x8b", &["gzip", "-dc"]),
];

/// Unpacks the vmlinux of a bzImage to `pvh`, and to `elf` without the note by which it is a PVH kernel.
pub(crate) fn unpack(bzimage: &Path, pvh: &Path, elf: &Path) -> Result<(), Failed> {
    let mut vmlinux = payload(&fs::read(bzimage)?)?;
    ensure!(vmlinux.starts_with(b"\x7fELF"), "what is in {} is no ELF file", bzimage.display());
    fs::write(pvh, &vmlinux)?;
    // A note: length of name 4, of the description 8, type 18, "Xen". With another type it has no meaning.
    let note = [4u32, 8, 18].map(u32::to_le_bytes).concat();
    let note = [&note, b"Xen\0".as_slice()].concat();
    let Some(at) = vmlinux.windows(note.len()).position(|window| window == note) else {
        fail!("{} has no PVH note", bzimage.display());
    };
    vmlinux[at + 8] = 0x7f;
    fs::write(elf, &vmlinux)?;
    Ok(())
}

fn payload(bzimage: &[u8]) -> Result<Vec<u8>, Failed> {
    let word = |at: usize| -> Result<usize, Failed> {
        let bytes = bzimage.get(at..at + 4).ok_or("the bzImage is cut off")?;
        Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
    };
    let setup = usize::from(*bzimage.get(SETUP_SECTS).ok_or("the bzImage is cut off")?);
    let start = (setup + 1) * 512 + word(PAYLOAD_OFFSET)?;
    // The last four bytes are the size of what is unpacked, which is no part of the compressed stream.
    let end = start + word(PAYLOAD_LENGTH)? - 4;
    let packed = bzimage.get(start..end).ok_or("the bzImage is cut off")?.to_vec();
    let Some((_, unpacker)) = UNPACKERS.iter().find(|(magic, _)| packed.starts_with(magic)) else {
        fail!("the kernel is compressed in a way that the test does not know");
    };
    let mut child = Command::new(unpacker[0])
        .args(&unpacker[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}; install it", unpacker[0]))?;
    let mut input = child.stdin.take().ok_or("no pipe")?;
    let writer = thread::spawn(move || input.write_all(&packed));
    let output = child.wait_with_output()?;
    // It may have stopped to read where its stream ended.
    let _written = writer.join();
    Ok(output.stdout)
}

/// How the guest's kernel is given to cafevm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    BzImage,
    Pvh,
    Elf,
    /// Debian's kernel for any machine, as it ships it.
    Generic,
}

impl Form {
    /// Its name among the files of the outer machine.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::BzImage => "bzimage",
            Self::Pvh => "vmlinux-pvh",
            Self::Elf => "vmlinux",
            Self::Generic => "bzimage-generic",
        }
    }

    /// The forms of the kernel for virtual machines as files in `dir`.
    pub(crate) fn make_all(bzimage: &Path, dir: &Path) -> Result<(), Failed> {
        let file = |form: Self| -> PathBuf { dir.join(form.file()) };
        if !file(Self::Elf).exists() {
            fs::copy(bzimage, file(Self::BzImage))?;
            unpack(bzimage, &file(Self::Pvh), &file(Self::Elf))?;
        }
        Ok(())
    }
}
