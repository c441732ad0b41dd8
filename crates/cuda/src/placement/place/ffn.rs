//! Where do a feed-forward's tensors go?

use model::weights::{BranchNorms, Experts, Ffn, Gated, Linear, SharedExpert};

use super::placer::{FloatMap, NormPlace, Order, Placer, Tiles};
use super::unsupported::Unsupported;
use crate::memory::layout::{TILE, is_shared, matrix_bytes};

/// A feed-forward's matrices.
#[derive(Clone, Debug)]
pub(crate) enum FfnPlace {
    /// `input` is gate and up in turns of 32 rows for the gated kind, up alone for the plain one.
    Dense { input: Tiles, down: Tiles },
    /// A mixture of experts.
    Experts(Box<ExpertsPlace>),
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpertsPlace {
    pub(crate) router: RouterPlace,
    /// As of the gated kind, an expert after the other.
    pub(crate) input: Tiles,
    pub(crate) down: Tiles,
    pub(crate) shared: Option<SharedPlace>,
    pub(crate) norms: Option<BranchNormsPlace>,
}

/// The norms of the branches of a mixture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BranchNormsPlace {
    /// Before the router: its weights are divided by the square root of the width, which the logits are to be.
    pub(crate) router: NormPlace,
    pub(crate) experts: NormPlace,
    pub(crate) experts_post: NormPlace,
    pub(crate) shared_post: NormPlace,
}

/// A router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterPlace {
    pub(crate) map: FloatMap,
    /// `[n_expert]`.
    pub(crate) choice_bias: Option<u64>,
    /// `[n_expert]`: of the experts' outputs.
    pub(crate) factors: Option<u64>,
}

/// The feed-forward that all rows of a mixture use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedPlace {
    pub(crate) input: Tiles,
    pub(crate) down: Tiles,
    /// Of one row.
    pub(crate) gate: Option<FloatMap>,
}

impl FfnPlace {
    /// Every matrix in tiles.
    pub(super) fn tiles(&mut self) -> Vec<&mut Tiles> {
        match self {
            FfnPlace::Dense { input, down } => vec![input, down],
            FfnPlace::Experts(place) => {
                let ExpertsPlace { input, down, shared, .. } = &mut **place;
                let shared = shared.iter_mut().flat_map(|shared| [&mut shared.input, &mut shared.down]);
                [input, down].into_iter().chain(shared).collect()
            }
        }
    }

    /// Every offset of a vector but those of the tiles' biases.
    pub(super) fn vectors(&mut self) -> Vec<&mut u64> {
        let FfnPlace::Experts(place) = self else { return Vec::new() };
        let ExpertsPlace { router, shared, norms, .. } = &mut **place;
        let RouterPlace { map, choice_bias, factors } = router;
        let gate = shared.iter_mut().filter_map(|shared| shared.gate.as_mut());
        let maps = [map].into_iter().chain(gate);
        let mut all: Vec<_> =
            maps.flat_map(|map| [&mut map.weight].into_iter().chain(&mut map.bias)).collect();
        all.extend(choice_bias.iter_mut().chain(factors));
        all.extend(norms.iter_mut().flat_map(|norms| {
            let BranchNormsPlace { router, experts, experts_post, shared_post } = norms;
            [router, experts, experts_post, shared_post].map(|norm| &mut norm.weight)
        }));
        all
    }
}

impl<'m> Placer<'m> {
    pub(super) fn ffn(&mut self, ffn: &'m Ffn) -> Result<FfnPlace, Unsupported> {
        Ok(match ffn {
            Ffn::Gated(gated) => {
                let [input, down] = self.gated(gated)?;
                FfnPlace::Dense { input, down }
            }
            Ffn::Plain { up, down } => FfnPlace::Dense {
                input: self.linear(up, Order::Plain),
                down: self.linear(down, Order::Plain),
            },
            Ffn::Experts(Experts { router, choice_bias, gate, up, down, scale, shared, norms }) => {
                FfnPlace::Experts(Box::new(ExpertsPlace {
                    router: RouterPlace {
                        map: self.float_map(router)?,
                        choice_bias: self.maybe_vector(choice_bias.as_deref()),
                        factors: self.maybe_vector(scale.as_deref()),
                    },
                    input: Tiles { of_experts: true, ..self.gate_and_up(gate, up)? },
                    down: self.stacked(down),
                    shared: shared.as_ref().map(|shared| self.shared(shared)).transpose()?,
                    norms: norms.as_ref().map(|norms| self.branch_norms(norms)),
                }))
            }
        })
    }

