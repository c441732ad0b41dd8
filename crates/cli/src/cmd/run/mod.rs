//! What does the model answer? One prompt, or a conversation in the terminal.
//!
//! The answer streams to stdout as it comes. Ctrl-C stops the answer; outside a conversation it also ends the program, with
//! exit code 130.

mod ask;
mod proof;
mod sampling;
mod show;
mod talk;

use std::cell::RefCell;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use engine::{EngineOptions, Shutdown};
use tokenizer::limits::MAX_TEXT_BYTES;
use worker::chat::message;
use worker::receipt::{FileHashes, KeepPrompt};
use worker::{Chat, Prompt, Worker, WorkerOptions};

use self::ask::{Asker, Receipts};
use self::proof::Proof;
pub(crate) use self::proof::RECEIPT;
use self::show::{Reasoning, Shown};
use self::talk::Talk;
use crate::cmd::{self, verify};
use crate::device::{self, ModelArgs};
use crate::exit::Failure;
use crate::log::{self, LogArgs};
use crate::proof::Folder;
use crate::speculate::{self, SpeculateArgs};
use crate::{input, named, whole};

/// `worker-orcd run`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  worker-orcd run m.gguf                                      chat in the terminal\n  \
    worker-orcd run m.gguf 'Why is the sky blue?'\n  \
    git diff | worker-orcd run m.gguf --system 'Write a commit message for this change'\n  \
    worker-orcd run m.gguf --raw --prompt 'Once upon a time' --max-tokens 64 --temperature 0\n\n\
    The prompt is a user message, formatted by the file's chat template. With --raw it is plain text that the model\n\
    continues, and names of special tokens in it become those tokens."
)]
pub(crate) struct Args {
    /// The prompt, as --prompt
    #[arg(index = 2, value_name = "PROMPT", conflicts_with = "prompt")]
    prompt_word: Option<String>,
    /// The prompt; - reads stdin. Piped input is read where there is no prompt, and beside one it is not: a warning says so
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// The system message that opens the conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continue the prompt as plain text, without the chat template
    #[arg(long)]
    raw: bool,
    /// Print one JSON object when the answer is complete
    #[arg(long)]
    json: bool,
    /// When to show the model's reasoning; auto shows it on a terminal
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Reasoning::Auto, conflicts_with = "raw")]
    reasoning: Reasoning,
    /// Write a receipt of the answer, for `worker-orcd verify`
    #[arg(long, value_name = "FILE", group = "kept")]
    receipt: Option<PathBuf>,
    /// Write the receipt, a transcript, timings, versions and parameters into this new folder
    #[arg(long, value_name = "DIR", group = "kept")]
    proof: Option<PathBuf>,
    /// Put only a hash of the prompt into the receipt
    #[arg(long, requires = "kept")]
    receipt_hash_prompt: bool,
    #[command(flatten)]
    speculate: SpeculateArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: sampling::SamplingArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    args.sampling.check()?;
    args.speculate.check()?;
    named::in_order("run MODEL PROMPT", &args.model.model.0, args.prompt_word.as_slice())?;
    let prompt = read_prompt(args)?;
    let path = args.receipt.clone().or_else(|| args.proof.as_ref().map(|folder| folder.join(RECEIPT)));
    if prompt.is_none() && path.is_some() {
        return Err(
            Failure::Usage("--receipt needs a --prompt: a receipt is for one answer".to_owned()).into()
        );
    }
    args.receipt.as_deref().map_or(Ok(()), whole::check)?;
    let folder = args.proof.as_deref().map(Folder::begin).transpose()?;
    let (opened, tokenizer) = device::open_with_tokenizer(&args.model, log)?;
    let opened = opened.with_draft(args.speculate.open_draft(&args.model, &tokenizer, log)?);
    if !args.raw && tokenizer.chat_template().is_none() {
        let text = "the file has no chat template that can be used; --raw continues the prompt as plain text";
        return Err(Failure::Request(text.to_owned()).into());
    }
    let defaults = args.sampling.defaults.of(&opened.gguf);
    let files = path.as_ref().map(|_| FileHashes::open(opened.gguf.paths()));
    let loaded = opened.load(args.model.shape(), log)?;
    let proof = folder.map(|folder| Proof::begin(folder, &loaded)).transpose()?;
    let receipts = path.zip(files).map(|(path, files)| Receipts {
        path,
        proof: RefCell::new(proof),
        origin: {
            files.start();
            verify::origin(&loaded, &tokenizer, files, args.model.shape().kv_type)
        },
        keep: if args.receipt_hash_prompt { KeepPrompt::Hash } else { KeepPrompt::Ids },
    });
    let speculation = args.speculate.speculation(&loaded.executor.limits())?;
    let options = EngineOptions { speculation, ..EngineOptions::default() };
    let engine = speculate::start(loaded.executor, loaded.draft, options).context("starting the engine")?;
    let options = WorkerOptions { defaults, ..WorkerOptions::default() };
    let worker = Worker::new(engine.clone(), Arc::new(tokenizer), options);
    let asker =
        Asker { worker: &worker, sampling: args.sampling.clone(), receipts, is_talk: prompt.is_none() };
    if prompt.is_some() && !args.reads_stdin() {
        input::note_unread("there is a prompt already, in whose place - reads stdin");
    }
    // The log has a thread of its own and may share a terminal with the answer: what it said of loading comes first.
    log::flush();
    let result = match prompt {
        Some(prompt) => answer(args, &asker, prompt),
        None => Talk::new(asker, args.system.as_deref(), args.reasoning, log.is_quiet()).run(),
    };
    engine.shutdown(Shutdown::Abort);
    result
}

