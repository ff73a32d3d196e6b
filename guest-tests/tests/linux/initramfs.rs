//! An initial RAM file system: a cpio archive of the format "newc" (Linux's
//! `driver-api/early-userspace/buffer-format.rst`), not compressed.

use std::fs;
use std::path::Path;

use cafevm_guest_tests::Failed;

use crate::debian::Debian;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// The archive: busybox, `init`, and the modules in the order in which it is to load them. What the kernel has
/// built in is left out.
pub(crate) fn build(debian: &Debian, init: &str, modules: &[&str]) -> Result<Vec<u8>, Failed> {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "proc", "sys", "tmp", "mnt", "vmm", "modules"] {
        archive.entry(dir, DIRECTORY, b"");
    }
    archive.file("bin/busybox", &debian.busybox)?;
    archive.entry("bin/sh", LINK, b"busybox");
    archive.entry("init", FILE, init.as_bytes());
    let mut order = String::new();
    for name in modules {
        if let Some(path) = debian.module(name) {
            archive.file(&format!("modules/{name}.ko"), &path)?;
            order.push_str(name);
            order.push('\n');
        }
    }
    archive.entry("modules/order", FILE, order.as_bytes());
    archive.entry("TRAILER!!!", 0, b"");
    Ok(archive.0)
}

#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn file(&mut self, name: &str, path: &Path) -> Result<(), Failed> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.entry(name, FILE, &bytes);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        let inode = self.0.len();
        let fields = [inode, mode as usize, 0, 0, 1, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.0.extend(b"070701");
        for field in fields {
            self.0.extend(format!("{field:08x}").bytes());
        }
        self.0.extend(name.bytes());
        self.0.push(0);
        self.pad();
        self.0.extend(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}
