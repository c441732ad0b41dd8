//! What does a file call its quantisation? `general.file_type` is a number; these are the names that downloads carry. A hint: tensors say their
//! own formats. Source: `llama_ftype` in llama.cpp's include/llama.h.

use crate::Metadata;

const NAMES: [(u32, &str); 39] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (33, "Q4_0_4_4"),
    (34, "Q4_0_4_8"),
    (35, "Q4_0_8_8"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
    (39, "NVFP4"),
    (40, "Q1_0"),
    (41, "Q2_0"),
];

/// The name of a file's quantisation, such as `Q4_K_M`; `None` where the file has none, or one that is not known here.
pub(crate) fn name(metadata: &Metadata) -> Option<&'static str> {
    let number = metadata.u32_of("general.file_type").ok().flatten()?;
    NAMES.iter().find(|&&(known, _)| known == number).map(|&(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_of_downloads() {
        let find = |number| NAMES.iter().find(|&&(known, _)| known == number).map(|&(_, name)| name);
        assert_eq!((find(15), find(38), find(4), find(99)), (Some("Q4_K_M"), Some("MXFP4_MOE"), None, None));
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }
}
