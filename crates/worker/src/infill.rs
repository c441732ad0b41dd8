//! Which prompt asks a model to fill in the middle of a text?
//!
//! Models that can have tokens for it: `PRE prefix SUF suffix MID`, after which they write what stands between. Texts are encoded one by
//! one, without control tokens. Sources: Bavarian et al. 2022 (arXiv 2207.14255); for files around it Qwen2.5-Coder (arXiv 2409.12186), as
//! llama.cpp's server writes it (`format_prompt_infill`).

use tokenizer::{EncodeOptions, SpecialTokens, Tokenizer};

use crate::{Worker, WorkerError};

/// The most tokens of prefix, prompt and suffix together where they are cut: llama-server's default batch.
const WINDOW: usize = 2048;
/// Tokens besides the texts' own of a prompt that is cut: BOS, and the three around the gap less the two that the suffix makes room for.
const N_AROUND: usize = 2;

/// What llama.cpp calls a repository and the file with the gap, whose names nobody gives.
const REPOSITORY: &str = "myproject\n";
const FILE: &str = "filename\n";
/// Before each text where the vocabulary has no token before a file.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// What stands before a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Put BOS first, where the vocabulary says so.
        add_special: bool,
    },
    /// Ids, as they are.
    Tokens(Vec<u32>),
}

/// Another text that helps to fill a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// The file that it is of.
    pub filename: String,
    /// The text.
    pub text: String,
}

/// A gap in a file, and texts beside it; what is too long is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapInFile {
    /// The file before the gap; the end of it is kept.
    pub prefix: String,
    /// Goes on after the prefix, and is never cut.
    pub prompt: String,
    /// The file after the gap; the start of it is kept.
    pub suffix: String,
    /// In order; the end of them is kept.
    pub extra: Vec<Extra>,
}

/// A prompt to fill a gap in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling {
    /// Its ids.
    pub ids: Vec<u32>,
    /// Tokens of the prefix that were left out.
    pub n_prefix_cut: usize,
    /// Tokens of the suffix.
    pub n_suffix_cut: usize,
    /// Tokens of the texts beside the file.
    pub n_extra_cut: usize,
    /// Whether the names of files are in it.
    pub has_filenames: bool,
}

/// The tokens around a gap.
struct Markers {
    pre: u32,
    suf: u32,
    mid: u32,
}

impl Worker {
    /// The prompt to fill the gap between two texts, whether or not it fits the context. `field` is where the request has the second.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] where the vocabulary has no tokens for it, and [`WorkerError::Tokenizer`] for texts beyond its bounds.
    pub fn fill_between(
        &self,
        before: Before,
        suffix: &str,
        field: &'static str,
    ) -> Result<Vec<u32>, WorkerError> {
        let tokenizer = self.tokenizer();
        let Markers { pre, suf, mid } = Markers::of(tokenizer.special(), field)?;
        let (bos, prefix) = match before {
            Before::Text { text, add_special } => {
                (bos(tokenizer).filter(|_| add_special), encode(tokenizer, &text)?)
            }
            Before::Tokens(ids) => (None, ids),
        };
        let mut ids: Vec<u32> = bos.into_iter().collect();
        ids.push(pre);
        ids.extend(prefix);
        ids.push(suf);
        ids.extend(encode(tokenizer, suffix)?);
        ids.push(mid);
        Ok(ids)
    }

    /// The prompt to fill a gap in a file: of `longest` tokens at most, where `gap.prompt` leaves room for that. Three quarters of them,
    /// up to 2,048, are the file's: three quarters of these the prefix's, one quarter, less the prompt, the suffix's. The rest has the end
    /// of the texts beside the file. All that depends on no text's length, so that the next request for the same file begins alike.
    ///
    /// # Errors
    /// Those of [`Worker::fill_between`].
    pub fn fill_in_file(
        &self,
        gap: &GapInFile,
        longest: usize,
        field: &'static str,
    ) -> Result<Filling, WorkerError> {
        let tokenizer = self.tokenizer();
        let special = tokenizer.special();
        let Markers { pre, suf, mid } = Markers::of(special, field)?;
        let prefix = encode(tokenizer, &gap.prefix)?;
        let prompt = encode(tokenizer, &gap.prompt)?;
        let suffix = encode(tokenizer, &gap.suffix)?;
        let extra = beside(tokenizer, &gap.extra)?;

        let room = longest.saturating_sub(N_AROUND);
        let window = (room - room / 4).min(WINDOW);
        let n_prefix = prefix.len().min(3 * (window / 4));
        let n_suffix = suffix.len().min((window / 4).saturating_sub(2 + prompt.len()));
        let n_extra = extra.len().min(room - window);

        let mut ids: Vec<u32> = bos(tokenizer).into_iter().collect();
        ids.extend(&extra[extra.len() - n_extra..]);
        ids.push(pre);
        ids.extend(&prefix[prefix.len() - n_prefix..]);
        ids.extend(&prompt);
        ids.push(suf);
        ids.extend(&suffix[..n_suffix]);
        ids.push(mid);
        Ok(Filling {
            ids,
            n_prefix_cut: prefix.len() - n_prefix,
            n_suffix_cut: suffix.len() - n_suffix,
            n_extra_cut: if gap.extra.is_empty() { 0 } else { extra.len() - n_extra },
            has_filenames: special.fim_sep.is_some(),
        })
    }
}

impl Markers {
    fn of(special: &SpecialTokens, field: &'static str) -> Result<Markers, WorkerError> {
        let &SpecialTokens { fim_pre, fim_suf, fim_mid, .. } = special;
        if let (Some(pre), Some(suf), Some(mid)) = (fim_pre, fim_suf, fim_mid) {
            return Ok(Markers { pre, suf, mid });
        }
        let roles = [(fim_pre, "fim_pre"), (fim_suf, "fim_suf"), (fim_mid, "fim_mid")];
        let missing = roles.iter().filter(|(id, _)| id.is_none());
        let missing: Vec<String> =
            missing.map(|(_, name)| format!("tokenizer.ggml.{name}_token_id")).collect();
        Err(WorkerError::Invalid {
            field,
            expected: "a model whose vocabulary has tokens to fill in the middle".to_owned(),
            found: format!("one without {}, by key or by name", missing.join(", ")),
        })
    }
}

/// The texts beside a file, and where the file begins; empty where there is nothing to say.
fn beside(tokenizer: &Tokenizer, extra: &[Extra]) -> Result<Vec<u32>, WorkerError> {
    let &SpecialTokens { fim_rep, fim_sep, .. } = tokenizer.special();
    let mut ids = Vec::new();
    if let Some(rep) = fim_rep {
        ids.push(rep);
        ids.extend(encode(tokenizer, REPOSITORY)?);
    }
    for Extra { filename, text } in extra {
        match fim_sep {
            Some(sep) => {
                ids.push(sep);
                ids.extend(encode(tokenizer, &format!("{filename}\n"))?);
            }
            None => ids.extend(encode(tokenizer, SNIPPET)?),
        }
        ids.extend(encode(tokenizer, text)?);
    }
    if let Some(sep) = fim_sep {
        ids.push(sep);
        ids.extend(encode(tokenizer, FILE)?);
    }
    Ok(ids)
}

fn bos(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.special().bos.filter(|_| tokenizer.special().add_bos)
}

/// A text's ids; names of control tokens in it are text.
fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, WorkerError> {
    Ok(tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false })?)
}
