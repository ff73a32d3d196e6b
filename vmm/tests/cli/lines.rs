//! The exact texts of errors; completions, man pages and the version.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{FAILED, USAGE, cafevm, refused, scene};

/// Runs `cafevm run` with `args`, and expects this status and this line.
#[track_caller]
fn says(status: i32, args: &[impl AsRef<OsStr>], line: &str) {
    let dir = scene();
    let args =
        ["run", "--kvm", "no-kvm"].iter().map(OsStr::new).chain(args.iter().map(AsRef::as_ref));
    let (code, stdout, stderr) = cafevm(dir.path(), &args.collect::<Vec<_>>());
    assert_eq!((code, stdout.as_str()), (status, ""), "{stderr}");
    assert_eq!(stderr, format!("cafevm: {line}\n"));
}

#[test]
fn clap_errors_are_sentences() {
    const SEE: &str = "see 'cafevm run --help'";
    for (args, line) in [
        (&["--kernle", "x"][..], "unknown flag '--kernle' (do you mean '--kernel'?)"),
        (&["-1"], "unknown flag '-1'; leave it out"),
        (&["--kernel"], "--kernel needs a value; give one"),
        (&["--cpus", "-1"], "--cpus '-1': give a whole number, 1 or more"),
        (&["--doctor=no"], "--doctor 'no': give --doctor or --doctor=deny"),
        (
            &["--gdb", "x"],
            "--gdb 'x': give a port, such as 1234, an address with a port, such as 127.0.0.1:1234, or unix:PATH",
        ),
        (
            &["--metrics", "x"],
            "--metrics 'x': give a port, such as 1234, an address with a port, such as 127.0.0.1:1234, or unix:PATH",
        ),
        (
            &["--display", "gtk"],
            "--display 'gtk': give vnc=HOST:PORT, such as vnc=127.0.0.1:5900, or vnc=unix:PATH",
        ),
        (
            &["--display", "vnc=0.0.0.0:5900"],
            "--display 'vnc=0.0.0.0:5900': 0.0.0.0 is no loopback address, and this server has no password and no encryption; give 127.0.0.1:5900, and on the other host 'ssh -L 5900:127.0.0.1:5900 THIS_HOST'",
        ),
        (&["--strict=3"], "--strict takes no value; leave '3' out"),
        (&["a.elf", "b.elf"], "unexpected argument 'b.elf'; leave it out"),
        (&["a.elf", "--kernel", "b"], "--kernel and KERNEL mean the same; give one of them"),
        (&["--memory", "1M", "--memory", "2M"], "--memory is given twice; give it once"),
        (
            &["--disk", "d.img,"],
            "--disk 'd.img,': a key is missing after a comma; leave the comma out, or write ',,' for a comma in a path",
        ),
    ] {
        says(USAGE, args, &format!("{line}; {SEE}"));
    }
    let dir = scene();
    for (args, line) in [
        (
            &["rnu"][..],
            "unknown command 'rnu' (do you mean 'run'?); the commands are run, demo, new, explain, completions, man; see 'cafevm --help'",
        ),
        (&["completions"], "SHELL is missing; give it; see 'cafevm completions --help'"),
        (
            &["completions", "sh"],
            "SHELL 'sh': it is one of bash, elvish, fish, powershell, zsh; see 'cafevm completions --help'",
        ),
        (&["demo", "x"], "unexpected argument 'x'; leave it out; see 'cafevm demo --help'"),
    ] {
        let (code, stdout, stderr) = cafevm(dir.path(), args);
        assert_eq!((code, stdout.as_str()), (USAGE, ""));
        assert_eq!(stderr, format!("cafevm: {line}\n"));
    }
}

#[test]
fn reasons_are_the_right_ones() {
    for (args, line) in [
        (&["--memory", "2M"][..], "--kernel (built-in): does not fit in memory: it needs "),
        (
            &["--disk", "https://example.com/d.img"],
            "--disk https://example.com/d.img: is a URL, and an image is a file; download it, and give the path of the \
             file",
        ),
        (
            &["--kernel", "https://example.com/bzImage"],
            "--kernel https://example.com/bzImage: is a URL; download it, and give the path of the file",
        ),
        (
            &["--serial", "STDIO"],
            "--kvm no-kvm: no such file; leave --kvm out (KVM is /dev/kvm on Linux), or give the path of a KVM device",
        ),
    ] {
        refused(FAILED, args, &[&format!("cafevm: {line}")]);
    }
    says(
        USAGE,
        &["--virtio-mmio", "base=0"],
        "--virtio-mmio base=0x0: the slots do not fit there: RAM is there; give another base",
    );
    says(
        USAGE,
        &["--virtio-mmio", "base=0x100000"],
        "--virtio-mmio base=0x100000: the slots do not fit there: RAM is there; give less memory (--memory), or another \
         base",
    );
    says(
        USAGE,
        &["--cmdline", "sh=\"read 1", "--disk", "d.img"],
        "--cmdline: a double quote is not closed, so that the built-in shell would not find its disks; close \
         it, as in 'sh=\"read 0; exit\"'",
    );
    let slots = ["--virtio-mmio", "slots=2"].into_iter();
    let args: Vec<_> = slots.chain(["--disk", "d.img,ro"].repeat(3)).collect();
    says(
        USAGE,
        &args,
        "3 virtio devices (disks, --rng, --input and --gpu) are too many: --virtio-mmio has slots=2; attach fewer",
    );
}

