//! Files byte by byte, right or wrong, which the writer would refuse to make.

/// A file under construction in one of the versions of the format.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    version: u32,
}

impl Raw {
    /// A header that claims this many tensors and keys.
    pub(crate) fn new(version: u32, n_tensors: u64, n_keys: u64) -> Raw {
        let raw = Raw { bytes: b"GGUF".to_vec(), version };
        raw.u32(version).count(n_tensors).count(n_keys)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Raw {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(self, value: u32) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    /// A count or length of the version's width.
    pub(crate) fn count(self, value: u64) -> Raw {
        if self.version == 1 { self.u32(value as u32) } else { self.u64(value) }
    }

    pub(crate) fn string(self, text: &[u8]) -> Raw {
        self.count(text.len() as u64).bytes(text)
    }

    /// A key and the id of its value's type.
    pub(crate) fn key(self, key: &str, value_type: u32) -> Raw {
        self.string(key.as_bytes()).u32(value_type)
    }

    /// A tensor's entry; its offset is relative to the start of the data.
    pub(crate) fn tensor(self, name: &str, dims: &[u64], (format, offset): (u32, u64)) -> Raw {
        let raw = self.string(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(raw, |raw, &dim| raw.count(dim)).u32(format).u64(offset)
    }

    /// Zeros up to a multiple of `alignment`.
    pub(crate) fn pad(mut self, alignment: usize) -> Raw {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
        self
    }
}

/// A small valid file of a version: a value of every type, arrays of strings, bools and arrays, and two tensors.
pub(crate) fn small(version: u32) -> Vec<u8> {
    Raw::new(version, 2, 16)
        .key("general.architecture", 8)
        .string(b"llama")
        .key("u8", 0)
        .bytes(&[200])
        .key("i8", 1)
        .bytes(&[0x80])
        .key("u16", 2)
        .bytes(&60000u16.to_le_bytes())
        .key("i16", 3)
        .bytes(&(-300i16).to_le_bytes())
        .key("u32", 4)
        .u32(4_000_000_000)
        .key("i32", 5)
        .bytes(&(-5i32).to_le_bytes())
        .key("f32", 6)
        .bytes(&0.5f32.to_le_bytes())
        .key("bool", 7)
        .bytes(&[1])
        .key("u64", 10)
        .u64(1 << 63)
        .key("i64", 11)
        .u64(u64::MAX)
        .key("f64", 12)
        .bytes(&(-2.5f64).to_le_bytes())
        .key("tokens", 9)
        .u32(8)
        .count(3)
        .string(b"a")
        .string(b"")
        .string(b"\xff\xfe")
        .key("scores", 9)
        .u32(6)
        .count(2)
        .bytes(&1f32.to_le_bytes())
        .bytes(&(-1f32).to_le_bytes())
        .key("nested", 9)
        .u32(9)
        .count(2)
        .u32(0)
        .count(3)
        .bytes(&[1, 2, 3])
        .u32(8)
        .count(1)
        .string(b"deep")
        .key("general.alignment", 4)
        .u32(8)
        .tensor("a.weight", &[32, 2], (8, 0))
        .tensor("b.bias", &[3], (0, 72))
        .pad(8)
        .bytes(&[1; 68])
        .bytes(&[0; 4])
        .bytes(&1.5f32.to_le_bytes())
        .bytes(&2.5f32.to_le_bytes())
        .bytes(&3.5f32.to_le_bytes())
        .bytes
}
