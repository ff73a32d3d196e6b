//! A scene: an outer machine with what the test puts into it, and what came of it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cafevm_guest_tests::{Failed, ensure};

use crate::debian::{self, Debian};
use crate::disk;
use crate::emulator::{Emulator, Log, Typed};
use crate::initramfs;
use crate::kernel::Form;

/// Modules in the order in which they are loaded. The outer machine: KVM, and its disks.
const OUTER: [&str; 9] = [
    "irqbypass",
    "kvm",
    "kvm-amd",
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
];
/// The inner machine: what inner.sh may load.
const INNER: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "virtio_blk",
    "rng-core",
    "virtio-rng",
    "pvpanic",
    "pvpanic-mmio",
];
/// The inner machine with a keyboard, a mouse and a display, which the kernel for any machine has drivers for.
const DESK: [&str; 10] = [
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "evdev",
    "virtio_input",
    "drm",
    "drm_kms_helper",
    "drm_shmem_helper",
    "virtio_dma_buf",
    "virtio-gpu",
];

/// What all scenes share: made once, kept between runs.
pub(crate) struct Stage {
    dir: PathBuf,
    debian: Debian,
    cafevm: PathBuf,
    outer: PathBuf,
    inner: PathBuf,
    /// What the kernel for any machine needs, once a scene asked for it.
    desk: OnceLock<PathBuf>,
}

impl Stage {
    /// Sets it up, unless another scene has.
    pub(crate) fn get() -> Result<&'static Self, Failed> {
        static STAGE: OnceLock<Stage> = OnceLock::new();
        static BUSY: Mutex<()> = Mutex::new(());
        let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = STAGE.get() {
            return Ok(stage);
        }
        let dir = directory();
        fs::create_dir_all(&dir)?;
        let debian = Debian::fetch(&dir, debian::CLOUD)?;
        eprintln!("unpacking Debian's kernel {}", debian.version);
        Form::make_all(&debian.bzimage, &dir)?;
        let (outer, inner) = (dir.join("outer.cpio"), dir.join("inner.cpio"));
        fs::write(&outer, initramfs::build(&debian, include_str!("outer.sh"), &OUTER)?)?;
        fs::write(&inner, initramfs::build(&debian, include_str!("inner.sh"), &INNER)?)?;
        let cafevm = match env::var_os("CAFEVM_LINUX_BINARY") {
            Some(given) => given.into(),
            None => {
                eprintln!("building a static cafevm (release): a minute or more");
                build(&dir)?
            }
        };
        let desk = OnceLock::new();
        Ok(STAGE.get_or_init(|| Self { dir, debian, cafevm, outer, inner, desk }))
    }

    /// The initramfs for this form of the kernel.
    fn initramfs(&self, form: Form) -> Result<&Path, Failed> {
        if form != Form::Generic {
            return Ok(&self.inner);
        }
        if let Some(desk) = self.desk.get() {
            return Ok(desk);
        }
        let debian = Debian::fetch(&self.dir.join("generic"), debian::GENERIC)?;
        eprintln!("unpacking Debian's kernel {}", debian.version);
        fs::copy(&debian.bzimage, self.dir.join(form.file()))?;
        let desk = self.dir.join("desk.cpio");
        fs::write(&desk, initramfs::build(&debian, include_str!("inner.sh"), &DESK)?)?;
        Ok(self.desk.get_or_init(|| desk))
    }
}

/// Downloads the packages, unless an earlier run has. An error is one line.
pub(crate) fn fetch() -> Result<(), String> {
    let fetched = fs::create_dir_all(directory())
        .map_err(Failed::from)
        .and_then(|()| Debian::fetch(&directory(), debian::CLOUD).map(drop));
    fetched.map_err(|error| {
        let text = error.message().unwrap_or("no reason given").replace('\n', "; ");
        format!("Debian's kernel cannot be fetched: {text} (CAFEVM_REQUIRE_LINUX=1 makes that a failure)")
    })
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("linux")
}

/// Removes the files of a scene that passed, about 70 MiB. Those of one that failed are kept for a look.
pub(crate) fn remove_images(name: &str) {
    let dir = directory().join("scenes").join(name);
    if let Err(error) = fs::remove_dir_all(&dir) {
        eprintln!("{} is not removed: {error}", dir.display());
    }
}

/// Builds cafevm as a static binary for any x86-64, as the outer machine has no libraries and few extensions.
fn build(dir: &Path) -> Result<PathBuf, Failed> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let dir = dir.join("target");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "--package", "cafevm", "--target", TARGET])
        .arg("--target-dir")
        .arg(&dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    debian::run(&mut cargo)?;
    Ok(dir.join(TARGET).join("release/cafevm"))
}

