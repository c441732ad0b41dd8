//! The block formats by their ggml type id, and the size of a block of each.
//!
//! Ids and sizes: ggml's `enum ggml_type` and the block structs of `ggml-common.h`.

use std::fmt;

/// How a tensor's values are stored: a ggml tensor type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)]
#[repr(u32)]
pub enum Format {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ2_XXS = 16,
    IQ2_XS = 17,
    IQ3_XXS = 18,
    IQ1_S = 19,
    IQ4_NL = 20,
    IQ3_S = 21,
    IQ2_S = 22,
    IQ4_XS = 23,
    IQ1_M = 29,
    BF16 = 30,
    TQ1_0 = 34,
    TQ2_0 = 35,
    MXFP4 = 39,
    NVFP4 = 40,
    Q1_0 = 41,
    Q2_0 = 42,
}

impl Format {
    /// Every format that this project reads.
    pub const ALL: [Format; 28] = [
        Format::F32,
        Format::F16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::IQ2_XXS,
        Format::IQ2_XS,
        Format::IQ3_XXS,
        Format::IQ1_S,
        Format::IQ4_NL,
        Format::IQ3_S,
        Format::IQ2_S,
        Format::IQ4_XS,
        Format::IQ1_M,
        Format::BF16,
        Format::TQ1_0,
        Format::TQ2_0,
        Format::MXFP4,
        Format::NVFP4,
        Format::Q1_0,
        Format::Q2_0,
    ];

    /// The format of a ggml type id; `None` for an id that is unknown or not a weight format.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.id() == id)
    }

    /// The ggml type id.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Weights in a block. A row of a matrix is a whole number of blocks.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 1,
            Format::Q4_0
            | Format::Q4_1
            | Format::Q5_0
            | Format::Q5_1
            | Format::Q8_0
            | Format::IQ4_NL
            | Format::MXFP4 => 32,
            Format::NVFP4 | Format::Q2_0 => 64,
            Format::Q1_0 => 128,
            Format::Q2_K | Format::Q3_K | Format::Q4_K | Format::Q5_K | Format::Q6_K | Format::IQ4_XS => 256,
            Format::IQ2_XXS
            | Format::IQ2_XS
            | Format::IQ3_XXS
            | Format::IQ1_S
            | Format::IQ3_S
            | Format::IQ2_S
            | Format::IQ1_M
            | Format::TQ1_0
            | Format::TQ2_0 => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::BF16 => 2,
            Format::Q4_0 | Format::IQ4_NL | Format::Q1_0 | Format::Q2_0 => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q8_0 => 34,
            Format::Q2_K => 84,
            Format::Q3_K => 110,
            Format::Q4_K => 144,
            Format::Q5_K => 176,
            Format::Q6_K => 210,
            Format::IQ4_XS => 136,
            Format::MXFP4 => 17,
            Format::IQ2_XXS => 66,
            Format::IQ2_XS => 74,
            Format::IQ3_XXS => 98,
            Format::IQ1_S => 50,
            Format::IQ3_S => 110,
            Format::IQ2_S => 82,
            Format::IQ1_M => 56,
            Format::TQ1_0 => 54,
            Format::TQ2_0 => 66,
            Format::NVFP4 => 36,
        }
    }

    /// Bytes of `n` consecutive weights; `None` if `n` is not a whole number of blocks or the size overflows.
    #[must_use]
    pub const fn bytes_for(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// ggml's name, as tools print it: `Q4_K`, `BF16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q8_0 => "Q8_0",
            Format::Q2_K => "Q2_K",
            Format::Q3_K => "Q3_K",
            Format::Q4_K => "Q4_K",
            Format::Q5_K => "Q5_K",
            Format::Q6_K => "Q6_K",
            Format::IQ4_NL => "IQ4_NL",
            Format::IQ4_XS => "IQ4_XS",
            Format::BF16 => "BF16",
            Format::MXFP4 => "MXFP4",
            Format::IQ2_XXS => "IQ2_XXS",
            Format::IQ2_XS => "IQ2_XS",
            Format::IQ3_XXS => "IQ3_XXS",
            Format::IQ1_S => "IQ1_S",
            Format::IQ3_S => "IQ3_S",
            Format::IQ2_S => "IQ2_S",
            Format::IQ1_M => "IQ1_M",
            Format::TQ1_0 => "TQ1_0",
            Format::TQ2_0 => "TQ2_0",
            Format::NVFP4 => "NVFP4",
            Format::Q1_0 => "Q1_0",
            Format::Q2_0 => "Q2_0",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