/// The memory that the error asks for is enough.
#[test]
fn the_memory_that_the_message_names_is_enough() {
    let dir = scene();
    let (_, _, stderr) = cafevm(dir.path(), &["run", "--kvm", "no-kvm", "--memory", "2M"]);
    let (_, enough) = stderr.trim().rsplit_once(' ').unwrap();
    let (_, _, stderr) = cafevm(dir.path(), &["run", "--kvm", "no-kvm", "--memory", enough]);
    assert!(stderr.contains("no-kvm"), "--memory {enough}: {stderr}");
}

#[test]
fn a_path_need_not_be_text() {
    let dir = scene();
    let name = OsStr::from_bytes(b"\xffd.img");
    fs::copy(dir.path().join("d.img"), dir.path().join(name)).unwrap();
    let run = |flag: &str, value: &OsStr| {
        let args = ["run", "--kvm", "no-kvm", flag].map(OsString::from);
        cafevm(dir.path(), &[&args[..], &[value.to_owned()]].concat())
    };
    let prefixed = |bytes: &[u8]| OsStr::from_bytes(&[bytes, name.as_bytes()].concat()).to_owned();
    for (flag, value) in [
        ("--disk", name.to_owned()),
        ("--disk", prefixed(b"path=")),
        ("--initrd", name.to_owned()),
        ("--control", prefixed(b"new")),
        ("--serial", prefixed(b"new")),
    ] {
        let (code, _, stderr) = run(flag, &value);
        assert!(code == FAILED && stderr.contains("--kvm no-kvm"), "{flag}: {stderr}");
    }
    let (_, _, stderr) = run("--kernel", name);
    assert!(stderr.contains("not an ELF file: it begins with zeros"), "{stderr}");
    let (code, _, stderr) = run("--cmdline", name);
    let line =
        "cafevm: --cmdline '\u{fffd}d.img': it is not UTF-8; give UTF-8; see 'cafevm run --help'\n";
    assert_eq!((code, stderr.as_str()), (USAGE, line));
}

#[test]
fn an_image_of_another_format_is_used_as_raw_with_a_warning() {
    let dir = scene();
    fs::write(dir.path().join("q.img"), [&b"QFI\xfb"[..], &[0; 4092]].concat()).unwrap();
    let (code, _, stderr) = cafevm(dir.path(), &["run", "--kvm", "no-kvm", "--disk", "q.img"]);
    let warning = "cafevm: warning: --disk q.img: its first bytes are those of a qcow2 image; cafevm uses it as a raw \
         image, so the guest sees those bytes; if that is not meant, give format=qcow2";
    assert_eq!(code, FAILED);
    assert_eq!(stderr.lines().next(), Some(warning), "{stderr}");
    assert!(stderr.lines().nth(1).unwrap().contains("no-kvm"), "{stderr}");
    let (_, _, stderr) = cafevm(dir.path(), &["run", "--kvm", "no-kvm", "--disk", "d.img"]);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn completions_and_man_pages_are_written_to_standard_output() {
    for (args, word) in [
        (&["completions", "bash"][..], "complete -F _cafevm"),
        (&["completions", "zsh"], "#compdef cafevm"),
        (&["man"], ".TH cafevm 1"),
        (&["man", "run"], ".TH cafevm-run 1"),
    ] {
        let (code, stdout, stderr) = cafevm(Path::new("/"), args);
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout.contains(word), "{stdout}");
        // A reader that stops early, and a full disk.
        let mut command = Command::new(env!("CARGO_BIN_EXE_cafevm"));
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let full = File::options().write(true).open("/dev/full").unwrap();
        let full = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let ended = full.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(FAILED));
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.starts_with("cafevm: cannot write to standard output: "), "{said}");
    }
}

#[test]
fn the_version_names_the_commit_where_the_sources_are_in_git() {
    let (code, stdout, _) = cafevm(Path::new("/"), &["--version"]);
    let git = |args: &[&str]| {
        let dir = env!("CARGO_MANIFEST_DIR");
        let git = Command::new("git").current_dir(dir).args(args).output().ok()?;
        git.status.success().then(|| String::from_utf8(git.stdout).unwrap().trim().to_owned())
    };
    let is_ours = git(&["ls-files", "--error-unmatch", "build.rs"]);
    let commit = is_ours.and_then(|_| git(&["rev-parse", "--short=10", "HEAD"]));
    let version = env!("CARGO_PKG_VERSION");
    let with = commit.map(|commit| format!("cafevm {version} ({commit})\n"));
    assert_eq!((code, stdout), (0, with.unwrap_or(format!("cafevm {version}\n"))));
}
