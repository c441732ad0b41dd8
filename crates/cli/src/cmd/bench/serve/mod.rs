//! How does a server do under load? Throughput, time to first token, inter-token latency and goodput of any server with OpenAI's routes,
//! ours or another, or of two in turn.

mod ask;
mod load;
mod report;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use self::ask::Target;
use self::load::{Asked, Level, Round};
pub(crate) use self::report::Objective;
use self::report::{Figures, Pair, Report};
use crate::cmd;
use crate::exit::Failure;

/// The most clients at once.
const MAX_CLIENTS: usize = 1024;
/// Requests for each client, where no number is given.
const REQUESTS_A_CLIENT: usize = 4;
/// The least of them.
const LEAST_REQUESTS: usize = 8;

/// Reads a server's address for a flag.
fn address(text: &str) -> Result<String, String> {
    let has_scheme = text.starts_with("http://") || text.starts_with("https://");
    has_scheme
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a URL, such as http://127.0.0.1:8080".to_owned())
}

/// `worker-orcd bench serve`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  worker-orcd bench serve --url http://127.0.0.1:8080 --clients 1,4,16\n  \
    worker-orcd bench serve --url http://127.0.0.1:8080 --vs http://127.0.0.1:8081 --svg load.svg\n  \
    worker-orcd bench serve --url http://127.0.0.1:8080 --rate 1,2,4 --objective 500,50\n\n\
    Closed loop: each of --clients asks again when it is answered. Open loop: requests come at --rate a second, at\n\
    random times. An API key is read from the environment variable OPENAI_API_KEY. With --vs the two servers take turns,\n\
    level by level; run them on the same machine one at a time elsewhere, and their figures say nothing of each other."
)]
pub(crate) struct Args {
    /// The server
    #[arg(long, value_name = "URL", value_parser = address)]
    url: String,
    /// Another server to measure in turn with it
    #[arg(long, value_name = "URL", value_parser = address)]
    vs: Option<String>,
    /// The model's name [default: the first of the server's]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Concurrent clients (closed loop)
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,4,16", value_parser = cmd::at_least_one)]
    clients: Vec<NonZeroUsize>,
    /// Requests per second (open loop), in place of --clients
    #[arg(long, value_name = "R,..", value_delimiter = ',', value_parser = super::positive, conflicts_with = "clients")]
    rate: Vec<f64>,
    /// Requests a round [default: four for each client, at least 8; at a rate 32]
    #[arg(long, value_name = "N", value_parser = cmd::at_least_one)]
    requests: Option<NonZeroUsize>,
    /// Words of a prompt
    #[arg(long, value_name = "N", default_value_t = 128)]
    words: usize,
    /// Tokens of an answer
    #[arg(long, value_name = "N", default_value = "64", value_parser = cmd::at_least_one)]
    tokens: NonZeroUsize,
    /// Latency objective for goodput: milliseconds of time to first token and of inter-token latency
    #[arg(long, value_name = "FIRST,TOKEN", default_value = "1000,100", value_parser = objective)]
    objective: Objective,
    /// Ask through /v1/chat/completions
    #[arg(long)]
    chat: bool,
    /// Let answers end at EOS: do not send ignore_eos, which some servers refuse
    #[arg(long)]
    allow_end: bool,
    /// Rounds
    #[arg(long, value_name = "N", default_value = "1", value_parser = cmd::at_least_one)]
    reps: NonZeroUsize,
    /// Draw a chart of throughput over load into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads `FIRST,TOKEN` for a flag.
fn objective(text: &str) -> Result<Objective, String> {
    let (first, token) = text.split_once(',').ok_or("expected two numbers: FIRST,TOKEN")?;
    Ok(Objective { first_ms: super::positive(first)?, per_token_ms: super::positive(token)? })
}

impl Args {
    fn levels(&self) -> Result<Vec<Level>, Failure> {
        if let Some(n) = self.clients.iter().map(|n| n.get()).find(|&n| n > MAX_CLIENTS) {
            return Err(Failure::Usage(format!("--clients: expected at most {MAX_CLIENTS}, found {n}")));
        }
        Ok(match self.rate.is_empty() {
            true => self.clients.iter().map(|n| Level::Closed { clients: n.get() }).collect(),
            false => self.rate.iter().map(|&rate| Level::Open { rate }).collect(),
        })
    }

    fn asked(&self, level: Level, seed: u64) -> Asked {
        let usual = match level {
            Level::Closed { clients } => (REQUESTS_A_CLIENT * clients).max(LEAST_REQUESTS),
            Level::Open { .. } => 32,
        };
        let n_request = self.requests.map_or(usual, NonZeroUsize::get);
        Asked { n_request, n_word: self.words, n_token: self.tokens.get(), seed }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.svg.as_deref().map_or(Ok(()), crate::whole::check)?;
    let key = std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty());
    let find = |url: &str| {
        Target::find(url, args, key.clone())
            .map_err(|e| anyhow::Error::from(Failure::Request(format!("{url}: {e}"))))
    };
    let targets =
        std::iter::once(&args.url).chain(&args.vs).map(|url| find(url)).collect::<Result<Vec<_>, _>>()?;
    let levels = args.levels()?;
    let mut rounds: Vec<Vec<Vec<Round>>> =
        levels.iter().map(|_| targets.iter().map(|_| Vec::new()).collect()).collect();
    let mut seed = 0;
    for target in &targets {
        seed += 1;
        // The first request of a process pays for what the others find ready.
        let warm = load::round(
            target,
            Level::Closed { clients: 1 },
            Asked { n_request: 1, ..args.asked(levels[0], seed) },
        );
        if let Some(error) = warm.errors.first() {
            return Err(Failure::Request(format!("{}: {error}", target.url)).into());
        }
    }
    for rep in 0..args.reps.get() {
        for (level, rounds) in levels.iter().zip(&mut rounds) {
            // Whoever goes second may find a warmer or a throttled machine.
            for turn in 0..targets.len() {
                let n = (turn + rep) % targets.len();
                seed += 1;
                rounds[n].push(load::round(&targets[n], *level, args.asked(*level, seed)));
                tracing::info!("{} at {level:?}: round {} of {}", targets[n].url, rep + 1, args.reps);
            }
        }
    }
    let pairs = levels.iter().zip(&rounds).map(|(&level, rounds)| {
        let ours = Figures::of(&rounds[0], args.objective);
        let peer = rounds.get(1).map(|rounds| Figures::of(rounds, args.objective));
        let ratio = peer.as_ref().map(|peer| ours.tokens_per_second / peer.tokens_per_second);
        Pair { level, ours, peer, ratio }
    });
    let report = Report {
        url: targets[0].url.clone(),
        peer: targets.get(1).map(|target| target.url.clone()),
        words: args.words,
        tokens: args.tokens.get(),
        objective: args.objective,
        levels: pairs.collect(),
    };
    if let Some(path) = &args.svg {
        crate::whole::write(path, report.svg())?;
    }
    cmd::print_report(&report, args.json)
}
