//! A model larger than the memory: its weights are read layer by layer, and all sequences pass
//! through a layer before the next is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use induction_kernels::{
    Left, Out, PANEL, matmul, panels,
    rows::{accumulate, cross_entropy},
};
use induction_model::{Hook, ModelConfig, Params, Positions, ReadParams};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, IxDyn};
use rayon::prelude::*;

use super::{
    Keep, Model, first_touched,
    forward::{Sizes, Start, Tap, norm},
    layout::Layout,
    read::{one_layer, read_layer, read_unembedding},
    tails::{self, Tails},
    tap::ExampleTap,
    workspace::{LOGIT_ROWS, LOGIT_STRIDE, stored_rows},
};
use crate::{
    Batch, Engine, Error, Exactness, Intervention, Sight, Watched, check_tokens, check_watched,
    intervention::{check_hook, hook_shape, layers_for, with_frozen_patterns},
};

/// Bytes of logits that are there at once, at least one block for each thread.
const LOGIT_BYTES: usize = 256 << 20;

/// Bytes of the unembedding that are there at once.
const PIECE_BYTES: usize = 32 << 20;

/// An [`Engine`] over weights that stay where they are: `f32`, on the threads of the current rayon
/// pool, the same bits as [`CpuEngine`](super::CpuEngine) (but under frozen patterns, where it
/// rounds otherwise).
///
/// It holds one layer, what each sequence has computed so far, and pieces of the unembedding, so
/// that its memory does not grow with the number of layers. Each call reads all layers once,
/// whatever number of examples and sets of interventions it is given: ask for many together.
pub struct StreamEngine {
    config: ModelConfig,
    weights: Arc<dyn ReadParams>,
    /// One layer of the model, and what is small beside it, while no call uses it. A call takes it
    /// and gives it back: a lock held over parallel work could be waited for by its own holder.
    idle: Mutex<Option<Model<f32>>>,
}

/// A sequence on its way through the layers, under one set of interventions.
struct Sequence<'a> {
    /// What is read.
    tokens: &'a [u32],
    /// Its place in the interventions' arrays.
    example: usize,
    interventions: &'a [Intervention],
    /// The sequence that this one is the same as up to layer `from`, if there is one.
    follows: Option<usize>,
    from: usize,
    /// The residual stream, `[pos, d_model]` in panels of `rows` rows; empty before `from`.
    residual: Vec<f32>,
    rows: usize,
}

/// What is done with a sequence in a layer: it gives the tap with which the layer is to be run. The
/// model, the layer, the sequence's number, the sequence, and where to leave what it shows.
type Visit<'v> =
    dyn Fn(&Model<f32>, usize, usize, &Sequence<'_>, &[Seen], &mut Run<'_>) + Sync + 'v;

/// Activations of one sequence in the layer at hand.
type Seen = Mutex<Arc<tails::Seen>>;

/// What is done with a block of logits: of which sequence, of which positions, and the block.
type Take<'t> = dyn Fn(usize, Range<usize>, &mut [f32]) + Sync + 't;

/// Runs the layer.
type Run<'r> = dyn FnMut(&mut ExampleTap<'_>) + 'r;

/// Passes that follow the first sequences, their last positions alone; with the keys and values that
/// these sequences have in the layer at hand.
struct Beside<'a> {
    tails: Vec<Tails<'a>>,
    seen: Vec<Seen>,
}

