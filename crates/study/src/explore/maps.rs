//! What every head attends to, and what that adds to the prediction.

use std::path::Path;

use induction_engine::Engine;
use induction_metrics::logit_attribution;
use induction_model::{Hook, ModelConfig, Normalization, ReadParams};
use ndarray::{Array2, Array4, ArrayD, ArrayView2, ArrayViewD, Axis, Ix4};
use safetensors::{Dtype, tensor::TensorView};

use crate::{
    Error,
    measure::direct::{DirectPath, value_logits},
};

/// What the heads of a model do on some tokens.
pub(crate) struct Maps {
    /// `[layer, head, query, key]`, rows sum to 1.
    pub(crate) attention: Array4<f32>,
    /// `[layer, head, query, key]`: what each source adds to the logit of the token after the
    /// query, in nats, its mean over the vocabulary taken off (paper.md, 3: logit attribution).
    pub(super) attribution: Array4<f32>,
}

impl Maps {
    /// `tokens` begins with the start token and ends with the target of the last query: one more
    /// than there are queries.
    pub(super) fn of(
        engine: &dyn Engine,
        weights: &dyn ReadParams,
        tokens: &[u32],
        place: &str,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Metric { place: place.to_string(), source };
        let config = engine.config();
        let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
        let input = Array2::from_shape_vec((1, inputs.len()), inputs.to_vec()).expect("one row");
        let layers = 0..config.n_layers;
        let last = Hook::ResidPost(config.n_layers - 1);
        let hooks: Vec<Hook> =
            layers.clone().flat_map(|l| [Hook::Pattern(l), Hook::V(l)]).chain([last]).collect();
        let seen = engine.activations(input.view(), &hooks, &[])?;
        let one = |hook: Hook| rank4(&seen[&hook]).index_axis_move(Axis(0), 0);
        let scales = final_scales(config, seen[&last].index_axis(Axis(0), 0));
        let direct = DirectPath::new(config, weights, targets.iter().copied())?;
        let targets =
            direct.rename(ArrayView2::from_shape((1, targets.len()), targets).expect("one row"));
        let targets = targets.as_slice().expect("one row");
        let shape = (config.n_layers, config.n_heads, inputs.len(), inputs.len());
        let mut maps = Self { attention: Array4::zeros(shape), attribution: Array4::zeros(shape) };
        for l in layers {
            let (pattern, values) = (one(Hook::Pattern(l)), one(Hook::V(l)));
            let logits = value_logits(values.view(), &direct.of_layer(weights, l)?);
            let mut raised =
                logit_attribution(pattern.view(), logits.view(), targets).map_err(failed)?;
            for (mut query, scale) in raised.axis_iter_mut(Axis(1)).zip(&scales) {
                query /= *scale;
            }
            maps.attention.index_axis_mut(Axis(0), l).assign(&pattern);
            maps.attribution.index_axis_mut(Axis(0), l).assign(&raised.mapv(|x| x as f32));
        }
        Ok(maps)
    }
}

/// What the final norm divides each position of the last residual stream (`[pos, d_model]`) by.
pub(super) fn final_scales(config: &ModelConfig, residual: ArrayViewD<'_, f32>) -> Vec<f64> {
    let of_row = |row: ArrayViewD<'_, f32>| {
        let wide = row.mapv(f64::from);
        match config.normalization {
            Normalization::LN => (wide.var(0.0) + config.layer_norm_eps).sqrt(),
            Normalization::RMS => {
                (wide.mapv(|x| x * x).mean().unwrap_or(0.0) + config.layer_norm_eps).sqrt()
            }
            Normalization::None => 1.0,
        }
    };
    residual.outer_iter().map(of_row).collect()
}

fn rank4(array: &ArrayD<f32>) -> Array4<f32> {
    array.view().into_dimensionality::<Ix4>().expect("patterns and values have rank 4").to_owned()
}

