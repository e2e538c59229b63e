//! What a model runs on.

use std::{fmt, path::Path, str::FromStr, sync::Arc};

use induction_engine::{
    Arch, BurnDevice, CpuEngine, Engine, Exactness, Products, StreamEngine, gpus,
};
use induction_model::{ModelConfig, Params, ReadParams};
use serde::Serialize;

use crate::Error;

/// An engine and its device. Written `cpu`, or as [`BurnDevice`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The fused CPU engine.
    #[default]
    Cpu,
    /// burn.
    Burn {
        /// Its device.
        on: BurnDevice,
        /// Whether matrix products of training are taken in bfloat16.
        bf16: bool,
    },
}

impl Device {
    /// As in the option, with `bf16` where products are.
    pub fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_string(),
            Self::Burn { on, bf16: false } => on.to_string(),
            Self::Burn { on, bf16: true } => format!("{on} bf16"),
        }
    }

    /// What a repetition on it may be expected to give.
    pub fn exactness(self) -> Exactness {
        match self {
            Self::Cpu => Exactness::Exact,
            Self::Burn { on, .. } => on.exactness(),
        }
    }

    /// How matrices are multiplied on it, in training or elsewhere.
    pub fn products(self, training: bool) -> &'static str {
        match self {
            Self::Burn { bf16: true, .. } if training => "bfloat16",
            Self::Burn { on, .. } if on.products() == Products::Tf32 => "TF32",
            Self::Cpu | Self::Burn { .. } => "float32",
        }
    }

    /// "cpu, exact: the same spec and program give the same bits"; what a number means on this
    /// device. Where products are not taken in float32, that is said.
    pub fn promise(self) -> String {
        let promise = match self.exactness() {
            Exactness::Exact => "exact: the same spec and program give the same bits",
            Exactness::Statistical => "statistical: a repetition agrees up to rounding",
        };
        let products = match [self.products(true), self.products(false)] {
            ["float32", _] => String::new(),
            ["TF32", _] => ", products in TF32".to_string(),
            ["bfloat16", other] if self.reads_bf16() => format!(
                ", products of training and of pretrained models' layers in bfloat16, others in {other}"
            ),
            [training, other] => format!(", products of training in {training}, others in {other}"),
        };
        format!("{self}, {promise}{products}")
    }

    /// Whether it reads pretrained models' layers in bfloat16.
    fn reads_bf16(self) -> bool {
        matches!(self, Self::Burn { on, bf16: true } if on.is_libtorch())
    }

    /// The same device, with matrix products of training in bfloat16, and on libtorch's those of
    /// pretrained models' layers, too.
    ///
    /// # Errors
    /// The fused CPU engine, which has none.
    pub fn with_bf16(self) -> Result<Self, Error> {
        match self {
            Self::Cpu => Err(Error::Input(
                "--bf16: the engine `cpu` computes in float32; name another device".into(),
            )),
            Self::Burn { on, .. } if !on.has_bf16() => {
                Err(Error::Input(format!("--bf16: {on} has no bfloat16")))
            }
            Self::Burn { on, .. } => Ok(Self::Burn { on, bf16: true }),
        }
    }

    /// Checks that this build and this machine have it.
    ///
    /// # Errors
    /// What is missing, and what helps.
    pub fn check(self) -> Result<(), Error> {
        match self {
            Self::Cpu => Ok(()),
            Self::Burn { on, .. } => Ok(on.check()?),
        }
    }

    /// The engine for a model of any architecture, which reads and does not train; its weights are
    /// read when they are needed.
    ///
    /// # Errors
    /// A device that is not there or runs models alone that can be trained, an invalid configuration, or
    /// what is wrong with the weights that are read at once.
    pub fn reader(
        self,
        config: &ModelConfig,
        weights: Arc<dyn ReadParams>,
    ) -> Result<Box<dyn Engine>, Error> {
        Ok(match self {
            Self::Cpu => Box::new(StreamEngine::new(config, weights)?),
            Self::Burn { on, bf16 } => on.reader(bf16, config, weights)?,
        })
    }

    /// The engine, with these weights.
    ///
    /// # Errors
    /// A device that is not there, an invalid configuration, or parameters that are not its own.
    pub fn open(self, config: &ModelConfig, params: &Params) -> Result<Box<dyn Engine>, Error> {
        Ok(match self {
            Self::Cpu => Box::new(CpuEngine::new(config, params)?),
            Self::Burn { on, bf16 } => on.engine(bf16, config, params)?,
        })
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        // The list of what is expected is burn's; ours comes before it.
        let with_cpu = |refusal: String| match refusal.strip_prefix("expected flex") {
            Some(others) => format!("expected cpu, flex{others}"),
            None => refusal,
        };
        Ok(Self::Burn { on: text.parse().map_err(with_cpu)?, bf16: false })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// What `--device` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The best that there is for the models at hand.
    Auto,
    /// This one.
    Named(Device),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Named)
                .map_err(|refusal| refusal.replacen("expected cpu,", "expected auto, cpu,", 1)),
        }
    }
}

/// From this width of the residual stream on a GPU pays: narrower models spend the time between its
/// kernels (docs/results/gpu.md).
const WIDE: usize = 512;

