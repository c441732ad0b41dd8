//! Can the kernels compute this model, and where does each of its tensors go? All that is known of a model before any step.

pub(crate) mod apart;
pub(crate) mod cache;
pub(crate) mod heads;
pub(crate) mod load;
pub(crate) mod place;
pub(crate) mod transpose;