impl Beside<'_> {
    fn nobody() -> Self {
        Self { tails: Vec::new(), seen: Vec::new() }
    }

    /// Before the sequences pass layer `l`.
    fn before(&mut self, l: usize, sequences: &[Sequence<'_>]) {
        self.tails.par_iter_mut().for_each(|tails| {
            let sequence = &sequences[tails.example];
            tails.begin(l, &sequence.residual, sequence.rows);
        });
    }

    /// After they have.
    fn after(&mut self, model: &Model<f32>, l: usize) {
        // Those of several sequences together, as long as they are few.
        let mut tasks: Vec<Vec<&mut Tails<'_>>> = Vec::new();
        let mut rows = 0;
        for tails in self.tails.iter_mut().filter(|tails| tails.begun(l) > 0) {
            let more = tails.begun(l).next_multiple_of(8);
            match tasks.last_mut().filter(|_| rows + more <= tails::ROWS) {
                Some(last) => last.push(tails),
                None => {
                    rows = 0;
                    tasks.push(vec![tails]);
                }
            }
            rows += more;
        }
        tasks.into_par_iter().with_max_len(1).for_each(|mut tails| {
            let seen: Vec<_> = tails
                .iter()
                .map(|tails| {
                    self.seen[tails.example].lock().unwrap_or_else(PoisonError::into_inner).clone()
                })
                .collect();
            tails::layer(&mut tails, model, l, &seen);
        });
    }
}

impl StreamEngine {
    /// With the best instruction set that this processor has.
    ///
    /// # Errors
    /// An invalid configuration, a head that a clamp makes copy, or what is wrong with the weights that are read at once: the last
    /// norm, learned positions.
    pub fn new(config: &ModelConfig, weights: Arc<dyn ReadParams>) -> Result<Self, Error> {
        if config.clamp.any_copies() {
            let (found, expected) = (
                "one that copies".into(),
                "none that copies where a model is read layer by layer".into(),
            );
            return Err(induction_model::Error::Config { field: "clamp", found, expected }.into());
        }
        let model = one_layer(config, weights.as_ref())?;
        Ok(Self { config: config.clone(), weights, idle: Mutex::new(Some(model)) })
    }

