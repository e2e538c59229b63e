//! Reads what fixtures/oracle/pytorch.py dumped in float64.

#![allow(dead_code, unreachable_pub)] // each test uses its part of what is shared

use std::{collections::BTreeMap, path::PathBuf};

use induction_engine::{BurnDevice, BurnEngine, CpuEngine, Engine, Exactness, archs};
use induction_model::{ModelConfig, Params};
use ndarray::{Array2, ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The dumped cases: layer norm or none, MLP, smeared keys, one to three layers, head sizes that
/// divide nothing, clamps, and what trained models may have otherwise than the paper's.
pub const CASES: [&str; 12] = [
    "one_layer_smeared",
    "two_layer",
    "two_layer_mlp_smeared",
    "two_layer_odd_heads",
    "three_layer_no_norm",
    "two_layer_previous_token",
    "two_layer_forbid_induction",
    "two_layer_match_and_off",
    "two_layer_copy",
    "two_layer_rotary_rms_qk_tied",
    "two_layer_rotary_adjacent",
    "two_layer_qk_norm_odd_heads",
];

/// By how much float32 may differ from float64, whose values here are of order 1; gradients,
/// relative to their norm, ten times as much. `cuda` rounds the factors of products to TF32, which
/// alone makes 2.7e-2 of an activation (fixtures/oracle/tf32.py), and turns queries and keys by a
/// product; on an H100 the first differences were those of that computation to three digits.
const TOLERANCES: [(&str, f64); 8] = [
    ("cpu", 1e-5),
    ("flex", 1e-5),
    ("ndarray", 1e-5),
    ("libtorch", 1e-5),
    ("burn on libtorch", 1e-5),
    ("libtorch:cuda:0", 3e-5),
    ("burn on libtorch:cuda:0", 3e-5),
    ("cuda:0", 4e-2),
];

pub fn tolerance(engine: &dyn Engine) -> f64 {
    let found = TOLERANCES.iter().find(|(name, _)| *name == engine.name());
    found.unwrap_or_else(|| panic!("{} has no tolerance", engine.name())).1
}

/// By how much two computations may differ that are the same on paper, and in which an exact engine
/// rounds alike. A device that picks its kernels by timing them may pick another in between.
pub fn equal(engine: &dyn Engine) -> f64 {
    match engine.exactness() {
        Exactness::Exact => 1e-6,
        Exactness::Statistical => tolerance(engine).max(1e-6),
    }
}

/// The devices that this build and this machine have, the first GPU standing for all.
pub fn devices() -> impl Iterator<Item = BurnDevice> {
    BurnDevice::KINDS.into_iter().filter(|device| device.missing().is_none())
}

/// The model on every engine of a device: libtorch is reached directly, and by burn. `kept`:
/// training stays on the device.
pub fn engines_on(
    device: BurnDevice,
    bf16: bool,
    kept: bool,
    config: &ModelConfig,
    params: &Params,
) -> Vec<Box<dyn Engine>> {
    let copies = config.clamp.any_copies();
    let mut engines = Vec::new();
    if !(device.is_libtorch() && copies) {
        engines.push(device.engine_kept(kept, bf16, config, params).unwrap());
    }
    if device.is_libtorch() {
        let burn = BurnEngine::on(device, bf16, config, params).unwrap();
        engines.push(Box::new(burn.kept_on_device(kept)));
    }
    engines
}

/// The model on every engine that this build and this machine have: those of the devices, and ours
/// with each instruction set.
pub fn engines(config: &ModelConfig, params: &Params) -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> =
        devices().flat_map(|device| engines_on(device, false, false, config, params)).collect();
    for arch in archs() {
        engines.push(Box::new(CpuEngine::on(arch, config, params).unwrap()));
    }
    engines
}

/// A folder two below the repository's root. cargo says where when it runs a test; a binary that
/// was carried to another machine is told by who runs it there (fixtures/gpu/session.py).
fn crate_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// All arrays of a dump, by name.
pub fn arrays(name: &str) -> BTreeMap<String, ArrayD<f64>> {
    let path = crate_folder().join(format!("../../fixtures/oracle/{name}.safetensors"));
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let array = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let words = view.data().chunks_exact(8).map(|b| <[u8; 8]>::try_from(b).unwrap());
        let values = match view.dtype() {
            Dtype::I64 => words.map(|b| i64::from_le_bytes(b) as f64).collect(),
            _ => words.map(f64::from_le_bytes).collect(),
        };
        (name, ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap())
    };
    tensors.into_iter().map(array).collect()
}

/// One model and all that PyTorch computed for it.
pub struct Oracle {
    pub name: &'static str,
    pub config: ModelConfig,
    pub adamw: Value,
    pub tokens: Array2<u32>,
    arrays: BTreeMap<String, ArrayD<f64>>,
}

impl Oracle {
    pub fn load(name: &'static str) -> Self {
        let path = |end: &str| crate_folder().join(format!("../../fixtures/oracle/{name}.{end}"));
        let mut json: Value =
            serde_json::from_slice(&std::fs::read(path("json")).unwrap()).unwrap();
        let adamw = json.as_object_mut().unwrap().remove("adamw").unwrap();
        let mut arrays = arrays(name);
        let tokens = arrays.remove("tokens").unwrap().mapv(|id| id as u32);
        Self {
            name,
            config: serde_json::from_value(json).unwrap(),
            adamw,
            tokens: tokens.into_dimensionality().unwrap(),
            arrays,
        }
    }

    pub fn get(&self, name: &str) -> &ArrayD<f64> {
        self.arrays.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    /// The parameters dumped under `prefix`.
    pub fn params(&self, prefix: &str) -> Params {
        Params::from_fn(&self.config, |name, _| {
            self.get(&format!("{prefix}{name}")).mapv(|x| x as f32)
        })
    }

    /// Asserts that `found` is the dumped array to within `tolerance`, and returns the largest
    /// difference.
    pub fn close<'a>(
        &self,
        name: &str,
        found: impl IntoIterator<Item = &'a f32>,
        tolerance: f64,
    ) -> f64 {
        let expected = self.get(name);
        let found: Vec<f32> = found.into_iter().copied().collect();
        assert_eq!(found.len(), expected.len(), "{}: {name}", self.name);
        let largest =
            found.iter().zip(expected).fold(0f64, |m, (f, e)| m.max((f64::from(*f) - e).abs()));
        assert!(
            largest <= tolerance,
            "{}: {name} differs by {largest:e}, more than {tolerance:e}",
            self.name
        );
        largest
    }
}