    fn branch_norms(&mut self, norms: &BranchNorms) -> BranchNormsPlace {
        let scale = 1.0 / (norms.router.weight.len() as f32).sqrt();
        let of_router = self.vector(norms.router.weight.iter().map(|w| w * scale));
        BranchNormsPlace {
            router: NormPlace { weight: of_router, bias: None },
            experts: self.norm(&norms.experts),
            experts_post: self.norm(&norms.experts_post),
            shared_post: self.norm(&norms.shared_post),
        }
    }

    fn gated(&mut self, Gated { gate, up, down }: &'m Gated) -> Result<[Tiles; 2], Unsupported> {
        let input = self.gate_and_up(std::slice::from_ref(gate), std::slice::from_ref(up))?;
        Ok([input, self.linear(down, Order::Plain)])
    }

    fn shared(&mut self, shared: &'m SharedExpert) -> Result<SharedPlace, Unsupported> {
        let [input, down] = self.gated(&shared.ffn)?;
        let gate = shared.gate.as_ref().map(|gate| self.float_map(gate)).transpose()?;
        Ok(SharedPlace { input, down, gate })
    }

    /// Gate and up of one or more experts: rows in turns of 32.
    fn gate_and_up(&mut self, gate: &'m [Linear], up: &'m [Linear]) -> Result<Tiles, Unsupported> {
        let (first, n_expert) = (&gate[0].weight, gate.len());
        for linear in gate.iter().chain(up) {
            if !is_shared(linear.weight.format, first.format) {
                return Err(Unsupported {
                    what: "feed-forward",
                    expected: format!("gate and up of one format, {}", first.format),
                    found: format!("{} in {}", linear.weight.format, linear.weight.name),
                });
            }
        }
        let n_ff = first.n_rows;
        let expert_bytes = matrix_bytes(first.format, 2 * n_ff, first.n_cols) as u64;
        let at = self.reserve(expert_bytes * n_expert as u64);
        for (e, pair) in gate.iter().zip(up).enumerate() {
            let at = at + e as u64 * expert_bytes;
            self.cut(&pair.0.weight, at, Order::Interleaved(0));
            self.cut(&pair.1.weight, at, Order::Interleaved(2));
        }
        let has_bias = gate.iter().chain(up).any(|linear| linear.bias.is_some());
        let bias = has_bias.then(|| {
            let of = |linear: &Linear, row: usize| linear.bias.as_ref().map_or(0.0, |b| b[row]);
            let pairs = gate.iter().zip(up);
            self.vector(pairs.flat_map(|(gate, up)| {
                (0..2 * n_ff).map(move |row| {
                    let (group, i) = (row / 64, row % 64);
                    if i < 32 { of(gate, group * 32 + i) } else { of(up, group * 32 + i - 32) }
                })
            }))
        });
        Ok(Tiles { bias, expert_bytes, ..Tiles::at(at, first, 2 * n_ff) })
    }

    /// The matrices of all experts, or of all heads, one after another.
    pub(super) fn stacked(&mut self, experts: &'m [Linear]) -> Tiles {
        let first = &experts[0].weight;
        let expert_bytes = matrix_bytes(first.format, first.n_rows, first.n_cols) as u64;
        let at = self.reserve(expert_bytes * experts.len() as u64);
        for (e, expert) in experts.iter().enumerate() {
            self.cut(&expert.weight, at + e as u64 * expert_bytes, Order::Plain);
        }
        let tiles = Tiles::at(at, first, first.n_rows);
        let has_bias = experts.iter().any(|linear| linear.bias.is_some());
        let bias = has_bias.then(|| {
            self.vector(experts.iter().flat_map(|expert| {
                (0..tiles.n_tile * TILE)
                    .map(move |row| expert.bias.as_ref().and_then(|b| b.get(row)).copied().unwrap_or(0.0))
            }))
        });
        Tiles { bias, expert_bytes, of_experts: true, ..tiles }
    }
}
