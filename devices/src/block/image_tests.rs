use super::*;

const RW: Opening = Opening::cached(Access::ReadWrite);
const RO: Opening = Opening::cached(Access::ReadOnly);

fn image(dir: &tempfile::TempDir, len: u64) -> PathBuf {
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(len).unwrap();
    path
}

#[test]
fn an_image_is_measured_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, 1300);
    let opened = Image::open(&path, RW).unwrap();
    assert_eq!((opened.size(), opened.read_only()), (1300, false));
    assert_eq!(opened.name(), path.display().to_string());
}

#[test]
fn what_cannot_be_a_disk_is_named_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| Image::open(path, RW).unwrap_err();
    assert!(matches!(open(&dir.path().join("none")), ImageError::Missing { .. }));
    assert!(matches!(open(dir.path()), ImageError::Directory { .. }));
    assert!(matches!(open(Path::new("/dev/null")), ImageError::NotAFile { .. }));
    let error = open(&image(&dir, 0));
    assert!(matches!(error, ImageError::Empty { .. }));
    assert!(error.to_string().contains("d.img: is empty"), "{error}");
    let error = open(&dir.path().join("d.img/below"));
    assert!(matches!(error, ImageError::Host { what: "open", .. }), "{error}");
}

#[test]
fn one_writer_or_many_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, 512);
    let in_use = |opening| matches!(Image::open(&path, opening), Err(ImageError::InUse { .. }));
    let writer = Image::open(&path, RW).unwrap();
    assert!(in_use(RW));
    assert!(in_use(RO));
    drop(writer);
    let readers: Vec<_> = (0..3).map(|_| Image::open(&path, RO).unwrap()).collect();
    assert!(in_use(RW));
    drop(readers);
    assert!(!in_use(RW));
}

#[test]
fn past_the_page_cache_goes_the_same_file_whatever_its_path_names_by_now() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, 4096);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // Another program replaces the image just after it was opened and locked.
    std::fs::rename(&path, dir.path().join("moved.img")).unwrap();
    File::create(&path).unwrap().set_len(4096).unwrap();
    let (direct, _) = open_direct(&file, &path, true).unwrap();
    let inode = |file: &File| file.metadata().unwrap().ino();
    assert_eq!(inode(&direct), inode(&file));
    assert_ne!(inode(&direct), path.metadata().unwrap().ino());
}

#[test]
fn what_an_image_holds_is_never_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, 4096);
    // A guest may write any of these over its first sector, and boot again.
    for magic in [&b"QFI\xfb\0\0\0\x03"[..], b"KDMV", b"conectix", b"vhdxfile", b"<<< "] {
        std::fs::write(&path, [magic, &[0xff; 2048]].concat()).unwrap();
        let opened = Image::open(&path, RO).unwrap();
        let mut bytes = vec![0; magic.len()];
        std::os::unix::fs::FileExt::read_exact_at(opened.file(), &mut bytes, 0).unwrap();
        assert_eq!((opened.size(), &bytes[..]), (magic.len() as u64 + 2048, magic));
    }
}