impl Args {
    /// The prompt as it was given.
    fn given(&self) -> Option<&str> {
        self.prompt.as_deref().or(self.prompt_word.as_deref())
    }

    /// Whether the prompt comes from stdin.
    fn reads_stdin(&self) -> bool {
        self.given().is_none_or(|prompt| prompt == "-")
    }
}

/// The prompt's text; `None` for a conversation in the terminal.
fn read_prompt(args: &Args) -> anyhow::Result<Option<String>> {
    match args.given() {
        Some("-") => {}
        Some(text) => {
            not_blank(text, "--prompt")?;
            return Ok(Some(text.to_owned()));
        }
        None if io::stdin().is_terminal() => {
            if args.raw || args.json || !io::stdout().is_terminal() {
                let text = "a conversation needs a terminal, without --raw and --json; else give a --prompt or a pipe on stdin";
                return Err(Failure::Usage(text.to_owned()).into());
            }
            return Ok(None);
        }
        None => {}
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut bytes).context("stdin")?;
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(Failure::Request(format!("stdin: expected at most {MAX_TEXT_BYTES} bytes")).into());
    }
    let text =
        String::from_utf8(bytes).map_err(|e| Failure::Request(format!("stdin: expected UTF-8: {e}")))?;
    not_blank(&text, "stdin")?;
    // A message ends where its text ends; plain text is continued exactly as it stands.
    let message = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Some(if args.raw { text } else { message.unwrap_or(&text).to_owned() }))
}

/// Refuses white space alone: what was to be asked about is not there, and a model would answer about something that it made up.
fn not_blank(text: &str, place: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::Usage(format!("{place}: expected a prompt, found nothing but white space")));
    }
    Ok(())
}

/// One prompt, one answer.
fn answer(args: &Args, asker: &Asker<'_>, text: String) -> anyhow::Result<()> {
    let prompt = if args.raw {
        Prompt::Text { text, add_special: true, parse_special: true }
    } else {
        let system = args.system.iter().map(|system| message("system", system));
        Prompt::Chat(Chat::new(system.chain([message("user", &text)]).collect()))
    };
    let answer = if args.json {
        let answer = asker.ask(prompt, &mut |_| Ok(()))?;
        cmd::print_json(&answer)?;
        answer
    } else {
        let mut shown = Shown::stdout(args.reasoning);
        let answer = asker.ask(prompt, &mut |piece| shown.piece(piece))?;
        shown.end("")?;
        answer
    };
    tracing::info!("{}", answer.summary());
    if answer.interrupted { Err(Failure::Interrupted.into()) } else { Ok(()) }
}
