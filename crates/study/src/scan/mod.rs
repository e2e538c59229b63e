//! What a model's heads do: on given tokens ([`scan`]), or everything ([`scan_model`]).

mod causes;
mod opened;
mod roles;
mod series;
pub mod text;
mod time;
mod whole;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use induction_engine::Watched;
use induction_model::Hook;
use induction_records::HeadRow;
use induction_train::{list_snapshots, snapshot_folder};
use ndarray::{Array2, ArrayView2, Axis, Ix4};
use serde::Serialize;

use crate::{
    Error,
    device::Device,
    measure::{Evaluators, circuits},
};

pub use self::{
    opened::{Opened, open},
    series::{Onset, in_order, onset, scan_models},
    time::{ScanTiming, time_scan},
    whole::{Settings, scan_model},
};

/// Examples of each head evaluator, as in the paper.
pub const EXAMPLES: usize = 10;

/// Prompts of each measure of heads by cause, unless told, where they take less than a minute or so.
pub const PROMPTS: usize = 16;

/// Learned scalars of a model up to which they do, on the CPU's engine. Others compute whole passes
/// where it computes their last positions.
const QUICKLY_ASKED: u64 = 500_000_000;

/// Prompts of each measure of heads by cause of a model of so many learned scalars, unless told.
fn prompts_unless_told(device: Device, n_params: u64) -> usize {
    if device == Device::Cpu && n_params <= QUICKLY_ASKED { PROMPTS } else { 0 }
}

/// Windows of a text that the ICL score is taken on, unless told.
pub const WINDOWS: usize = 16;

/// The result of [`scan`], as its JSON.
#[derive(Debug, Serialize)]
pub struct Scan {
    /// Loss in nats of each token from the second on, given those before it.
    pub nll: Vec<f32>,
    /// Every head's scores. `previous_token` is taken on the given tokens, the others on random
    /// ones.
    pub heads: Vec<HeadRow>,
    /// The pattern of the head asked for, `[query][key]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Vec<Vec<f32>>>,
    /// The patterns of all heads, `[layer][head][query][key]`, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patterns: Option<Vec<Vec<Vec<Vec<f32>>>>>,
}

/// Whose attention pattern to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patterns {
    /// Nobody's.
    None,
    /// One head's.
    Of {
        /// From 0.
        layer: usize,
        /// From 0.
        head: usize,
    },
    /// Every head's.
    All,
}

impl std::str::FromStr for Patterns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let parse = || {
            let (layer, head) = text.split_once([':', '.'])?;
            Some(Self::Of { layer: layer.parse().ok()?, head: head.parse().ok()? })
        };
        parse()
            .ok_or_else(|| format!("\"{text}\": expected LAYER:HEAD, counted from 0, or \"all\""))
    }
}

/// A snapshot's folder: `model` itself, or the newest snapshot of the run `model`.
///
/// # Errors
/// A folder that is neither.
pub fn find_snapshot(model: &Path) -> Result<PathBuf, Error> {
    if model.join("model.safetensors").exists() {
        return Ok(model.to_path_buf());
    }
    match list_snapshots(model)?.last() {
        Some(&step) => Ok(snapshot_folder(model, step)),
        None => {
            let gguf = std::fs::read_dir(model).into_iter().flatten().flatten().find_map(|entry| {
                let path = entry.path();
                path.extension().is_some_and(|end| end == "gguf").then_some(path)
            });
            Err(Error::Input(match gguf {
                _ if !model.exists() => {
                    format!("{}: there is no such file or folder", model.display())
                }
                Some(path) => format!("{}: give the file, {}", model.display(), path.display()),
                None => format!(
                    "{}: neither a snapshot (no model.safetensors) nor a run (no snapshots/step-*) nor a model of another library (no config.json)",
                    model.display()
                ),
            }))
        }
    }
}

/// Reads a JSON list of token ids.
///
/// # Errors
/// A file that is not one.
pub fn read_tokens(path: &Path) -> Result<Vec<u32>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::Input(format!(
            "{}: expected a JSON list of token ids, such as [0, 17, 4]: {e}",
            path.display()
        ))
    })
}

/// Losses and head scores of a model on `tokens`.
///
/// # Errors
/// Tokens that the model cannot read, a head that it does not have.
pub fn scan(
    opened: Opened,
    tokens: &[u32],
    patterns: Patterns,
    device: Device,
) -> Result<Scan, Error> {
    let config = &opened.config;
    if let Patterns::Of { layer, head } = patterns
        && (layer >= config.n_layers || head >= config.n_heads)
    {
        let (layers, heads) = (config.n_layers, config.n_heads);
        return Err(Error::Input(format!(
            "--pattern {layer}:{head}: the model has {layers} layers of {heads} heads, counted from 0"
        )));
    }
    if tokens.len() < 2 {
        return Err(Error::Input(format!("{} tokens: a loss needs at least two", tokens.len())));
    }
    let engine = opened.engine(device)?;
    let Opened { config, weights, .. } = &opened;
    let row = Array2::from_shape_vec((1, tokens.len()), tokens.to_vec()).expect("one row");
    let nll = engine.losses(row.view(), &[])?.into_raw_vec_and_offset().0;
    // What weights say by themselves is said of models that can be trained.
    let params = config.is_trainable().then(|| weights.load(config)).transpose()?;
    let circuits = params
        .as_ref()
        .map(|params| Ok((circuits(config, params)?, params)))
        .transpose()
        .map_err(|source| Error::Metric { place: opened.facts.name.clone(), source })?;
    let circuits = circuits.as_ref().map(|(circuits, params)| (circuits, *params));
    let evaluators = Evaluators::new(
        &whole::evaluation(&opened, EXAMPLES),
        row.clone(),
        opened.bos,
        &opened.allowed,
    )?;
    let heads = evaluators.heads(engine.as_ref(), weights.as_ref(), circuits, 0, 0)?;

    let of_head = |head: ArrayView2<'_, f32>| head.rows().into_iter().map(|r| r.to_vec()).collect();
    let (pattern, patterns) = match patterns {
        Patterns::None => (None, None),
        Patterns::Of { layer, head } => {
            let hook = Hook::Pattern(layer);
            let seen = engine.activations(row.view(), &[hook], &[])?;
            let pattern = seen[&hook].view().into_dimensionality::<Ix4>().expect("rank 4");
            (Some(of_head(pattern.index_axis(Axis(0), 0).index_axis(Axis(0), head))), None)
        }
        Patterns::All => {
            let found = Mutex::new(BTreeMap::new());
            let watched = Watched { tokens: row.view(), hooks: &[Hook::Pattern] };
            engine.watch(&[watched], &|sight| {
                let pattern = sight.seen[0].view().into_dimensionality::<Ix4>().expect("rank 4");
                let heads = pattern.index_axis(Axis(0), 0).outer_iter().map(of_head).collect();
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(sight.layer, heads);
            })?;
            let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
            (None, Some(found.into_values().collect()))
        }
    };
    Ok(Scan { nll, heads, pattern, patterns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_is_asked_for_where_that_is_quick() {
        assert_eq!(prompts_unless_told(Device::Cpu, 135_000_000), PROMPTS);
        assert_eq!(prompts_unless_told(Device::Cpu, 8_000_000_000), 0);
        assert_eq!(prompts_unless_told("libtorch".parse().unwrap(), 135_000_000), 0);
    }
}