/// One file of maps: attention in 255ths; attribution in 127ths of its head's largest, which lies
/// beside it.
pub(super) fn write_maps<'a>(
    path: &Path,
    all: impl Iterator<Item = (String, &'a Maps)>,
) -> Result<(), Error> {
    let mut arrays: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (suffix, maps) in all {
        let (shape, (layers, heads, ..)) = (maps.attention.shape().to_vec(), maps.attention.dim());
        let attention =
            maps.attention.iter().map(|a| (a.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        arrays.push((format!("attention{suffix}"), Dtype::U8, shape.clone(), attention));
        let (mut attribution, mut scales) =
            (Vec::with_capacity(maps.attribution.len()), Vec::new());
        for head in maps
            .attribution
            .outer_iter()
            .flat_map(|layer| layer.outer_iter().map(|h| h.to_owned()).collect::<Vec<_>>())
        {
            let largest = head.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let unit = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            attribution.extend(head.iter().map(|x| (x / unit).round() as i8 as u8));
            scales.extend(unit.to_le_bytes());
        }
        arrays.push((format!("attribution{suffix}"), Dtype::I8, shape, attribution));
        arrays.push((format!("attribution_unit{suffix}"), Dtype::F32, vec![layers, heads], scales));
    }
    let views = arrays.iter().map(|(name, dtype, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(*dtype, shape.clone(), bytes).expect("bytes were made from this shape"),
        )
    });
    let file = safetensors::serialize(views, None).expect("names are unique and sizes fit");
    induction_files::write_atomic(path, &file).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use induction_model::ModelConfig;

    use super::*;
    use crate::device::Device;

    #[test]
    fn attribution_and_the_direct_path_make_the_logits() {
        for normalization in [Normalization::LN, Normalization::RMS, Normalization::None] {
            let config = ModelConfig {
                n_layers: 2,
                d_model: 16,
                n_heads: 2,
                d_head: 8,
                n_ctx: 12,
                d_vocab: 20,
                normalization,
                ..ModelConfig::default()
            };
            let mut params = config.init_params(1).unwrap();
            // As initialised, heads add next to nothing.
            let names: Vec<String> = params.iter().map(|(name, _)| name.to_string()).collect();
            for name in names.iter().filter(|name| name.contains(".W_")) {
                *params.get_mut(name).unwrap() *= 8.0;
            }
            let engine = Device::Cpu.open(&config, &params).unwrap();
            let tokens: Vec<u32> = (0..13).map(|i| (i * 7 + i * i) % 20).collect();
            let maps = Maps::of(engine.as_ref(), &params, &tokens, "test").unwrap();
            let input = Array2::from_shape_vec((1, 12), tokens[..12].to_vec()).unwrap();
            let logits = engine.logits(input.view(), &[]).unwrap();
            let last = Hook::ResidPost(1);
            let seen = engine.activations(input.view(), &[Hook::Embed, last], &[]).unwrap();
            let w_u = params.unembedding().mapv(f64::from);
            for at in 0..12 {
                let row = |hook: Hook| {
                    seen[&hook].index_axis(Axis(0), 0).index_axis(Axis(0), at).mapv(f64::from)
                };
                let (embed, residual) = (row(Hook::Embed), row(last));
                let direct = match normalization {
                    Normalization::LN => {
                        let scale = (residual.var(0.0) + config.layer_norm_eps).sqrt();
                        (&embed - embed.mean().unwrap()) / scale
                    }
                    Normalization::RMS => {
                        let squares = residual.mapv(|x| x * x).mean().unwrap();
                        &embed / (squares + config.layer_norm_eps).sqrt()
                    }
                    Normalization::None => embed,
                };
                let direct = direct.into_dimensionality::<ndarray::Ix1>().unwrap().dot(&w_u);
                let target = tokens[at + 1] as usize;
                let centred = |row: &ndarray::Array1<f64>| row[target] - row.mean().unwrap();
                let found: f64 =
                    maps.attribution.index_axis(Axis(2), at).iter().map(|&x| f64::from(x)).sum();
                let logits = logits
                    .index_axis(Axis(0), 0)
                    .index_axis(Axis(0), at)
                    .mapv(f64::from)
                    .to_owned();
                let expected = centred(&logits) - centred(&direct);
                assert!(found.abs() > 1e-3 || at == 0, "{found}");
                assert!(
                    (found - expected).abs() < 1e-4 * (1.0 + found.abs()),
                    "{at}: {found} instead of {expected}"
                );
                let attended: f32 = maps.attention.index_axis(Axis(2), at).sum();
                assert!((attended - 4.0).abs() < 1e-5);
            }
        }
    }
}
