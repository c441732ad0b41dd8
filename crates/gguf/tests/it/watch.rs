//! Files that change after they were opened.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use gguf::{FileChange, Gguf, Writer};
use quant::Format;

fn write(path: &Path) {
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").tensor("a", Format::F32, &[2048], vec![1; 8192]);
    std::fs::write(path, writer.to_bytes().unwrap()).unwrap();
}

#[test]
fn what_happens_to_an_open_file_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let open = || {
        write(&path);
        Gguf::open(&path).unwrap()
    };
    let file = || File::options().write(true).open(&path).unwrap();

    assert_eq!(open().check_files(), Ok(()));

    let gguf = open();
    file().set_len(100).unwrap();
    let change = gguf.check_files().unwrap_err();
    assert!(matches!(change, FileChange::Length { found: 100, .. }) && !change.is_harmless(), "{change}");

    let gguf = open();
    file().set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    let change = gguf.check_files().unwrap_err();
    assert!(matches!(change, FileChange::Written { .. }) && !change.is_harmless(), "{change}");

    let gguf = open();
    let other = folder.path().join("other");
    write(&other);
    std::fs::rename(&other, &path).unwrap();
    let change = gguf.check_files().unwrap_err();
    assert!(change.is_harmless() && change.to_string().ends_with("found another in its place"), "{change}");
    assert!(!gguf.is_lost() && gguf.tensor("a").unwrap().bytes.iter().all(|&byte| byte == 1));

    let gguf = open();
    std::fs::remove_file(&path).unwrap();
    let change = gguf.check_files().unwrap_err();
    assert!(change.is_harmless() && change.to_string().ends_with("found none at its path"), "{change}");
    assert_eq!(Gguf::from_bytes(Writer::new().to_bytes().unwrap()).unwrap().check_files(), Ok(()));
}

#[test]
fn a_file_in_memory_does_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    write(&path);
    let gguf = Gguf::read(&path).unwrap();
    File::create(&path).unwrap();
    assert!(gguf.tensor("a").unwrap().bytes.iter().all(|&byte| byte == 1) && !gguf.is_lost());
    assert!(matches!(gguf.check_files(), Err(FileChange::Length { found: 0, .. })));
    assert!(Gguf::read(&path).is_err());
}
