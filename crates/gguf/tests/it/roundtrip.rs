//! What is written is what is read, in every version of the format.

use gguf::{Array, Gguf, GgufError, Value, Writer};
use quant::Format;

use crate::raw::small;
use crate::walk::walk;

type Tensors = Vec<(String, Format, Vec<usize>, Vec<u8>)>;

/// Everything that a model says.
fn content(gguf: &Gguf) -> (Vec<(String, Value)>, Tensors) {
    let metadata = gguf.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let tensor = |name: &str| {
        let tensor = gguf.tensor(name).unwrap();
        (tensor.info.name, tensor.info.format, tensor.info.shape, tensor.bytes.to_vec())
    };
    (metadata, gguf.tensors().iter().map(|info| tensor(&info.name)).collect())
}

/// The file that the writer makes of a model.
pub(crate) fn rewrite(gguf: &Gguf) -> Vec<u8> {
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata().iter() {
        writer.set(key, value.clone());
    }
    for info in gguf.tensors() {
        writer.tensor(info.name.as_str(), info.format, &info.shape, gguf.tensor(&info.name).unwrap().bytes);
    }
    writer.to_bytes().unwrap()
}

#[test]
fn the_three_versions_say_the_same() {
    let [one, two, three] = [1, 2, 3].map(|version| Gguf::from_bytes(small(version)).unwrap());
    assert_eq!([one.version(), two.version(), three.version()], [1, 2, 3]);
    assert_eq!(content(&one), content(&three));
    assert_eq!(content(&two), content(&three));
    // Written again each becomes version 3, byte by byte up to the padding after the last tensor.
    for gguf in [one, two, three] {
        assert_eq!(rewrite(&gguf).strip_suffix(&[0; 4]), Some(&small(3)[..]));
    }
}

#[test]
fn all_values_and_formats_survive_writing() {
    let mut writer = Writer::new();
    writer
        .set("general.alignment", 64u32)
        .set("text", "r\u{e9}sum\u{e9} \u{1f600}\0")
        .set("raw", &b"\xff\0"[..]);
    writer.set("u8", u8::MAX).set("i8", i8::MIN).set("u16", u16::MAX).set("i16", i16::MIN);
    writer.set("u32", u32::MAX).set("i32", i32::MIN).set("u64", u64::MAX).set("i64", i64::MIN);
    writer.set("f32", f32::MIN_POSITIVE).set("f64", f64::MAX).set("yes", true).set("no", false);
    writer.set("empty", Vec::<u32>::new()).set("none", Vec::<&str>::new()).set("u64s", vec![1u64, u64::MAX]);
    writer.set("strings", vec!["", "a", "\u{4e2d}"]).set("bools", vec![true, false, true]);
    let rows = [
        Array::from(vec![1i16, -1]),
        Array::string_array(["x", ""]),
        Array::nested(&[Array::from(vec![0.5f64])]),
    ];
    writer.set("nested", Array::nested(&rows));
    for (i, format) in Format::ALL.into_iter().enumerate() {
        let (row, n_rows) = (format.block_len() * 2, i % 3 + 1);
        let bytes: Vec<u8> =
            (0..format.bytes_for(row * n_rows).unwrap()).map(|j| (i * 31 + j) as u8).collect();
        writer.tensor(format.name(), format, &[row, n_rows], bytes);
    }
    let bytes = writer.to_bytes().unwrap();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    walk(&gguf);
    assert_eq!((gguf.alignment(), gguf.tensors().len(), gguf.metadata().len()), (64, Format::ALL.len(), 21));
    assert!(gguf.tensors().iter().all(|info| info.offset % 64 == 0));
    assert_eq!(gguf.metadata().get("nested"), Some(&Value::Array(Array::nested(&rows))));
    assert_eq!(rewrite(&gguf), bytes);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let opened = Gguf::open(&path).unwrap();
    opened.prefetch();
    assert_eq!((opened.file_len(), opened.paths()), (bytes.len() as u64, &[path][..]));
    // A tensor outlives the file it came from.
    let tensor = opened.tensor("Q6_K").unwrap();
    tensor.bytes.prefault();
    let (row, rest) = (tensor.bytes.slice(0..420).unwrap(), tensor.bytes.len());
    assert!(tensor.bytes.slice(0..rest + 1).is_err());
    assert_eq!(content(&opened), content(&gguf));
    drop((opened, tensor));
    assert_eq!(row[..], gguf.tensor("Q6_K").unwrap().bytes[..420]);
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let refused = |writer: &Writer| writer.to_bytes().unwrap_err();
    assert!(matches!(refused(Writer::new().set("a", 1u8).set("a", 2u8)), GgufError::DuplicateKey { .. }));
    assert!(matches!(refused(Writer::new().set("", 1u8)), GgufError::Empty { .. }));
    assert!(matches!(refused(Writer::new().set("general.alignment", 3u32)), GgufError::WrongValue { .. }));
    let mut writer = Writer::new();
    writer.tensor("t", Format::Q4_0, &[48], vec![0; 27]);
    assert!(matches!(refused(&writer), GgufError::TensorShape { .. }));
    let mut writer = Writer::new();
    writer.tensor("t", Format::Q4_0, &[64], vec![0; 18]);
    assert!(matches!(refused(&writer), GgufError::TensorBounds { .. } | GgufError::TensorData { .. }));
}
