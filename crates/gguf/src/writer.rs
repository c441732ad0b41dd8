//! How is a file written?
//!
//! [`Writer`] collects metadata and tensors and writes them as GGUF version 3: for tests and tools. What it writes can be read
//! back: the finished header passes the reader's own checks before the first byte leaves.

use std::io::Write;

use quant::Format;

use crate::codec::{encode_string, encode_value};
use crate::error::GgufError;
use crate::limits;
use crate::mapping::TensorBytes;
use crate::reader::read_header;
use crate::value::Value;

/// A model to be written.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    metadata: Vec<(String, Value)>,
    tensors: Vec<OutTensor>,
}

#[derive(Clone, Debug)]
struct OutTensor {
    name: String,
    format: Format,
    /// Innermost dimension first.
    shape: Vec<usize>,
    bytes: TensorBytes,
}

impl Writer {
    /// An empty model.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Adds a key. `general.alignment` sets the alignment of the tensors' data.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Writer {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds a tensor of `shape`, innermost dimension first.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        format: Format,
        shape: &[usize],
        bytes: impl Into<TensorBytes>,
    ) -> &mut Writer {
        self.tensors.push(OutTensor {
            name: name.into(),
            format,
            shape: shape.to_vec(),
            bytes: bytes.into(),
        });
        self
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the reader would refuse, [`GgufError::TensorData`] for data that its shape contradicts, [`GgufError::Write`].
    pub fn write(&self, out: &mut impl Write) -> Result<(), GgufError> {
        let mut header = b"GGUF".to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            encode_string(key.as_bytes(), &mut header);
            header.extend(value.value_type().id().to_le_bytes());
            encode_value(value, &mut header);
        }
        let alignment = self.alignment()?;
        let mut offset = 0;
        for tensor in &self.tensors {
            encode_string(tensor.name.as_bytes(), &mut header);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            for &dim in &tensor.shape {
                header.extend((dim as u64).to_le_bytes());
            }
            header.extend(tensor.format.id().to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(alignment);
        }
        header.resize(header.len().next_multiple_of(alignment), 0);

        let (header, file_len) = (TensorBytes::from(header), offset as u64);
        let read = read_header(&header, header.len() as u64 + file_len)?;
        for (info, tensor) in read.tensors.iter().zip(&self.tensors) {
            let (expected, found) = (info.n_bytes, tensor.bytes.len());
            if expected != found {
                return Err(GgufError::TensorData { name: tensor.name.clone(), expected, found });
            }
        }
        let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(|error| GgufError::Write { error });
        write(&header)?;
        for tensor in &self.tensors {
            write(&tensor.bytes)?;
            let padding = tensor.bytes.len().next_multiple_of(alignment) - tensor.bytes.len();
            write(&vec![0; padding])?;
        }
        Ok(())
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, GgufError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    fn alignment(&self) -> Result<usize, GgufError> {
        let key = "general.alignment";
        let Some((_, value)) = self.metadata.iter().find(|(k, _)| k == key) else {
            return Ok(limits::DEFAULT_ALIGNMENT);
        };
        value.integer().and_then(limits::alignment).ok_or_else(|| GgufError::WrongValue {
            key: key.to_owned(),
            offset: 0,
            expected: limits::ALIGNMENT_RULE.to_owned(),
            found: value.to_string(),
        })
    }
}
