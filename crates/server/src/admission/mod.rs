//! What happens to a request's body? It is let in, read, and looked at where nobody else waits for it.
//!
//! In order, and each before the next costs anything: the type of the body, its length, a place (`budget`), its bytes, the reading with a deadline and
//! a least rate, and then a turn on the threads that prepare requests (`pool`). Whatever is refused is refused at once.

mod budget;
mod course;
mod pool;
mod read;

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use worker::Work;

pub(crate) use budget::Budget;
use budget::{Asked, LARGE, Permit};
pub(crate) use pool::Pool;
use pool::Task;
pub(crate) use read::Small;

use crate::compat::Ignored;
use crate::context::Context;
use crate::error::ApiError;
use crate::routes::Computes;
use crate::state::{App, Served};

/// Places for requests that the engine need not have room for.
const N_OTHER: usize = 64;

/// A request that was let in, with its body.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Who asks, and until when.
    pub(crate) context: Context,
    app: App,
    bytes: Vec<u8>,
    permit: Permit,
    lenient: Option<Lenient>,
}

/// A body under preparation, and the place that it holds.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    permit: Permit,
    work: Work,
    lenient: Option<Lenient>,
}

/// What a server that takes unknown fields needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Lenient {
    /// The model that answers, whatever its name in the request.
    pub(crate) served: Arc<Served>,
    /// What was ignored, for the response's header.
    pub(crate) ignored: Ignored,
}

impl FromRequest<App> for Admitted {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Admitted, ApiError> {
        // While there is no model, that is what a client should hear.
        let served = app.ready()?;
        let (mut parts, body) = request.into_parts();
        let Ok(context) = Context::from_request_parts(&mut parts, app).await;
        let length = read::length(&parts.headers, app.options().limits.body_bytes)?;
        let load = served.worker.engine().load();
        let client = context.client.id;
        let (limit, n_elsewhere, n_own) = match parts.extensions.get::<Computes>().is_some() {
            true => (load.max_unfinished, load.n_unfinished, served.worker.engine().n_own_place(client)),
            false => (load.max_unfinished.max(N_OTHER), 0, 0),
        };
        let has_others = app.keys().len() > 1;
        let asked = Asked { client, has_others, limit, n_elsewhere, n_own };
        let mut permit = app.budget().enter(asked)?;
        let bytes = read::body(body, length, &app.options().limits, &mut permit).await?;
        let lenient = app
            .options()
            .compat
            .is_lenient()
            .then(|| Lenient { served, ignored: parts.extensions.get().cloned().unwrap_or_default() });
        Ok(Admitted { context, app: app.clone(), bytes, permit, lenient })
    }
}

impl Admitted {
    /// Prepares it on a thread for that. What this costs counts as the request's time, which began when it arrived.
    pub(crate) async fn prepare<T: Send + 'static>(
        self,
        work: impl FnOnce(Held) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Admitted { context, app, bytes, permit, lenient } = self;
        let until = context.deadline()?;
        let has_others = app.keys().len() > 1;
        let task = Task { client: context.client.id, is_large: bytes.len() > LARGE, has_others, until };
        let course = app.pool().course(task);
        let until_then = until.map_or_else(Work::default, Work::until).with_idle(Arc::clone(&course) as _);
        // A client that leaves drops this future, and with it what is done for it.
        let _waiter = until_then.waiter();
        let held = Held { bytes, permit, work: until_then, lenient };
        app.pool().run((task, course), move || work(held)).await
    }
}

impl Held {
    /// The body's bytes, once.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// How unknown fields are taken, where they are.
    pub(crate) fn lenient(&self) -> Option<&Lenient> {
        self.lenient.as_ref()
    }

    /// Until when it is prepared: to its deadline, and as long as its client waits.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    /// Sets more bytes aside, for what the request becomes.
    pub(crate) fn reserve(&mut self, n_byte: usize) -> Result<(), ApiError> {
        self.permit.reserve(n_byte)
    }

    /// Gives the place back: from here on the request is the engine's.
    pub(crate) fn leave(self) {
        drop(self.permit);
    }
}

/// The budget and the threads of a server.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) budget: Arc<Budget>,
    pub(crate) pool: Pool,
}

impl Admission {
    pub(crate) fn new(n_byte: usize) -> Admission {
        Admission { budget: Arc::new(Budget::new(n_byte)), pool: Pool::new() }
    }
}
