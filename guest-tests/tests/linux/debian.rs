//! Debian's own kernel and busybox: downloaded, unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cafevm_guest_tests::{Failed, fail};

use crate::needs;

/// The package that names the current kernel for virtual machines: small, and soon up.
pub(crate) const CLOUD: &str = "linux-image-cloud-amd64";
/// The package that names the current kernel for any machine, with drivers for a display.
pub(crate) const GENERIC: &str = "linux-image-amd64";
/// The package with the programs of both machines.
const BUSYBOX: &str = "busybox-static";

/// What was unpacked.
pub(crate) struct Debian {
    /// The kernel's version, as its files are named by it.
    pub(crate) version: String,
    pub(crate) bzimage: PathBuf,
    pub(crate) busybox: PathBuf,
    modules: PathBuf,
}

impl Debian {
    /// Finds what an earlier run left in `dir`, or fetches the kernel that the package `names` names.
    pub(crate) fn fetch(dir: &Path, names: &str) -> Result<Self, Failed> {
        let (packages, root) = (dir.join("packages"), dir.join("root"));
        let done = dir.join("fetched");
        if !done.exists() {
            fs::create_dir_all(&packages)?;
            let kernel = kernel_package(names)?;
            let mut apt = Command::new("apt-get");
            apt.args(["-qq", "download", &kernel, BUSYBOX]).current_dir(&packages);
            run(&mut apt)?;
            for entry in fs::read_dir(&packages)? {
                run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(&root))?;
            }
            fs::write(&done, kernel)?;
        }
        let names = fs::read_dir(root.join("boot"))?.flatten().map(|entry| entry.file_name());
        let version = names
            .filter_map(|name| name.to_str()?.strip_prefix("vmlinuz-").map(str::to_owned))
            .next()
            .ok_or("the kernel's package has no /boot/vmlinuz-*")?;
        Ok(Self {
            bzimage: root.join(format!("boot/vmlinuz-{version}")),
            modules: root.join(format!("lib/modules/{version}/kernel")),
            busybox: root.join("bin/busybox"),
            version,
        })
    }

    /// The file of a module; none where the kernel has it built in.
    pub(crate) fn module(&self, name: &str) -> Option<PathBuf> {
        find(&self.modules, &format!("{name}.ko"))
    }
}

fn kernel_package(names: &str) -> Result<String, Failed> {
    let text = run(Command::new("apt-cache").args(["depends", names]))?;
    let found = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    match found {
        Some(rest) => Ok(format!("linux-image-{rest}")),
        None => fail!("apt knows no {names}; run apt-get update"),
    }
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

/// Runs a program of the host's; what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, Failed> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        fail!("{command:?}: {}: {}", output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// [`run`], with a program that may be in a directory of root's.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Result<String, Failed> {
    run(needs::command(program).args(arguments))
}
