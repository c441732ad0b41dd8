//! Which files of kernels are there, and which of a file's kernels is meant? By type, so that a launch costs no string: a name is put
//! together when its kernel is first looked up.

use std::fmt;

use quant::Format;

use crate::built;
use crate::error::CudaError;
use crate::memory::layout::Layout;

/// A file of kernels, which is one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum File {
    AttendDecode,
    AttendDecodePlaced,
    AttendDecodeQ8,
    AttendPrompt,
    AttendPromptSplit,
    AttendPromptWgmma,
    AttendRows,
    KvQ8,
    Latent,
    PerLayer,
    /// Of weights in a layout.
    Product(Layout),
    /// Likewise in float16.
    ProductHalf(Layout),
    /// Of two matrices at once, of one of [`PAIRS`].
    ProductPair([Layout; 2]),
    /// Likewise in float16.
    ProductHalfPair([Layout; 2]),
    PromptGemm,
    /// Of prompt rows with weights in a layout that are unpacked in registers.
    PromptPacked(Layout),
    Recurrence,
    Repack,
    RouteDecode,
    RoutePrompt,
    Rows,
    RowsPrompt,
    Sample,
    Unpack,
}

/// The layouts of two matrices that one product takes.
pub(crate) const PAIRS: [[Layout; 2]; 2] = [
    [Layout::Own(Format::Q4_K), Layout::Own(Format::Q6_K)],
    [Layout::Own(Format::Q5_0), Layout::Own(Format::Q8_0)],
];

impl File {
    /// Its fat binary.
    pub(crate) fn fatbin(self) -> Result<&'static [u8], CudaError> {
        built::module(&self.to_string())
    }
}

impl fmt::Display for File {
    /// The module's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            File::AttendDecode => "attend_decode",
            File::AttendDecodePlaced => "attend_decode_placed",
            File::AttendDecodeQ8 => "attend_decode_q8",
            File::AttendPrompt => "attend_prompt",
            File::AttendPromptSplit => "attend_prompt_split",
            File::AttendPromptWgmma => "attend_prompt_wgmma",
            File::AttendRows => "attend_rows",
            File::KvQ8 => "kv_q8",
            File::Latent => "latent",
            File::PerLayer => "per_layer",
            File::Product(layout) => return write!(f, "product_{layout}"),
            File::ProductHalf(layout) => return write!(f, "product_half_{layout}"),
            File::ProductPair([a, b]) => return write!(f, "product_pair_{a}_{b}"),
            File::ProductHalfPair([a, b]) => return write!(f, "product_half_pair_{a}_{b}"),
            File::PromptGemm => "prompt_gemm",
            File::PromptPacked(layout) => return write!(f, "prompt_packed_{layout}"),
            File::Recurrence => "recurrence",
            File::Repack => "repack",
            File::RouteDecode => "route_decode",
            File::RoutePrompt => "route_prompt",
            File::Rows => "rows",
            File::RowsPrompt => "rows_prompt",
            File::Sample => "sample",
            File::Unpack => "unpack",
        })
    }
}

/// A kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub(crate) file: File,
    /// What its name begins with; none where that is the file's.
    stem: Option<&'static str>,
    ends: [End; 2],
}

/// What follows in a kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Nothing,
    Word(&'static str),
    /// A number after a word.
    Size(&'static str, usize),
    Layout(Layout),
    Format(Format),
}

impl Kernel {
    /// The one whose name is its file's, or begins so.
    pub(crate) const fn of(file: File) -> Kernel {
        Kernel { file, stem: None, ends: [End::Nothing; 2] }
    }

    /// The one of this name, or whose name begins so.
    pub(crate) const fn named(file: File, stem: &'static str) -> Kernel {
        Kernel { stem: Some(stem), ..Kernel::of(file) }
    }

    /// The one whose name goes on like this, twice at most.
    pub(crate) const fn with(self, end: End) -> Kernel {
        let ends = match self.ends {
            [End::Nothing, _] => [end, End::Nothing],
            [first, End::Nothing] => [first, end],
            _ => unreachable!(),
        };
        Kernel { ends, ..self }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stem {
            Some(stem) => f.write_str(stem)?,
            None => write!(f, "{}", self.file)?,
        }
        self.ends.iter().try_for_each(|end| match end {
            End::Nothing => Ok(()),
            End::Word(word) => f.write_str(word),
            End::Size(word, n) => write!(f, "{word}{n}"),
            End::Layout(layout) => write!(f, "_{layout}"),
            End::Format(format) => write!(f, "_{}", Layout::Own(*format)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::built::{MODULES, is_built};
    use crate::launch::{product_half, prompt_packed};

    /// These files, and all of products. One that is not named here does not compile.
    macro_rules! all_but_products {
        ($($name:ident)*) => {{
            let _ = |file: File| match file {
                $(File::$name)|* => {}
                File::Product(_) | File::ProductHalf(_) | File::PromptPacked(_) => {}
                File::ProductPair(_) | File::ProductHalfPair(_) => {}
            };
            [$(File::$name),*]
        }};
    }

    fn all() -> Vec<File> {
        let listed = all_but_products! {
            AttendDecode AttendDecodePlaced AttendDecodeQ8 AttendPrompt AttendPromptSplit AttendPromptWgmma AttendRows
            KvQ8 Latent PerLayer PromptGemm Recurrence Repack RouteDecode RoutePrompt Rows RowsPrompt Sample Unpack
        };
        let products = Format::ALL.map(|format| File::Product(Layout::of(format)));
        let halves = Format::ALL.into_iter().filter(|format| product_half::has(*format));
        let halves = halves.map(|format| File::ProductHalf(Layout::of(format)));
        let packed = Format::ALL.into_iter().filter(|format| prompt_packed::has(*format));
        let packed = packed.map(|format| File::PromptPacked(Layout::of(format)));
        let pairs = PAIRS.into_iter().flat_map(|pair| [File::ProductPair(pair), File::ProductHalfPair(pair)]);
        listed.into_iter().chain(products).chain(halves).chain(packed).chain(pairs).collect()
    }

    #[test]
    fn files_are_the_modules_of_a_build() {
        if !is_built() {
            return;
        }
        let files: BTreeSet<String> = all().iter().map(ToString::to_string).collect();
        let modules: BTreeSet<String> = MODULES.iter().map(|&(name, _)| name.to_owned()).collect();
        assert_eq!(files, modules);
    }

    #[test]
    fn names_are_put_together() {
        let layout = Layout::of(Format::IQ2_XS);
        let names = [
            Kernel::of(File::RouteDecode),
            Kernel::of(File::RoutePrompt).with(End::Word("_sort")),
            Kernel::of(File::Product(layout)).with(End::Size("_c", 4)).with(End::Size("_m", 1)),
            Kernel::of(File::ProductHalfPair(PAIRS[0])).with(End::Size("_n", 8)),
            Kernel::named(File::Unpack, "embed").with(End::Layout(layout)),
            Kernel::of(File::Repack).with(End::Format(Format::IQ2_XS)),
        ];
        let expected = [
            "route_decode",
            "route_prompt_sort",
            "product_table16_c4_m1",
            "product_half_pair_q4_k_q6_k_n8",
            "embed_table16",
            "repack_iq2_xs",
        ];
        assert_eq!(names.map(|name| name.to_string()), expected);
    }
}
