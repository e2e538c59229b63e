use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use induction_engine::{Engine, Intervention};
use induction_model::{Hook, Params};
use ndarray::{Array2, Array3, ArrayView2, Axis, Ix4, Slice, concatenate};
use rand::Rng;

use crate::{
    Ablation, Downstream, Error, Fill, HeadId, Reads, canonical, check, frozen_above,
    ideal_pattern,
    path::{Clean, input_of, read_at, without},
};

/// Examples whose activations and patterns are held at once: the patterns of one ablation of eight
/// are 8 MB at context 512.
const BLOCK: usize = 8;

/// Seed of the choice of another example for [`Fill::Resample`].
const SEED: u64 = 0;

/// What ablations run on.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The model.
    pub engine: &'a dyn Engine,
    /// Its parameters.
    pub params: &'a Params,
    /// `[example, pos + 1]`: the first `pos` tokens of a row are read, the last `pos` predicted.
    pub examples: ArrayView2<'a, u32>,
}

/// Losses in nats, `[example, pos]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Losses {
    /// Of the whole model.
    pub clean: Array2<f32>,
    /// Under each ablation, in the order in which they were asked for.
    pub ablated: Vec<Array2<f32>>,
}

/// Runs every ablation on every example. Equal ablations are run once.
///
/// # Errors
/// An ablation that does not fit the model, [`Fill::Resample`] of a single example, and the
/// engine's.
pub fn losses_under(inputs: &Inputs, ablations: &[Ablation]) -> Result<Losses, Error> {
    let Inputs { engine, examples, .. } = *inputs;
    let config = engine.config();
    ablations.iter().try_for_each(|ablation| check(ablation, config))?;
    let mut distinct: Vec<Ablation> = Vec::new();
    let place: Vec<usize> = ablations
        .iter()
        .map(|ablation| {
            let ablation = canonical(ablation, config);
            distinct.iter().position(|other| *other == ablation).unwrap_or_else(|| {
                distinct.push(ablation);
                distinct.len() - 1
            })
        })
        .collect();
    let run = Run::new(*inputs, &distinct)?;
    let mut blocks: Vec<Vec<Array2<f32>>> = vec![Vec::new(); distinct.len() + 1];
    for from in (0..examples.nrows()).step_by(BLOCK) {
        let to = (from + BLOCK).min(examples.nrows());
        let sets = run.interventions(&distinct, from, to)?;
        let sets: Vec<&[Intervention]> =
            std::iter::once(&[][..]).chain(sets.iter().map(Vec::as_slice)).collect();
        let losses =
            engine.losses_under(examples.slice_axis(Axis(0), Slice::from(from..to)), &sets)?;
        blocks.iter_mut().zip(losses).for_each(|(blocks, losses)| blocks.push(losses));
    }
    let mut joined = blocks.into_iter().map(|blocks| {
        let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
        concatenate(Axis(0), &views).expect("blocks differ only in their number of examples")
    });
    let clean = joined.next().expect("the empty set comes first");
    let distinct: Vec<Array2<f32>> = joined.collect();
    Ok(Losses { clean, ablated: place.into_iter().map(|at| distinct[at].clone()).collect() })
}

/// What the interventions of all blocks have in common.
struct Run<'a> {
    inputs: Inputs<'a>,
    /// `[example, pos]`.
    read: ArrayView2<'a, u32>,
    /// Hooks that some ablation takes its values from.
    hooks: Vec<Hook>,
    /// Mean `z` of each layer that some head's is replaced by, `[pos, head, d_head]`.
    means: BTreeMap<usize, Array3<f32>>,
    /// Layers whose `z` on another example is wanted.
    resampled: Vec<Hook>,
    /// The other example of each is so many further on.
    shift: usize,
}

impl<'a> Run<'a> {
    fn new(inputs: Inputs<'a>, ablations: &[Ablation]) -> Result<Self, Error> {
        let examples = inputs.examples;
        let read = examples.split_at(Axis(1), examples.ncols().saturating_sub(1)).0;
        let layers = |wanted: Fill| -> BTreeSet<usize> {
            let heads = ablations.iter().filter_map(|ablation| match ablation {
                Ablation::Heads { heads, fill, .. } if *fill == wanted => Some(heads),
                _ => None,
            });
            heads.flatten().map(|head| head.layer).collect()
        };
        let hooks: BTreeSet<Hook> = ablations
            .iter()
            .filter_map(|ablation| match ablation {
                Ablation::Path { from, to, .. } => Some((slice::from_ref(from), to)),
                Ablation::Paths { from, to, .. } => Some((&from[..], to)),
                _ => None,
            })
            .flat_map(|(from, to)| {
                from.iter().map(|head| Hook::Z(head.layer)).chain([input_of(to.layer)])
            })
            .collect();
        let resampled: Vec<Hook> = layers(Fill::Resample).into_iter().map(Hook::Z).collect();
        let count = examples.nrows();
        if !resampled.is_empty() && count < 2 {
            return Err(Error::Ablation(format!(
                "resample: {count} examples, expected at least 2 to take others from"
            )));
        }
        let shift = if count < 2 {
            0
        } else {
            induction_random::stream(SEED, "resample", 0).random_range(1..count)
        };
        let hooks = hooks.into_iter().collect();
        let mut run = Self { inputs, read, hooks, means: BTreeMap::new(), resampled, shift };
        run.means = run.mean_z(&layers(Fill::Mean))?;
        Ok(run)
    }

