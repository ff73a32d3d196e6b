//! Stock Linux as the guest: Debian's own kernel, unmodified, with disks.
//!
//! ```text
//!  this machine ── qemu-system-x86_64, wholly emulated, with SVM
//!    └ outer machine: Debian's kernel with its KVM ── outer.sh ── go (a scene's own)
//!        └ cafevm, a static binary
//!            └ inner machine: the same kernel ── inner.sh
//! ```
//!
//! So the test needs neither /dev/kvm nor a processor that can virtualize, and asks for nothing but the Debian
//! packages in `packages`; where they are missing it prints one line and is ignored (with CAFEVM_REQUIRE_LINUX=1
//! it fails). What the inner machine wrote is looked at from outside, with e2fsprogs and qemu-img.
//!
//! About 2 of 100 emulated boots hang, with whatever monitor inside: a scene whose time is over, or whose outer machine
//! does not come up, is tried once more.
//!
//! CAFEVM_LINUX_BINARY names a static cafevm to use; without it one is built.

mod debian;
mod desk;
mod disk;
mod emulator;
mod initramfs;
mod kernel;
mod needs;
mod scene;
mod scenes;
mod storage;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each is a machine that keeps a processor busy, and has a time limit.
    arguments.test_threads.get_or_insert(2);
    let scenes = scenes::all();
    let asked = |name: &str| arguments.filter.as_ref().is_none_or(|filter| name.contains(filter));
    // Fetched before the first scene: only here can it still be passed over.
    let fetch = !arguments.list && scenes.iter().any(|(name, _)| asked(name));
    let missing = needs::missing();
    if fetch && missing.is_none() {
        eprintln!(
            "stock Linux in an emulator: takes minutes; downloads Debian's kernel on its first run"
        );
    }
    let missing = missing.or_else(|| if fetch { scene::fetch().err() } else { None });
    let ignored = missing.is_some() && !needs::required();
    if let Some(why) = &missing {
        println!("{}: {why}", if ignored { "ignored here" } else { "cannot be run" });
    }
    let trials = scenes.into_iter().map(|(name, play)| {
        let missing = missing.clone();
        let scene = move || match missing {
            Some(why) => Err(why.into()),
            None => play(name).map(|()| scene::remove_images(name)),
        };
        Trial::test(name, scene).with_kind("linux").with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