    /// Room for one layer: what an earlier call left, or new.
    fn model(&self) -> Result<Model<f32>, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        idle.map_or_else(|| one_layer(&self.config, self.weights.as_ref()), Ok)
    }

    fn give_back(&self, model: Model<f32>) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
    }

    /// The embeddings of all sequences that begin with their tokens.
    fn embed(&self, sequences: &mut [Sequence<'_>]) -> Result<(), Error> {
        let all: BTreeSet<u32> = sequences.iter().flat_map(|s| s.tokens).copied().collect();
        let all: Vec<u32> = all.into_iter().collect();
        let table = self.weights.embedding_of(&all)?;
        let d = self.config.d_model;
        sequences.par_iter_mut().filter(|s| s.follows.is_none()).for_each(|sequence| {
            sequence.residual = vec![0.0; panels::len(sequence.rows, d)];
            for (t, token) in sequence.tokens.iter().enumerate() {
                let at = all.binary_search(token).expect("every token was read");
                let row = table.row(at);
                let row = row.as_slice().expect("rows of a table in standard layout");
                for (p, part) in row.chunks(PANEL).enumerate() {
                    let to = panels::at(sequence.rows, t, p * PANEL);
                    sequence.residual[to..to + part.len()].copy_from_slice(part);
                }
            }
        });
        Ok(())
    }

    /// All sequences through all layers, or through the first `layers`.
    fn sweep(
        &self,
        model: &mut Model<f32>,
        sequences: &mut [Sequence<'_>],
        beside: &mut Beside<'_>,
        layers: usize,
        visit: &Visit<'_>,
    ) -> Result<(), Error> {
        for l in 0..layers {
            read_layer(&self.config, self.weights.as_ref(), model, l)?;
            beside.before(l, sequences);
            for k in 0..sequences.len() {
                if let Some(clean) = sequences[k].follows.filter(|_| sequences[k].from == l) {
                    sequences[k].residual = sequences[clean].residual.clone();
                }
            }
            let (model, seen) = (&*model, &beside.seen[..]);
            let running: Vec<(usize, &mut Sequence<'_>)> =
                sequences.iter_mut().enumerate().filter(|(_, s)| s.from <= l).collect();
            running.into_par_iter().with_max_len(1).for_each(|(k, sequence)| {
                let used = sequence.tokens.len();
                let mut output = std::mem::take(&mut sequence.residual);
                let mut space = model.workspace(used, Keep::Nothing);
                space.clamped.follow(&model.clamp, sequence.tokens, space.rows);
                space.layers[0].input.copy_from_slice(&output);
                visit(model, l, k, sequence, seen, &mut |tap| {
                    let sizes = Sizes { used, rows: space.rows };
                    model.layer(
                        l,
                        sizes,
                        &mut space.layers[0],
                        &mut space.scratch,
                        &mut space.clamped,
                        &space.turns[model.layout.frequencies_of(l)],
                        &mut output,
                        Start::Input(l),
                        false,
                        tap,
                    );
                });
                model.give_back(space);
                sequence.residual = output;
            });
            beside.after(model, l);
        }
        Ok(())
    }

    /// Adds learned positions, after whoever wants to has seen the embedding.
    fn place(model: &Model<f32>, sequence: &mut Sequence<'_>) {
        if model.layout.dims.architecture.positions != Positions::Learned {
            return;
        }
        let used = sequence.tokens.len();
        for (x, at) in sequence
            .residual
            .chunks_exact_mut(sequence.rows * PANEL)
            .zip(model.positions.chunks_exact(model.n_ctx * PANEL))
        {
            accumulate(model.arch, &at[..used * PANEL], &mut x[..used * PANEL]);
        }
    }

    /// Embeds all sequences, under their interventions.
    fn begin(&self, model: &Model<f32>, sequences: &mut [Sequence<'_>]) -> Result<(), Error> {
        self.embed(sequences)?;
        for sequence in sequences.iter_mut().filter(|s| s.follows.is_none()) {
            let mut tap = tap(model, sequence, BTreeMap::new());
            if tap.wants(Hook::Embed) {
                tap.see(Hook::Embed, &mut sequence.residual, sequence.rows);
            }
            Self::place(model, sequence);
        }
        Ok(())
    }

    /// Blocks of logits of all sequences from row `first` on, a multiple of 8, some at a time, to
    /// `take`: sequence, positions, and a block of [`LOGIT_STRIDE`] rows. The residual streams are
    /// used up.
    fn logits_of(
        &self,
        model: &Model<f32>,
        sequences: &mut [Sequence<'_>],
        first: usize,
        take: &Take<'_>,
    ) -> Result<(), Error> {
        let Layout { dims, ln_final, .. } = &model.layout;
        let weights = &model.weights.packed;
        sequences.par_iter_mut().for_each(|sequence| {
            let used = sequence.tokens.len();
            let (sizes, mut stats) = (Sizes { used, rows: sequence.rows }, vec![[0.0; 2]; used]);
            let mut normal = vec![f32::NAN; sequence.residual.len()];
            let residual = &sequence.residual;
            let gain = &weights[ln_final.clone()];
            let normal = norm(
                model.arch,
                &model.layout,
                gain,
                model.eps,
                residual,
                sizes,
                &mut stats,
                &mut normal,
            );
            sequence.residual = normal.to_vec();
        });
        let blocks: Vec<(usize, Range<usize>)> = sequences
            .iter()
            .enumerate()
            .flat_map(|(k, sequence)| {
                let used = sequence.tokens.len();
                let block = move |from: usize| (k, from..(from + LOGIT_ROWS).min(used));
                (first..used).step_by(LOGIT_ROWS).map(block)
            })
            .collect();
        let len = panels::len(LOGIT_STRIDE, dims.d_vocab);
        let at_once = (LOGIT_BYTES / (4 * len)).max(rayon::current_num_threads());
        let piece = (PIECE_BYTES / (4 * dims.model_rows * PANEL)).max(1) * PANEL;
        let mut buffers: Vec<Vec<f32>> = vec![Vec::new(); at_once.min(blocks.len())];
        let mut right = vec![0.0; panels::len(dims.model_rows, piece.min(dims.d_vocab))];
        for group in blocks.chunks(at_once) {
            for from in (0..dims.d_vocab).step_by(piece) {
                let columns = from..(from + piece).min(dims.d_vocab);
                read_unembedding(self.weights.as_ref(), columns.clone(), dims, &mut right)?;
                let begin = panels::len(LOGIT_STRIDE, from);
                let tasks = group.par_iter().zip(&mut buffers).with_max_len(1);
                tasks.for_each(|((k, positions), buffer)| {
                    buffer.resize(len, f32::NAN);
                    let sequence = &sequences[*k];
                    let left = Left::Plain {
                        data: &sequence.residual,
                        rows: sequence.rows,
                        first: positions.start,
                    };
                    let out = &mut buffer[begin..][..panels::len(LOGIT_STRIDE, columns.len())];
                    matmul(
                        model.arch,
                        positions.len(),
                        dims.d_model,
                        columns.len(),
                        left,
                        &right,
                        dims.model_rows,
                        out,
                        LOGIT_STRIDE,
                        Out::Set,
                    );
                });
            }
            group.par_iter().zip(&mut buffers).with_max_len(1).for_each(
                |((k, positions), buffer)| {
                    model.finish_logits(positions.len(), buffer);
                    take(*k, positions.clone(), buffer);
                },
            );
        }
        Ok(())
    }

    /// The losses of all sequences from row `first` on; the residual streams are used up. `target`
    /// is asked for a sequence and a row of it.
    fn losses_of(
        &self,
        model: &Model<f32>,
        sequences: &mut [Sequence<'_>],
        first: usize,
        target: &(dyn Fn(usize, usize) -> u32 + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        // Products begin with whole tiles of 8 rows.
        let base = first - first % 8;
        let losses: Vec<Mutex<Vec<f32>>> = sequences
            .iter()
            .map(|sequence| Mutex::new(vec![0.0; sequence.tokens.len().saturating_sub(base)]))
            .collect();
        self.logits_of(model, sequences, base, &|k, rows, block| {
            let targets: Vec<u32> = rows.clone().map(|row| target(k, row)).collect();
            let mut losses = losses[k].lock().unwrap_or_else(PoisonError::into_inner);
            cross_entropy(
                model.arch,
                block,
                LOGIT_STRIDE,
                self.config.d_vocab,
                &targets,
                &mut losses[rows.start - base..rows.end - base],
                None,
            );
        })?;
        let asked = |losses: Mutex<Vec<f32>>| {
            let losses = losses.into_inner().unwrap_or_else(PoisonError::into_inner);
            losses.into_iter().skip(first - base).collect()
        };
        Ok(losses.into_iter().map(asked).collect())
    }

    fn check(
        &self,
        tokens: ArrayView2<u32>,
        pos: usize,
        interventions: &[Intervention],
    ) -> Result<(), Error> {
        check_tokens(&self.config, tokens, pos)?;
        Intervention::check_set(interventions, &self.config, tokens.nrows(), pos)
    }
}

fn tap<'a>(
    model: &'a Model<f32>,
    sequence: &Sequence<'a>,
    captured: BTreeMap<Hook, ndarray::ArrayViewMutD<'a, f32>>,
) -> ExampleTap<'a> {
    ExampleTap {
        dims: &model.layout.dims,
        used: sequence.tokens.len(),
        example: sequence.example,
        interventions: sequence.interventions,
        captured,
        captures_only: false,
        clean: &[],
    }
}

impl<'a> Sequence<'a> {
    fn new(tokens: &'a [u32], example: usize, interventions: &'a [Intervention]) -> Self {
        let rows = stored_rows(tokens.len());
        Self { tokens, example, interventions, follows: None, from: 0, residual: Vec::new(), rows }
    }
}

impl Engine for StreamEngine {
    fn name(&self) -> &str {
        "cpu"
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn set_params(&mut self, params: &Params) -> Result<(), Error> {
        params.check(&self.config)?;
        self.weights = Arc::new(params.clone());
        let model = one_layer(&self.config, self.weights.as_ref())?;
        self.idle = Mutex::new(Some(model));
        Ok(())
    }

    fn loss_and_gradients(&mut self, _: Batch<'_>, _: &mut Params) -> Result<f32, Error> {
        Err(induction_model::Error::NotTheFamily { what: "training" }.into())
    }

    fn losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
    ) -> Result<Vec<Array2<f32>>, Error> {
        self.last_losses_under(examples, sets, 0)
    }

    fn last_losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
        first: usize,
    ) -> Result<Vec<Array2<f32>>, Error> {
        let used = examples.ncols().saturating_sub(1);
        check_tokens(&self.config, examples, used)?;
        for set in sets {
            self.check(examples, used, set)?;
        }
        let (inputs, _) = examples.split_at(Axis(1), used);
        let sets: Vec<_> = sets
            .iter()
            .map(|set| with_frozen_patterns(set, |hooks| self.activations(inputs, hooks, &[])))
            .collect::<Result<_, _>>()?;
        let examples = examples.as_standard_layout();
        let rows: Vec<&[u32]> =
            examples.outer_iter().map(|row| row.to_slice().expect("standard layout")).collect();
        // First those without interventions, which the others follow.
        let mut sequences: Vec<Sequence<'_>> =
            rows.iter().enumerate().map(|(k, row)| Sequence::new(&row[..used], k, &[])).collect();
        // Which sequences give the losses of each set, from the first example on; those of which
        // only the last positions differ from the first ones have none of their own.
        let mut places = Vec::new();
        let mut short = Vec::new();
        for (number, set) in sets.iter().enumerate() {
            if let Some(begin) = tails::begins(&self.config, set, used) {
                short.push((number, &set[..], begin));
                places.push(0);
                continue;
            }
            let from = match first_touched(set) {
                _ if set.is_empty() => None,
                Start::Tokens => Some(0),
                Start::Input(l) | Start::Qkv(l) | Start::Z(l) => Some(l),
            };
            places.push(if set.is_empty() { 0 } else { sequences.len() });
            if let Some(from) = from {
                let whole = first_touched(set) == Start::Tokens;
                sequences.extend(rows.iter().enumerate().map(|(k, row)| Sequence {
                    follows: (!whole).then_some(k),
                    from,
                    ..Sequence::new(&row[..used], k, set)
                }));
            }
        }
        let mut beside = Beside::nobody();
        if !short.is_empty() {
            let of = |k: usize| Tails::new(&self.config, k, used, &short);
            beside.tails = (0..rows.len()).flat_map(of).collect();
            beside.seen = rows.iter().map(|_| Mutex::default()).collect();
        }
        let mut taken = self.model()?;
        let model = &mut taken;
        self.begin(model, &mut sequences)?;
        let shape = |hook: Hook| hook_shape(&self.config, hook, 1, used);
        let wanted = if short.is_empty() { 0 } else { rows.len() };
        self.sweep(
            model,
            &mut sequences,
            &mut beside,
            self.config.n_layers,
            &|model, l, k, sequence, seen, run| {
                if k >= wanted {
                    run(&mut tap(model, sequence, BTreeMap::new()));
                    return;
                }
                let mut here = tails::asked(shape, l);
                let views =
                    here.iter_mut().map(|(hook, value)| (*hook, value.index_axis_mut(Axis(0), 0)));
                run(&mut tap(model, sequence, views.collect()));
                *seen[k].lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(here);
            },
        )?;
        if !places.contains(&0) {
            // Nobody asked for the losses without interventions.
            for sequence in &mut sequences[..rows.len()] {
                (sequence.tokens, sequence.residual) = (&[], Vec::new());
            }
        }
        let target = |k: usize, t: usize| rows[k % rows.len()][t + 1];
        let losses = self.losses_of(model, &mut sequences, first, &target)?;
        // The tails as sequences of their own, for the unembedding.
        let of_ends: Vec<_> = beside.tails.iter().map(|tails| tails.end(first)).collect();
        let longest = of_ends.iter().map(|end| end.places.len()).max().unwrap_or(0);
        let nothing = vec![0; longest];
        let mut ends: Vec<Sequence<'_>> = of_ends
            .iter()
            .map(|end| {
                let plain = Sequence::new(&nothing[..end.places.len()], 0, &[]);
                Sequence { residual: end.residual.clone(), ..plain }
            })
            .collect();
        let target = |k: usize, row: usize| {
            let (_, t) = of_ends[k].places[row];
            rows[of_ends[k].example][t + 1]
        };
        let last = self.losses_of(model, &mut ends, 0, &target)?;
        self.give_back(taken);
        let of = |place: usize| {
            let values = losses[place..place + rows.len()].concat();
            Array2::from_shape_vec((rows.len(), used - first), values).expect("a loss a target")
        };
        let mut found: Vec<Array2<f32>> = places.into_iter().map(of).collect();
        for (end, last) in of_ends.iter().zip(&last) {
            for (&(set, t), &loss) in end.places.iter().zip(last) {
                found[set][[end.example, t - first]] = loss;
            }
        }
        Ok(found)
    }

    fn activations(
        &self,
        tokens: ArrayView2<u32>,
        hooks: &[Hook],
        interventions: &[Intervention],
    ) -> Result<BTreeMap<Hook, ArrayD<f32>>, Error> {
        for hook in hooks {
            check_hook(&self.config, *hook).map_err(Error::Hook)?;
        }
        let used = tokens.ncols();
        self.check(tokens, used, interventions)?;
        let interventions =
            with_frozen_patterns(interventions, |hooks| self.activations(tokens, hooks, &[]))?;
        let shape = |hook: Hook, examples| IxDyn(&hook_shape(&self.config, hook, examples, used));
        let mut captured: BTreeMap<Hook, ArrayD<f32>> =
            hooks.iter().map(|&hook| (hook, ArrayD::zeros(shape(hook, tokens.nrows())))).collect();
        let tokens = tokens.as_standard_layout();
        let mut taken = self.model()?;
        let model = &mut taken;
        let mut sequences: Vec<Sequence<'_>> = tokens
            .outer_iter()
            .enumerate()
            .map(|(k, row)| {
                Sequence::new(row.to_slice().expect("standard layout"), k, &interventions)
            })
            .collect();
        self.embed(&mut sequences)?;
        for (k, sequence) in sequences.iter_mut().enumerate() {
            let mut seen = captured.get_mut(&Hook::Embed).map(|all| all.index_axis_mut(Axis(0), k));
            let views = seen.iter_mut().map(|view| (Hook::Embed, view.view_mut())).collect();
            let mut tap = tap(model, sequence, views);
            if tap.wants(Hook::Embed) {
                let rows = sequence.rows;
                tap.see(Hook::Embed, &mut sequence.residual, rows);
            }
            drop(tap);
            Self::place(model, sequence);
        }
        let all = Mutex::new(&mut captured);
        let layers = layers_for(hooks);
        let nobody = &mut Beside::nobody();
        self.sweep(model, &mut sequences, nobody, layers, &|model, l, k, sequence, _, run| {
            let mut here: Vec<(Hook, ArrayD<f32>)> = hooks
                .iter()
                .filter(|hook| **hook != Hook::Embed && layers_for(&[**hook]) == l + 1)
                .map(|&hook| (hook, ArrayD::zeros(shape(hook, 1))))
                .collect();
            let views =
                here.iter_mut().map(|(hook, value)| (*hook, value.index_axis_mut(Axis(0), 0)));
            let mut tap = tap(model, sequence, views.collect());
            tap.captures_only = l + 1 == layers;
            run(&mut tap);
            drop(tap);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            for (hook, value) in here {
                let of_hook = all.get_mut(&hook).expect("made for every hook");
                of_hook.index_axis_mut(Axis(0), k).assign(&value.index_axis(Axis(0), 0));
            }
        })?;
        self.give_back(taken);
        Ok(captured)
    }

    fn watch(
        &self,
        batches: &[Watched<'_>],
        see: &(dyn Fn(Sight<'_>) + Sync),
    ) -> Result<(), Error> {
        for Watched { tokens, hooks } in batches.iter().filter(|batch| batch.tokens.nrows() > 0) {
            check_tokens(&self.config, *tokens, tokens.ncols())?;
            check_watched(&self.config, hooks)?;
        }
        let tokens: Vec<_> =
            batches.iter().map(|batch| batch.tokens.as_standard_layout()).collect();
        // Of each sequence: its batch, and its place there.
        let places: Vec<(usize, usize)> = (tokens.iter().enumerate())
            .flat_map(|(batch, tokens)| (0..tokens.nrows()).map(move |example| (batch, example)))
            .collect();
        let mut sequences: Vec<Sequence<'_>> = (places.iter())
            .map(|&(batch, k)| {
                let row = tokens[batch].row(k).to_slice().expect("standard layout");
                Sequence::new(row, k, &[])
            })
            .collect();
        let mut taken = self.model()?;
        let model = &mut taken;
        self.begin(model, &mut sequences)?;
        let layers = self.config.n_layers;
        let nobody = &mut Beside::nobody();
        self.sweep(model, &mut sequences, nobody, layers, &|model, layer, k, sequence, _, run| {
            let (batch, first) = places[k];
            let hooks: Vec<Hook> = batches[batch].hooks.iter().map(|hook| hook(layer)).collect();
            let used = sequence.tokens.len();
            let shape = |hook: Hook| IxDyn(&hook_shape(&self.config, hook, 1, used));
            let mut here: BTreeMap<Hook, ArrayD<f32>> =
                hooks.iter().map(|&hook| (hook, ArrayD::zeros(shape(hook)))).collect();
            let views =
                here.iter_mut().map(|(hook, value)| (*hook, value.index_axis_mut(Axis(0), 0)));
            let mut tap = tap(model, sequence, views.collect());
            tap.captures_only = layer + 1 == layers;
            run(&mut tap);
            drop(tap);
            let seen = hooks.iter().map(|hook| here[hook].view()).collect();
            see(Sight { batch, first, layer, seen });
        })?;
        self.give_back(taken);
        Ok(())
    }

    fn logits(
        &self,
        tokens: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array3<f32>, Error> {
        let (used, d_vocab) = (tokens.ncols(), self.config.d_vocab);
        self.check(tokens, used, interventions)?;
        let interventions =
            with_frozen_patterns(interventions, |hooks| self.activations(tokens, hooks, &[]))?;
        let tokens = tokens.as_standard_layout();
        let mut sequences: Vec<Sequence<'_>> = tokens
            .outer_iter()
            .enumerate()
            .map(|(k, row)| {
                Sequence::new(row.to_slice().expect("standard layout"), k, &interventions)
            })
            .collect();
        let mut taken = self.model()?;
        let model = &mut taken;
        self.begin(model, &mut sequences)?;
        let (nobody, layers) = (&mut Beside::nobody(), self.config.n_layers);
        self.sweep(model, &mut sequences, nobody, layers, &|model, _, _, sequence, _, run| {
            run(&mut tap(model, sequence, BTreeMap::new()));
        })?;
        let mut logits = Array3::zeros((tokens.nrows(), used, d_vocab));
        let rows: Vec<Mutex<&mut [f32]>> = logits
            .as_slice_mut()
            .expect("standard layout")
            .chunks_mut(used * d_vocab)
            .map(Mutex::new)
            .collect();
        self.logits_of(model, &mut sequences, 0, &|k, positions, block| {
            let mut out = rows[k].lock().unwrap_or_else(PoisonError::into_inner);
            let out = &mut out[positions.start * d_vocab..positions.end * d_vocab];
            panels::unpack(block, LOGIT_STRIDE, 0, d_vocab, out);
        })?;
        drop(rows);
        self.give_back(taken);
        Ok(logits)
    }
}