    fn mean_z(&self, layers: &BTreeSet<usize>) -> Result<BTreeMap<usize, Array3<f32>>, Error> {
        let hooks: Vec<Hook> = layers.iter().copied().map(Hook::Z).collect();
        let config = self.inputs.engine.config();
        let shape = (self.read.ncols(), config.n_heads, config.d_head);
        let mut sums: BTreeMap<usize, Array3<f64>> =
            layers.iter().map(|&l| (l, Array3::zeros(shape))).collect();
        if !hooks.is_empty() {
            for block in self.read.axis_chunks_iter(Axis(0), BLOCK) {
                let seen = self.inputs.engine.activations(block, &hooks, &[])?;
                for (&layer, sum) in &mut sums {
                    let z = seen[&Hook::Z(layer)]
                        .view()
                        .into_dimensionality::<Ix4>()
                        .expect("z has rank 4");
                    z.outer_iter()
                        .for_each(|z| sum.zip_mut_with(&z, |sum, &z| *sum += f64::from(z)));
                }
            }
        }
        let count = self.read.nrows() as f64;
        Ok(sums.into_iter().map(|(layer, sum)| (layer, sum.mapv(|x| (x / count) as f32))).collect())
    }

    /// The interventions of each ablation on the examples `from..to`.
    fn interventions(
        &self,
        ablations: &[Ablation],
        from: usize,
        to: usize,
    ) -> Result<Vec<Vec<Intervention>>, Error> {
        let engine = self.inputs.engine;
        let seen = |tokens: ArrayView2<u32>, hooks: &[Hook]| -> Result<Clean, Error> {
            if hooks.is_empty() {
                Ok(Clean::new())
            } else {
                Ok(engine.activations(tokens, hooks, &[])?)
            }
        };
        let tokens = self.read.slice_axis(Axis(0), Slice::from(from..to));
        let clean = seen(tokens, &self.hooks)?;
        let others: Vec<usize> = (from..to).map(|e| (e + self.shift) % self.read.nrows()).collect();
        let others = seen(self.read.select(Axis(0), &others).view(), &self.resampled)?;
        Ok(ablations
            .iter()
            .map(|ablation| self.resolve(ablation, tokens, &clean, &others))
            .collect())
    }

    fn resolve(
        &self,
        ablation: &Ablation,
        tokens: ArrayView2<u32>,
        clean: &Clean,
        others: &Clean,
    ) -> Vec<Intervention> {
        let config = self.inputs.engine.config();
        let cut = |from: &[HeadId], to: HeadId, into: Reads| {
            let value = without(config, self.inputs.params, clean, from, to, into);
            vec![Intervention::ReplaceHead {
                hook: read_at(into, to.layer),
                head: to.head,
                from: 0,
                value,
            }]
        };
        match ablation {
            Ablation::Heads { heads, fill, downstream } => {
                let mut set: Vec<Intervention> = heads
                    .iter()
                    .map(|&head| {
                        let value = match fill {
                            Fill::Zero => {
                                return Intervention::ZeroHead {
                                    layer: head.layer,
                                    head: head.head,
                                };
                            }
                            Fill::Mean => {
                                let mean = self.means[&head.layer].index_axis(Axis(1), head.head);
                                let shape = (tokens.nrows(), mean.nrows(), mean.ncols());
                                mean.broadcast(shape).expect("a leading axis").to_owned()
                            }
                            Fill::Resample => {
                                let z = others[&Hook::Z(head.layer)]
                                    .view()
                                    .into_dimensionality::<Ix4>();
                                z.expect("z has rank 4").index_axis(Axis(2), head.head).to_owned()
                            }
                        };
                        Intervention::ReplaceHead {
                            hook: Hook::Z(head.layer),
                            head: head.head,
                            from: 0,
                            value,
                        }
                    })
                    .collect();
                if *downstream == Downstream::PatternPreserving {
                    set.extend(frozen_above(heads, config));
                }
                set
            }
            Ablation::Substitute { head, pattern } => {
                let pos = tokens.ncols();
                let mut all = Array3::zeros((tokens.nrows(), pos, pos));
                for (mut out, row) in all.outer_iter_mut().zip(tokens.rows()) {
                    out.assign(&ideal_pattern(*pattern, row));
                }
                vec![Intervention::ForcePattern {
                    layer: head.layer,
                    head: head.head,
                    pattern: all,
                }]
            }
            Ablation::Path { from, to, into } => cut(slice::from_ref(from), *to, *into),
            Ablation::Paths { from, to, into } => cut(from, *to, *into),
        }
    }
}
