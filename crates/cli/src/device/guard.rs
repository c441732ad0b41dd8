//! Is the model that computes still the one that was loaded?
//!
//! On a CPU the weights are the mapped file, so a file that is cut short or written to changes the model. [`Guarded`] gives nothing away that
//! was computed since; [`Files`] knows what has happened to the files. A model on a GPU or in memory needs its files no more.

use std::sync::{Arc, OnceLock};

use device::{Batch, Executor, ExecutorError, Limits, MemoryReport, Picked, StageTime, Ticket};
use gguf::{FileChange, Gguf};

/// The files of a model that is in use. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gguf: Gguf,
    /// Whether what is computed depends on them.
    are_needed: bool,
    /// Why the model is lost.
    loss: OnceLock<String>,
}

impl Files {
    pub(super) fn new(gguf: &Gguf, are_needed: bool) -> Files {
        Files(Arc::new(Inner { gguf: gguf.clone(), are_needed, loss: OnceLock::new() }))
    }

    /// Why the model is lost, if it is. Asks nobody, so that it can be asked after each step.
    fn loss(&self) -> Option<&String> {
        let Inner { gguf, are_needed, loss } = &*self.0;
        if !are_needed {
            return None;
        }
        if loss.get().is_none() && gguf.is_lost() {
            let name = gguf.paths().first().map(|path| path.display().to_string()).unwrap_or_default();
            let _first = loss.set(format!("{name}: a part of the model could not be read when it was used"));
        }
        loss.get()
    }

    /// Asks the file system too.
    pub(crate) fn look(&self) -> Look {
        let change = self.0.gguf.check_files();
        match (self.loss(), change) {
            (Some(loss), _) => Look::Lost(loss.clone()),
            (None, Ok(())) => Look::Unchanged,
            (None, Err(change)) if change.is_harmless() || !self.0.are_needed => Look::Harmless(change),
            (None, Err(change)) => Look::Lost(self.0.loss.get_or_init(|| change.to_string()).clone()),
        }
    }

    /// Refuses a model whose files changed while they were read: the end of a load.
    pub(super) fn check_load(&self) -> Result<(), ExecutorError> {
        match self.look() {
            Look::Lost(loss) => Err(ExecutorError::ModelLost(loss)),
            Look::Unchanged | Look::Harmless(_) => Ok(()),
        }
    }

    /// Refuses a model that is lost.
    pub(crate) fn check(&self) -> Result<(), ExecutorError> {
        self.loss().map_or(Ok(()), |loss| Err(ExecutorError::ModelLost(loss.clone())))
    }
}

/// What has happened to the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing.
    Unchanged,
    /// They changed, and the model that is in use did not.
    Harmless(FileChange),
    /// What is computed is of no use.
    Lost(String),
}

/// An executor whose results are those of the model that was loaded, or an error.
pub(super) struct Guarded {
    pub(super) executor: Box<dyn Executor>,
    pub(super) files: Files,
}

impl Executor for Guarded {
    fn limits(&self) -> Limits {
        self.executor.limits()
    }

    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError> {
        self.files.check()?;
        self.executor.submit(batch)
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Picked>, ExecutorError> {
        let picked = self.executor.collect(ticket)?;
        self.files.check()?;
        Ok(picked)
    }

    fn memory(&self) -> MemoryReport {
        self.executor.memory()
    }

    fn time_stages(&mut self, batch: &Batch) -> Result<Vec<StageTime>, ExecutorError> {
        self.files.check()?;
        self.executor.time_stages(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_happens_to_files_matters_where_they_are_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let golden = testkit::golden_folder().join("llama-q4_0.gguf");
        let open = || {
            std::fs::copy(&golden, &path).unwrap();
            Gguf::open(&path).unwrap()
        };
        let cut = || File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();

        let gguf = open();
        let (mapped, on_gpu) = (Files::new(&gguf, true), Files::new(&gguf, false));
        assert_eq!((mapped.look(), on_gpu.look()), (Look::Unchanged, Look::Unchanged));
        cut();
        // Nobody has looked or read so far. What a load read before and after is not of one file, whatever the device.
        assert!(mapped.check().is_ok());
        assert!(matches!(Files::new(&gguf, true).check_load(), Err(ExecutorError::ModelLost(_))));
        assert!(matches!(mapped.look(), Look::Lost(text) if text.contains("found 5000")));
        assert!(matches!(mapped.check(), Err(ExecutorError::ModelLost(_))));
        assert!(matches!(on_gpu.look(), Look::Harmless(FileChange::Length { .. })));
        assert!(on_gpu.check().is_ok());

        let gguf = open();
        let mapped = Files::new(&gguf, true);
        cut();
        let last = gguf.tensors().last().unwrap();
        assert_eq!(gguf.tensor(&last.name).unwrap().bytes.last(), Some(&0));
        assert!(
            matches!(mapped.check(), Err(ExecutorError::ModelLost(text)) if text.contains("could not be read"))
        );

        let gguf = open();
        let mapped = Files::new(&gguf, true);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(mapped.look(), Look::Harmless(FileChange::Replaced { .. })));
        assert!(mapped.check().is_ok());
    }
}