/// One scene.
pub(crate) struct Scene {
    pub(crate) name: String,
    /// In which forms the inner machine's kernel is put into /vmm.
    pub(crate) forms: Vec<Form>,
    /// What else is put there: files that are read before the outer machine boots.
    pub(crate) files: Vec<PathBuf>,
    /// What the outer machine does, as a shell script in /vmm, where `cafevm`, the kernels and `initramfs` are.
    pub(crate) go: String,
    pub(crate) typed: Vec<Typed>,
    pub(crate) limit: Duration,
}

/// A scene's own files, and what was printed.
pub(crate) struct Played {
    pub(crate) log: Log,
    pub(crate) dir: PathBuf,
    /// /vmm of the outer machine, as an ext4 image.
    pub(crate) payload: PathBuf,
    /// The inner machine's first disk, /dev/vdb of the outer one.
    pub(crate) first: PathBuf,
    /// The text that `first` holds in /token, and the sum of its /in.
    pub(crate) token: String,
    pub(crate) sum: String,
}

/// The inner machine's second disk, in the payload.
pub(crate) const SECOND: &str = "second.img";
/// How large the two are, in MiB.
pub(crate) const FIRST_MIB: u64 = 64;
pub(crate) const SECOND_MIB: u64 = 48;

impl Scene {
    /// Plays it; once more where its time was over.
    pub(crate) fn play(&self) -> Result<Played, Failed> {
        let stage = Stage::get()?;
        let played = self.attempt(stage)?;
        // The outer machine did not come up; the inner one hung, and cafevm's --timeout ended it; or either did.
        let came_up = played.log.time("OUTER up", 0.0).is_some();
        let inner_hung = played.log.time("STATUS 124", 0.0).is_some();
        if came_up && !inner_hung && !played.log.hung {
            return Ok(played);
        }
        fs::rename(played.dir.join("log"), played.dir.join("log.hung"))?;
        eprintln!(
            "{}: the emulator failed, tried once more ({}/log.hung)",
            self.name,
            played.dir.display()
        );
        self.attempt(stage)
    }

    /// The file that is /bin/busybox of the inner machine.
    pub(crate) fn busybox() -> Result<PathBuf, Failed> {
        Ok(Stage::get()?.debian.busybox.clone())
    }

    fn attempt(&self, stage: &Stage) -> Result<Played, Failed> {
        eprintln!("{}: booting in the emulator", self.name);
        let dir = stage.dir.join("scenes").join(&self.name);
        let hung = fs::read(dir.join("log.hung")).ok();
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let (seed, files) = (dir.join("seed"), dir.join("files"));
        fs::create_dir_all(&seed)?;
        fs::create_dir_all(&files)?;
        if let Some(hung) = hung {
            fs::write(dir.join("log.hung"), hung)?;
        }

        let (first, payload) = (dir.join("first.img"), dir.join("payload.img"));
        let second = files.join(SECOND);
        disk::make(&second, SECOND_MIB, &seed)?;
        let token = format!("token-{:x}", std::process::id());
        fs::write(seed.join("token"), &token)?;
        // A megabyte that no two machines have in common.
        let bytes: Vec<u8> = fs::read(&stage.cafevm)?.into_iter().take(1 << 20).collect();
        fs::write(seed.join("in"), [bytes, token.clone().into_bytes()].concat())?;
        let sum = disk::md5(&seed.join("in"))?;
        disk::make(&first, FIRST_MIB, &seed)?;

        for form in &self.forms {
            fs::copy(stage.initramfs(*form)?, files.join("initramfs"))?;
            fs::copy(stage.dir.join(form.file()), files.join(form.file()))?;
        }
        fs::copy(&stage.cafevm, files.join("cafevm"))?;
        for file in &self.files {
            let name = file.file_name().ok_or("a file without a name")?;
            fs::copy(file, files.join(name))?;
        }
        fs::write(files.join("go"), &self.go)?;
        disk::make(&payload, 320, &files)?;
        fs::remove_dir_all(&files)?;

        let emulator = Emulator {
            kernel: &stage.debian.bzimage,
            initramfs: &stage.outer,
            disks: vec![payload.clone(), first.clone()],
            typed: self.typed.clone(),
            limit: self.limit,
        };
        let log = emulator.run()?;
        log.save(&dir.join("log"))?;
        Ok(Played { log, dir, payload, first, token, sum })
    }
}

impl Played {
    /// Fails with where the log is, and its end.
    pub(crate) fn ensure(&self, condition: bool, what: &str) -> Result<(), Failed> {
        let log = self.log.to_string();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n");
        ensure!(condition, "{what}; {}/log ends:\n{end}", self.dir.display());
        Ok(())
    }

    /// Whether what follows `start` in the log is `wanted`.
    pub(crate) fn says(&self, start: &str, wanted: &str) -> Result<(), Failed> {
        let found = self.log.after(start);
        self.ensure(found == Some(wanted), &format!("'{start}' {wanted:?}, not {found:?}"))
    }
}