/// The device for models of at most this width (nothing: for any model), and why. A run that has
/// begun on one goes on there, since devices round differently.
pub fn chosen(widest: Option<usize>, begun: Option<Device>) -> (Device, String) {
    if let Some(device) = begun {
        return (device, format!("{device}, on which the run was begun"));
    }
    if let Some(width) = widest.filter(|&width| width < WIDE) {
        let why = format!("cpu: models of d_model {width} are too narrow for a GPU to pay");
        return (Device::Cpu, why);
    }
    let mut faults = Vec::new();
    for on in [BurnDevice::LibtorchCuda(0), BurnDevice::Cuda(0)] {
        match on.fault() {
            None => return (Device::Burn { on, bf16: false }, format!("{on}, a GPU that works")),
            Some(fault) => faults.push(format!("{on}: {fault}")),
        }
    }
    (Device::Cpu, format!("cpu: no GPU can be used ({})", faults.join("; ")))
}

/// The device on which a run's newest snapshot was made, if there is one after its beginning.
pub fn of_run(run: &Path) -> Option<Device> {
    let step = induction_train::list_snapshots(run).ok()?.into_iter().next_back()?;
    let state = induction_train::snapshot_folder(run, step).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state).ok()?).ok()?;
    let name = state["engine"].as_str().filter(|_| step > 0)?;
    let device: Device = name.strip_suffix(" bf16").unwrap_or(name).parse().ok()?;
    if name.ends_with(" bf16") { device.with_bf16().ok() } else { Some(device) }
}

/// A line of `induction devices`.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// As `--device` takes it.
    pub device: String,
    /// Whether it can be used here and now.
    pub ready: bool,
    /// What it stands on; if it is not ready, what is missing and what adds it.
    pub note: String,
}

/// Every device that there could be, with what this build and this machine have of it.
pub fn list() -> Vec<Listed> {
    let threads = rayon::current_num_threads();
    let mut all = vec![Listed {
        device: "cpu".to_string(),
        ready: true,
        note: format!("our own kernels, {}; {threads} threads", instructions()),
    }];
    for kind in BurnDevice::KINDS {
        let mut devices = vec![kind];
        if let (Some(_), Ok(found)) = (kind.gpu(), gpus()) {
            let numbered = found.iter().map(|gpu| match kind {
                BurnDevice::LibtorchCuda(_) => BurnDevice::LibtorchCuda(gpu.index),
                _ => BurnDevice::Cuda(gpu.index),
            });
            devices = numbered.collect();
        }
        all.extend(devices.into_iter().map(|on| {
            let fault = on.fault();
            let note = fault.clone().unwrap_or_else(|| {
                let gpu = on
                    .gpu()
                    .and_then(|index| gpus().ok()?.into_iter().find(|gpu| gpu.index == index));
                let gpu = gpu.map_or_else(String::new, |gpu| format!("; {gpu}"));
                format!("{}; {}{gpu}", on.backend(), on.products())
            });
            Listed { device: on.to_string(), ready: fault.is_none(), note }
        }));
    }
    all
}

/// The instruction set that our kernels use here.
fn instructions() -> String {
    let name = format!("{:?}", Arch::new());
    match name.split('(').next().unwrap_or_default() {
        "V4" => "AVX-512".to_string(),
        "V3" => "AVX2".to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["cpu", "flex", "ndarray", "libtorch", "libtorch:cuda:1", "cuda:0"] {
            assert_eq!(name.parse::<Device>().map(Device::name), Ok(name.to_string()));
        }
        assert!("tpu".parse::<Device>().is_err_and(|e| e.contains("cpu, flex")));
        assert!(Device::Cpu.with_bf16().is_err());
        assert_eq!("cuda".parse::<Device>().unwrap().with_bf16().unwrap().name(), "cuda:0 bf16");
    }

    #[test]
    fn a_device_is_chosen_for_a_reason() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cpu".parse(), Ok(Choice::Named(Device::Cpu)));
        assert!("tpu".parse::<Choice>().is_err_and(|e| e.contains("expected auto, cpu, flex")));
        let (device, why) = chosen(Some(64), None);
        assert!(device == Device::Cpu && why.contains("d_model 64 are too narrow"), "{why}");
        // What began on a device goes on there.
        let flex: Device = "flex".parse().unwrap();
        assert_eq!(chosen(Some(64), Some(flex)).0, flex);
        // A wide model has a GPU, or why there is none.
        for widest in [Some(768), None] {
            let (device, why) = chosen(widest, None);
            assert!(device != Device::Cpu || why.contains("libtorch:cuda:0: "), "{why}");
        }
    }

    #[test]
    fn what_is_not_float32_is_said() {
        let promise = |name: &str| name.parse::<Device>().unwrap().promise();
        for exact in ["cpu", "flex", "libtorch:cuda:0"] {
            assert!(!promise(exact).contains("products"), "{}", promise(exact));
        }
        assert!(promise("cuda:0").ends_with("rounding, products in TF32"));
        let bf16 = "cuda:1".parse::<Device>().unwrap().with_bf16().unwrap();
        assert!(
            bf16.promise().ends_with("products of training in bfloat16, others in TF32"),
            "{}",
            bf16.promise()
        );
    }

    #[test]
    fn every_device_is_listed_with_what_it_lacks() {
        let all = list();
        assert!(all[0].ready && all[0].device == "cpu" && all[1].ready && all[1].device == "flex");
        assert!(all.len() >= 6);
        for listed in &all {
            assert!(!listed.note.is_empty() && !listed.note.contains('\n'), "{listed:?}");
        }
    }
}
