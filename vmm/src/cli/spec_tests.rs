use std::num::NonZeroU64;

use cafevm_devices::block::Rate;

use super::*;

fn disk(path: &str, access: Access, bus: DiskBus) -> DiskConfig {
    DiskConfig { access, bus, ..DiskConfig::new(path) }
}

fn virtio(id: &str) -> DiskBus {
    DiskBus::Virtio(BlkOptions { id: id.to_owned(), ..BlkOptions::default() })
}

#[test]
fn a_spec_is_a_path_or_keys() {
    let rw = Access::ReadWrite;
    let svirtb = |entry_size| DiskBus::Svirtb { entry_size };
    for (text, expected) in [
        ("d.img", disk("d.img", rw, virtio(""))),
        ("path=d.img", disk("d.img", rw, virtio(""))),
        ("d.img,ro", disk("d.img", Access::ReadOnly, virtio(""))),
        ("path=d.img,readonly=on,id=root", disk("d.img", Access::ReadOnly, virtio("root"))),
        ("path=d.img,bus=svirtb", disk("d.img", rw, svirtb(EntrySize::Auto))),
        ("bus=svirtb,entry-size=28,path=a=b", disk("a=b", rw, svirtb(EntrySize::Packed))),
        ("path=a,,b.img,bus=virtio", disk("a,b.img", rw, virtio(""))),
        ("/tmp/a,,,,b", disk("/tmp/a,,b", rw, virtio(""))),
    ] {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
    for bus in ["virtio", "svirtb"] {
        let snapshot = |value| parse(format!("d,bus={bus},snapshot={value}")).unwrap().snapshot;
        assert!(snapshot("on") && !snapshot("off"));
    }
    assert!(!parse("d").unwrap().snapshot);
}

#[test]
fn a_virtio_disk_has_its_own_keys() {
    let text = "d,engine=mmap,cache=unsafe,werror=stop,queues=4,queue-size=1024,block-size=4096,id=x,doorbell=spin";
    let options = BlkOptions {
        id: "x".to_owned(),
        queues: 4,
        queue_size: 1024,
        block_size: 4096,
        ..BlkOptions::default()
    };
    let expected = DiskConfig {
        cache: Cache::Unsafe,
        engine: EngineKind::Mmap,
        doorbell: Doorbell::Spin,
        on_full: OnFull::Stop,
        bus: DiskBus::Virtio(options),
        ..DiskConfig::new("d")
    };
    assert_eq!(parse(text), Ok(expected));
}

#[test]
fn a_disk_has_a_format_and_layers() {
    let layers = |text: &str| parse(text).unwrap().layers;
    assert_eq!(layers("d"), Layers::default());
    let allowed =
        Layers { format: ImageFormat::Qcow2, backing: Backing::Allow, overlay: Some("a,b".into()) };
    assert_eq!(layers("d,format=qcow2,backing=allow,overlay=a,,b,bus=svirtb"), allowed);
    for (text, words) in [
        ("d,format=vmdk", "raw, qcow2"),
        ("d,backing=on", "refuse, allow"),
        ("d,overlay=", "'overlay' needs a value"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_disk_on_either_bus_may_have_limits() {
    let number = |n| NonZeroU64::new(n).unwrap();
    let rate =
        |per_second, burst| Some(Rate { per_second: number(per_second), burst: number(burst) });
    for bus in ["virtio", "svirtb"] {
        let limits = |keys| parse(format!("d,bus={bus},{keys}")).unwrap().limits;
        let bytes = rate(10 << 20, 1 << 20);
        assert_eq!(limits("bps=10M"), Limits { bytes, requests: None });
        let expected = Limits { bytes: rate(1024, 512 << 10), requests: rate(100, 7) };
        assert_eq!(limits("bps=1K,bps-burst=512K,iops=100,iops-burst=7"), expected);
        assert!(limits("iops=0,bps=0K").is_none());
    }
    assert!(parse("d").unwrap().limits.is_none());
}

#[test]
fn what_is_wrong_is_said_with_the_way_out() {
    for (text, says) in [
        ("path=d,reodonly=on", "unknown key 'reodonly' (do you mean 'readonly'?)"),
        ("path=d,length=1", "unknown key 'length'; the keys are path, bus"),
        (
            "path=d,cache=",
            "bad value '' for cache; it is one of writeback, writethrough, none, unsafe",
        ),
        ("path=d,engine=aio", "bad value 'aio' for engine; it is one of sync, mmap, uring, auto"),
        ("path=d,queues=0", "0 queues: a disk has 1 to 16"),
        ("path=d,queues=many", "bad value 'many' for queues"),
        ("path=d,queue-size=100", "power of two from 4 to 1024"),
        ("path=d,queue-size=2", "a queue of 2 entries: the size is a power of two from 4"),
        ("path=d,queue-size=65544", "bad value '65544' for queue-size"),
        ("path=d,block-size=1024", "it is one of 512, 4096"),
        ("path=d,bus=svirtb,queues=2", "queues is for bus=virtio"),
        ("a,b.img", "a comma in a path is written ',,'"),
        ("path=d,bus=scsi", "bad value 'scsi' for bus; it is one of virtio, svirtb"),
        ("path=d,readonly=yes", "bad value 'yes' for readonly; it is one of on, off"),
        ("path=d,snapshot=yes", "bad value 'yes' for snapshot; it is one of on, off"),
        ("path=d,bus=svirtb,entry-size=30", "it is one of auto, 32, 28"),
        ("path=d,entry-size=32", "entry-size is for bus=svirtb"),
        ("path=d,bus=svirtb,id=x", "id is for bus=virtio"),
        ("path=d,id=123456789012345678901", "has 21 bytes; a disk's id has at most 20"),
        ("d,iops=fast", "bad value 'fast' for iops; it is one of the whole numbers; 0 is no limit"),
        ("d,bps=1000", "bad value for bps: '1000' has no unit; write 1000M for MiB"),
        ("d,bps-burst=1M", "bps-burst needs bps, the limit itself"),
        ("d,iops=10,iops-burst=0", "iops-burst is 0, so that nothing could begin"),
        ("path=d,bus", "'bus' needs a value"),
        ("path=d,path=e", "'path' is given twice"),
        ("ro,path=e", "'path' is given twice"),
        ("bus=virtio", "no path; give path=FILE"),
        ("path=", "no path"),
        ("", "no path"),
        (
            "d.img,",
            "a key is missing after a comma; leave the comma out, or write ',,' for a comma in a path",
        ),
        ("d.img,ro,,id=x", "unknown key 'ro,id'"),
        ("path=d.img,,,", "a key is missing after a comma"),
        ("a=b.img", "; if it is a path, write path=a=b.img"),
        ("a=b,,c.img,ro", "; if it is a path, write path=a=b,,c.img"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn a_path_may_hold_any_bytes() {
    let disk = parse(OsStr::from_bytes(b"/tmp/\xff,,\xfe.img,ro")).unwrap();
    assert_eq!(disk.path.as_os_str().as_bytes(), b"/tmp/\xff,\xfe.img");
    assert_eq!(disk.access, Access::ReadOnly);
    let disk = parse(OsStr::from_bytes(b"id=x,path=a=\xff")).unwrap();
    assert_eq!(disk.path.as_os_str().as_bytes(), b"a=\xff");
    for (text, says) in [
        (&b"d,id=\xff"[..], "bad value '\u{fffd}' for id; it is one of texts in UTF-8"),
        (b"d,bus=\xff", "bad value '\u{fffd}' for bus"),
        (b"d,\xff=1", "unknown key '\u{fffd}'"),
    ] {
        let error = parse(OsStr::from_bytes(text)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
