//! `snapshot=on`: the guest writes, the image does not change, and no file is left behind.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::control::{Machine, Mounted};
use super::{Test, cafevm};

pub(crate) const TESTS: &[Test] = &[
    ("two_machines_write_to_one_image_that_stays", two_machines_write_to_one_image_that_stays),
    ("nothing_of_a_snapshot_is_left_after_sigkill", nothing_is_left_after_sigkill),
    ("a_snapshot_grows_and_its_image_does_not", a_snapshot_grows_and_its_image_does_not),
    ("a_snapshot_without_a_place_for_its_layer", a_snapshot_without_a_place_for_its_layer),
];

/// Tests that need a file system of their own, which only root can mount.
pub(crate) const ROOT_TESTS: &[Test] =
    &[("a_full_host_pauses_a_machine_with_a_snapshot", a_full_host_pauses_the_machine)];

/// An image of 64 sectors of ones, and a directory for layers.
struct Scene {
    dir: TempDir,
    layers: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene =
            Self { dir: tempfile::tempdir().unwrap(), layers: tempfile::tempdir().unwrap() };
        fs::write(scene.path("d.img"), [1; 64 * 512]).unwrap();
        scene
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn command(&self, layers: &Path) -> Command {
        let mut command = cafevm();
        command.env("TMPDIR", layers).current_dir(&self.dir);
        command
    }

    /// A machine with the image as a snapshot, with these options.
    fn machine(&self, name: &str, options: &str) -> Machine {
        fs::create_dir(self.path(name)).unwrap();
        let disk = format!("{},snapshot=on{options}", self.path("d.img"));
        let command = self.command(self.layers.path());
        let mut machine = Machine::spawn(command, Path::new(&self.path(name)), &disk);
        machine.read_to("cafevm> ");
        machine
    }

    fn is_untouched(&self) -> bool {
        let names = fs::read_dir(&self.layers).unwrap().count();
        fs::read(self.path("d.img")).unwrap() == [1; 64 * 512] && names == 0
    }
}

fn say(machine: &mut Machine, line: &str) -> String {
    machine.type_line(line);
    machine.read_to("cafevm> ")
}

fn two_machines_write_to_one_image_that_stays() {
    let scene = Scene::new();
    let mut machines = [scene.machine("one", ""), scene.machine("two", ",bus=svirtb,cache=none")];
    for (machine, text) in machines.iter_mut().zip(["written by one", "written by two"]) {
        for sector in [0, 63] {
            let said = say(machine, &format!("write {sector} {text}"));
            assert!(said.contains(&format!("wrote sector {sector}")), "{said}");
        }
    }
    for (machine, text) in machines.iter_mut().zip(["written by one", "written by two"]) {
        for sector in [0, 63] {
            let said = say(machine, &format!("read {sector}"));
            assert!(said.contains(text), "{said}");
        }
        let said = say(machine, "read 1");
        assert!(!said.contains("written"), "{said}");
    }
    // The guest may write to its disk, but the image is open for reading only.
    let writer = scene.command(scene.layers.path()).args(["--disk", "d.img"]).output().unwrap();
    let said = String::from_utf8(writer.stderr).unwrap();
    assert!(
        said.contains("d.img: in use by another cafevm") && said.contains("snapshot=on"),
        "{said}"
    );
    for machine in machines {
        machine.end();
    }
    assert!(scene.is_untouched());
}

fn nothing_is_left_after_sigkill() {
    let scene = Scene::new();
    let mut machine = scene.machine("one", "");
    say(&mut machine, "write 5 soon gone");
    let fds = format!("/proc/{}/fd", machine.child.id());
    let layers = fs::read_dir(fds).unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    let mut layers = layers.filter(|target| target.starts_with(scene.layers.path()));
    let layer = layers.next().unwrap();
    assert!(layer.to_str().unwrap().ends_with(" (deleted)"), "{}", layer.display());
    machine.child.kill().unwrap();
    machine.child.wait().unwrap();
    assert!(scene.is_untouched());
    // The next machine starts with the content of the image.
    let mut machine = scene.machine("two", "");
    assert!(!say(&mut machine, "read 5").contains("soon gone"));
    machine.end();
}

fn a_snapshot_grows_and_its_image_does_not() {
    let scene = Scene::new();
    let mut machine = scene.machine("one", ",id=data");
    let answer = machine.tell(r#"{"resize":{"id":"data","size":65536}}"#);
    assert_eq!(answer, r#"{"result":{"id":"data","size":65536}}"#);
    say(&mut machine, "reset");
    assert!(say(&mut machine, "write 127 the end").contains("wrote sector 127"));
    assert!(say(&mut machine, "read 127").contains("the end"));
    machine.end();
    assert!(scene.is_untouched());
}

fn a_snapshot_without_a_place_for_its_layer() {
    let scene = Scene::new();
    let mut command = scene.command(Path::new("/nowhere"));
    let ended = command.args(["--disk", "d.img,snapshot=on"]).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(4), "{said}");
    for word in ["/nowhere", "snapshot=on", "TMPDIR"] {
        assert!(said.contains(word), "{said}");
    }
}

fn a_full_host_pauses_the_machine() {
    let scene = Scene::new();
    let mounted = Mounted::new("256K").unwrap();
    let filler = mounted.0.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let disk = format!("{},snapshot=on,werror=stop", scene.path("d.img"));
    let mut machine = Machine::spawn(scene.command(mounted.0.path()), scene.dir.path(), &disk);
    machine.read_to("cafevm> ");
    machine.type_line("write 9 there was room");
    machine.wait_for_pause();
    fs::remove_file(&filler).unwrap();
    machine.tell(r#"{"resume":{}}"#);
    machine.read_to("wrote sector 9");
    machine.read_to("cafevm> ");
    assert!(say(&mut machine, "read 9").contains("there was room"));
    machine.type_line("exit");
    let mut said = String::new();
    machine.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    machine.child.wait().unwrap();
    let place = format!("(the layer of snapshot=on, in {})", mounted.0.path().display());
    assert!(said.contains("No space left on device") && said.contains(&place), "{said}");
    assert!(scene.is_untouched());
}
