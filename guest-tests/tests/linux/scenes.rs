//! The scenes: what the inner machine is to do, and what must come of it.

use std::fs;
use std::time::Duration;

use cafevm_guest_tests::{Failed, Outcome};

use crate::desk;
use crate::disk;
use crate::kernel::Form;
use crate::scene::{FIRST_MIB, Played, SECOND, SECOND_MIB, Scene};
use crate::storage;

type Play = Box<dyn FnOnce(&str) -> Outcome + Send>;

/// All of them by name.
pub(crate) fn all() -> Vec<(&'static str, Play)> {
    let mut all: Vec<(&'static str, Play)> = Vec::new();
    for (name, form, cpus, end) in [
        ("disks_bzimage_1_cpu", Form::BzImage, 1, "poweroff"),
        ("disks_bzimage_2_cpus", Form::BzImage, 2, "reboot"),
        ("disks_pvh_1_cpu", Form::Pvh, 1, "reboot"),
        ("disks_pvh_2_cpus", Form::Pvh, 2, "poweroff"),
        ("disks_elf_1_cpu", Form::Elf, 1, "poweroff"),
        ("disks_elf_2_cpus", Form::Elf, 2, "reboot"),
    ] {
        all.push((name, Box::new(move |name| disks(name, form, cpus, end))));
    }
    all.push(("reboots", Box::new(reboots)));
    all.push(("panics", Box::new(panics)));
    all.push(("login_shell_and_a_paste", Box::new(shell)));
    all.push(("ram_above_4_gib", Box::new(high_ram)));
    all.push(("keyboard_and_display", Box::new(desk::keyboard_and_display)));
    all.push(("disks_of_each_kind", Box::new(storage::disks_of_each_kind)));
    all.push(("no_driver_and_milestones", Box::new(no_driver)));
    all
}

/// Two disks, one a block device of the host: read, written, discarded, and looked at from outside. And random bytes.
fn disks(name: &str, form: Form, cpus: u32, end: &str) -> Outcome {
    let kernel = form.file();
    // Linux makes no mistake: any error or warning of the doctor changes the exit status.
    let doctor = if form == Form::Pvh { "--doctor=deny" } else { "" };
    let go = format!(
        "./cafevm run -v {doctor} --kernel {kernel} --initrd initramfs --memory 256M --cpus {cpus} --timeout 150 \
         --cmdline 'quiet do=disks end={end}' \
         --disk path=/dev/vdb,id=first --disk path={SECOND},id=second --rng </dev/null\n\
         echo \"STATUS $?\"\n"
    );
    let scene = Scene {
        name: name.to_owned(),
        forms: vec![form],
        files: Vec::new(),
        go,
        typed: Vec::new(),
        limit: Duration::from_secs(240),
    };
    let played = scene.play()?;
    let (first, second) = (FIRST_MIB * 2048, SECOND_MIB * 2048);
    played.says("INNER cpus ", &format!("{cpus} vda {first} first vdb {second} second"))?;
    played.says("INNER hwrng ", "virtio_rng.0 64 bytes")?;
    played.says("INNER random", "")?;
    played.says("INNER read ", &format!("{} {}", played.token, played.sum))?;

    // From outside: the guest's writes are on the disk.
    let (out, sum) = (played.dir.join("out"), played.dir.join("out.md5"));
    disk::check(&played.first)?;
    disk::copy_out(&played.first, "/out", &out)?;
    disk::copy_out(&played.first, "/out.md5", &sum)?;
    let (is, said) = (disk::md5(&out)?, fs::read_to_string(&sum)?.trim().to_owned());
    played.ensure(is == said, &format!("/out has the sum {is} and not {said}"))?;
    played.says("INNER wrote ", &format!("{said} of {said}"))?;

    let image = played.dir.join(SECOND);
    disk::copy_out(&played.payload, &format!("/{SECOND}"), &image)?;
    disk::check(&image)?;
    disk::copy_out(&image, "/kept", &out)?;
    played.ensure(fs::read_to_string(&out)? == "kept\n", "/kept is something else")?;
    // 8 MiB of ballast were written and given back.
    let kib = disk::kib_of(&played.payload, &format!("/{SECOND}"))?;
    played.ensure(kib < 8 << 10, &format!("{SECOND} still takes {kib} KiB"))?;

    played.says("STATUS ", "0")?;
    stages(name, &played)
}

/// Prints when each stage was reached, in seconds of the emulated machine's run.
fn stages(name: &str, played: &Played) -> Outcome {
    let at = |text: &str| played.log.time(text, 0.0).unwrap_or(f64::NAN);
    let (outer, inner, end, left) =
        (at("OUTER up"), at("INNER init"), at("INNER ends"), at("STATUS "));
    eprintln!(
        "{name}: outer machine up {outer:.1} s, inner /init {:.1} s later, its work {:.1} s, its end {:.2} s",
        inner - outer,
        end - inner,
        left - end
    );
    Ok(())
}

/// Runs of one inner machine after another: a name, the number of vCPUs, the command line, the exit status.
type Run = (&'static str, u32, &'static str, u8);

/// How soon cafevm must be gone after the guest began to end, in seconds, however busy the emulator is. On a
/// processor that is not emulated it is milliseconds.
const PROMPTLY: f64 = 10.0;

fn run_all(name: &str, runs: &[Run]) -> Result<Played, Failed> {
    let go = runs.iter().map(|(run, cpus, command_line, _)| {
        format!(
            "./cafevm run -vv --kernel bzimage --initrd initramfs --memory 256M --cpus {cpus} --timeout 60 \
             --cmdline 'quiet {command_line}' </dev/null\necho \"STATUS $? {run}\"\n"
        )
    });
    let scene = Scene {
        name: name.to_owned(),
        forms: vec![Form::BzImage],
        files: Vec::new(),
        go: go.collect(),
        typed: Vec::new(),
        limit: Duration::from_secs(60 + 45 * runs.len() as u64),
    };
    let played = scene.play()?;
    let mut from = 0.0;
    for (run, _, _, status) in runs {
        let line = format!("STATUS {status} {run}");
        let (asked, left) = (played.log.time("INNER ends", from), played.log.time(&line, from));
        let (Some(asked), Some(left)) = (asked, left) else {
            played.ensure(false, &format!("no line '{line}'"))?;
            continue;
        };
        let took = left - asked;
        eprintln!("{name}, {run}: status {status} after {took:.2} s");
        played.ensure(took < PROMPTLY, &format!("'{run}' took {took:.2} s to end"))?;
        from = left;
    }
    Ok(played)
}

/// Whichever way a guest restarts, it ends cafevm, with status 0.
fn reboots(name: &str) -> Outcome {
    run_all(
        name,
        &[
            ("default, 1 vCPU", 1, "end=reboot", 0),
            ("default, 2 vCPUs", 2, "end=reboot", 0),
            ("keyboard controller", 1, "end=reboot reboot=k", 0),
            ("triple fault", 1, "end=reboot reboot=t", 0),
            ("acpi", 1, "end=reboot reboot=a", 0),
            ("bios", 1, "end=reboot reboot=b", 0),
            ("pci", 1, "end=reboot reboot=p", 0),
            ("efi", 1, "end=reboot reboot=e", 0),
        ],
    )
    .map(drop)
}

/// A panic ends cafevm with status 6.
fn panics(name: &str) -> Outcome {
    let played = run_all(
        name,
        &[
            ("panic=-1, 1 vCPU", 1, "end=panic panic=-1", 6),
            ("panic=-1, 2 vCPUs", 2, "end=panic panic=-1", 6),
            ("no panic=", 2, "end=panic", 6),
            ("keyboard controller", 1, "end=panic reboot=k", 6),
            ("the end of init", 1, "end=exit", 6),
            ("pvpanic, panic=0", 1, "do=pvpanic end=panic panic=0", 6),
        ],
    )?;
    played.ensure(
        played.log.time("panicked (and reported it through pvpanic)", 0.0).is_some(),
        "no pvpanic",
    )
}

/// A person at a terminal: a login shell, 10 KiB pasted into it, Ctrl-A X.
fn shell(name: &str) -> Outcome {
    let line = "the quick brown fox jumps over the lazy dog and over 10 KiB of it.\n";
    let paste = line.repeat((10 << 10) / line.len() + 1);
    let scene = Scene {
        name: name.to_owned(),
        forms: vec![Form::BzImage],
        files: Vec::new(),
        go: "./cafevm run --kernel bzimage --initrd initramfs --memory 256M --timeout 150 \
             --cmdline 'quiet do=shell'\necho \"STATUS $?\"\n"
            .to_owned(),
        typed: vec![
            ("INNER shell", b"tty; echo $((6 * 7)) sheep\n".to_vec()),
            (
                "42 sheep",
                b"stty -echo; echo $((1 + 1)) ready; cat >/tmp/paste; echo $((2 * 3)) pasted\n"
                    .to_vec(),
            ),
            ("2 ready", [paste.as_bytes(), b"\x04"].concat()),
            ("6 pasted", b"echo sum $(md5sum </tmp/paste)\n".to_vec()),
            ("sum ", b"\x01x".to_vec()),
        ],
        limit: Duration::from_secs(240),
    };
    let played = scene.play()?;
    let file = played.dir.join("paste");
    fs::write(&file, &paste)?;
    played.says("sum ", &format!("{} -", disk::md5(&file)?))?;
    played.says("STATUS ", "0")
}

/// A disk without a driver in the guest is named at the end. And -v logs the start-up times.
fn no_driver(name: &str) -> Outcome {
    let scene = Scene {
        name: name.to_owned(),
        forms: vec![Form::BzImage],
        files: Vec::new(),
        go: format!(
            "./cafevm run -v --kernel bzimage --initrd initramfs --memory 256M --timeout 60 \
             --disk {SECOND} </dev/null\necho \"STATUS $?\"\n"
        ),
        typed: Vec::new(),
        limit: Duration::from_secs(120),
    };
    let played = scene.play()?;
    let line = |text: &str| played.log.time(text, 0.0).is_some();
    played.ensure(line("the guest never used virtio0"), "no line about the missing driver")?;
    played.ensure(line("command line: console=ttyS0 panic=-1 virtio_mmio."), "no command line")?;
    let after = |text: &str| played.log.after(text).unwrap_or("?").to_owned();
    let (first, init) =
        ("the guest's first byte came after", "the guest's first process was started after");
    played.ensure(line(first) && line(init), "no milestones")?;
    eprintln!("{name}: first byte after {}, first process after {}", after(first), after(init));
    played.says("STATUS ", "0")
}

/// 5 GiB: two of them above 4 GiB. What the guest does not touch, the host does not give.
fn high_ram(name: &str) -> Outcome {
    let scene = Scene {
        name: name.to_owned(),
        forms: vec![Form::BzImage],
        files: Vec::new(),
        go: "./cafevm run --kernel bzimage --initrd initramfs --memory 5G --timeout 100 \
             --cmdline 'quiet do=memory' </dev/null\necho \"STATUS $?\"\n"
            .to_owned(),
        typed: Vec::new(),
        limit: Duration::from_secs(160),
    };
    let played = scene.play()?;
    let kib = played.log.after("INNER memory ").and_then(|kib| kib.parse::<u64>().ok());
    played.ensure(kib.is_some_and(|kib| kib > 4 << 20), "the guest has no more than 4 GiB")?;
    played.says("STATUS ", "0")
}
