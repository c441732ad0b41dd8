//! Conversations -> prompts.

use gguf::Metadata;

use crate::error::TokenizerError;
use crate::special_tokens::SpecialTokens;
use crate::vocab::Vocab;

/// A chat template.
#[derive(Debug)]
pub struct ChatTemplate;

type Templates = (Vec<(String, ChatTemplate)>, Vec<String>);

pub(crate) fn templates_of(
    _metadata: &Metadata,
    _vocab: &Vocab,
    _special: &SpecialTokens,
) -> Result<Templates, TokenizerError> {
    Ok((Vec::new(), Vec::new()))
}
