//! burn's devices: which this build and this machine have.

use std::{borrow::Cow, fmt, process::Command, str::FromStr, sync::Arc};

#[cfg(feature = "burn")]
use burn::tensor::{Device, Tensor, TensorData};
use induction_model::{ModelConfig, Params, ReadParams};

#[cfg(feature = "burn")]
use crate::failure;
use crate::{Engine, Error, Exactness};

/// A device of one of burn's backends. Written `flex`, `ndarray`, `libtorch`, `libtorch:cuda:N`,
/// `libtorch:mps`, `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurnDevice {
    /// Pure Rust, on the CPU (feature `burn`).
    Flex,
    /// The older pure-Rust backend (feature `ndarray`).
    Ndarray,
    /// PyTorch's library on the CPU (feature `libtorch`).
    Libtorch,
    /// PyTorch's library on a GPU (feature `libtorch`).
    LibtorchCuda(usize),
    /// PyTorch's library on Apple's graphics processor, by Metal (feature `libtorch`, macOS).
    LibtorchMps,
    /// CubeCL's kernels on a GPU (feature `cuda`).
    Cuda(usize),
}

impl BurnDevice {
    /// One of each kind, the first GPU standing for all.
    pub const KINDS: [Self; 6] = [
        Self::Flex,
        Self::Ndarray,
        Self::Libtorch,
        Self::LibtorchCuda(0),
        Self::LibtorchMps,
        Self::Cuda(0),
    ];

    /// The command that makes a build with the backend, if this one is without.
    fn not_built(self) -> Option<&'static str> {
        match self {
            Self::Flex if !cfg!(feature = "burn") => Some("cargo build --release --features burn"),
            Self::Ndarray if !cfg!(feature = "ndarray") => {
                Some("cargo build --release --features ndarray")
            }
            _ if self.is_libtorch() && !cfg!(feature = "libtorch") => Some("cargo xtask libtorch"),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Some("cargo xtask cuda --build"),
            _ => None,
        }
    }

    /// The libraries it stands on. Of libtorch, the version that is loaded, which need not be the
    /// one that was built against.
    pub fn backend(self) -> Cow<'static, str> {
        match self {
            Self::Flex => "burn 0.22.1, burn-flex".into(),
            Self::Ndarray => "burn 0.22.1, burn-ndarray".into(),
            Self::Libtorch | Self::LibtorchCuda(_) | Self::LibtorchMps => {
                let version =
                    libtorch_version().unwrap_or_else(|| "of an unknown version".to_string());
                format!("libtorch {version}").into()
            }
            Self::Cuda(_) => "burn 0.22.1, burn-cuda".into(),
        }
    }

    /// How it multiplies float32 matrices.
    pub fn products(self) -> Products {
        match self {
            Self::Cuda(_) => Products::Tf32,
            _ => Products::Float32,
        }
    }

    /// Whether it is a graphics processor.
    pub fn is_gpu(self) -> bool {
        self.gpu().is_some() || self == Self::LibtorchMps
    }

    /// The number of its graphics processor, if it has one.
    pub fn gpu(self) -> Option<usize> {
        match self {
            Self::LibtorchCuda(index) | Self::Cuda(index) => Some(index),
            _ => None,
        }
    }

    /// Whether it multiplies matrices of bfloat16.
    pub fn has_bf16(self) -> bool {
        self != Self::Ndarray
    }

    /// What a repetition may be expected to give. libtorch promises no order of sums, and CubeCL
    /// picks kernels by timing them.
    pub fn exactness(self) -> Exactness {
        match self {
            Self::Flex | Self::Ndarray => Exactness::Exact,
            _ => Exactness::Statistical,
        }
    }

    /// Numbers that the attention scores of the examples in work may fill in a layer. Enough to
    /// keep the matrix products long (64 MiB of float32 on a CPU, 1 GiB on a GPU), little enough
    /// that large batches and long evaluations run in constant memory. libtorch's passes on a CPU go
    /// over the scores operation by operation, which is faster where they stay in the cache (4 MiB;
    /// docs/BENCHMARKS.md).
    pub fn numbers_at_once(self) -> usize {
        match self {
            Self::Libtorch => 1 << 20,
            _ if self.is_gpu() => 1 << 28,
            _ => 1 << 24,
        }
    }

    /// Sequences of `pos` tokens of a model whose training is worked on at once. burn writes the
    /// attention patterns of all layers down, libtorch's attention none: there it is the residual
    /// stream's neighbours that fill the memory, some 20 arrays a layer with those of the way back.
    pub fn training_sequences(self, config: &ModelConfig, pos: usize) -> usize {
        let ModelConfig { n_layers, d_model, d_mlp, n_heads, .. } = *config;
        if self.is_libtorch() {
            let numbers = if self.is_gpu() { 1 << 32 } else { 1 << 28 };
            return (numbers / (n_layers * pos * (20 * d_model + 4 * d_mlp))).max(1);
        }
        (self.numbers_at_once() / (n_heads * pos * pos)).max(1)
    }

    /// What this build or this machine lacks for it, and what helps; nothing if it can be tried.
    pub fn missing(self) -> Option<String> {
        if let Some(command) = self.not_built() {
            return Some(format!("not in this build; it is in one made by `{command}`"));
        }
        if self == Self::LibtorchMps && !metal() {
            return Some("no Metal to be found, which PyTorch's library has on macOS alone".into());
        }
        let index = self.gpu()?;
        let found = match gpus() {
            Ok(found) => found,
            Err(reason) => return Some(format!("no NVIDIA GPU to be found ({reason})")),
        };
        let names: Vec<String> = found.iter().map(Gpu::to_string).collect();
        let Some(gpu) = found.iter().find(|gpu| gpu.index == index) else {
            return Some(format!("there is no GPU {index}, but {}", names.join("; ")));
        };
        // libtorch brings its own CUDA and says for itself which driver that needs.
        let needed = Self::oldest_driver().filter(|_| matches!(self, Self::Cuda(_)))?;
        (gpu.major_driver()? < needed).then(|| {
            format!(
                "{gpu}: this build needs driver {needed} or later; update it, or build for its CUDA (docs/DEVICES.md)"
            )
        })
    }

    /// The first driver of the CUDA that burn-cuda was built against, if the build says which that
    /// is.
    fn oldest_driver() -> Option<u32> {
        match option_env!("CUDARC_CUDA_VERSION")?.get(..2)? {
            "11" => Some(450),
            "12" => Some(525),
            "13" => Some(580),
            _ => None,
        }
    }

    /// What is wrong with it: what is [`missing`](Self::missing), or why a small computation on a
    /// GPU fails, whose driver and libraries are other people's. Nothing if it works. One line.
    pub fn fault(self) -> Option<String> {
        #[cfg(feature = "burn")]
        return self.missing().or_else(|| self.is_gpu().then(|| self.tried().err()).flatten());
        #[cfg(not(feature = "burn"))]
        self.missing()
    }

    /// Checks that nothing is [`missing`](Self::missing).
    ///
    /// # Errors
    /// What is.
    pub fn check(self) -> Result<(), Error> {
        self.missing().map_or(Ok(()), |missing| Err(self.error(&missing)))
    }

    /// The engine on it, with these weights; `bf16`: training multiplies matrices of bfloat16.
    ///
    /// # Errors
    /// A device that is not there, an invalid configuration or one that cannot be trained,
    /// parameters that are not its own.
    pub fn engine(
        self,
        bf16: bool,
        config: &ModelConfig,
        params: &Params,
    ) -> Result<Box<dyn Engine>, Error> {
        // libtorch on a CPU, too, is faster when weights need not be laid out anew for each step.
        self.engine_kept(self.is_gpu() || self.is_libtorch(), bf16, config, params)
    }

    /// [`engine`](Self::engine), its training kept on the device ([`Resident`](crate::Resident)) or
    /// not.
    ///
    /// # Errors
    /// As [`engine`](Self::engine).
    #[cfg_attr(
        not(feature = "burn"),
        expect(unused_variables, reason = "there is nothing to open")
    )]
    pub fn engine_kept(
        self,
        kept: bool,
        bf16: bool,
        config: &ModelConfig,
        params: &Params,
    ) -> Result<Box<dyn Engine>, Error> {
        self.check()?;
        #[cfg(feature = "libtorch")]
        if self.is_libtorch() {
            return Ok(Box::new(
                crate::TorchEngine::on(self, bf16, config, params)?.kept_on_device(kept),
            ));
        }
        #[cfg(feature = "burn")]
        return Ok(Box::new(
            crate::BurnEngine::on(self, bf16, config, params)?.kept_on_device(kept),
        ));
        #[cfg(not(feature = "burn"))]
        unreachable!("without burn something is missing for every device")
    }

    /// The engine for any architecture on it, which reads and does not train; weights are read when
    /// they are needed; `bf16`: the layers' matrices are bfloat16.
    ///
    /// # Errors
    /// As [`engine`](Self::engine), and a device that runs models alone that can be trained.
    #[cfg_attr(
        not(feature = "libtorch"),
        expect(unused_variables, reason = "there is nothing to open")
    )]
    pub fn reader(
        self,
        bf16: bool,
        config: &ModelConfig,
        weights: Arc<dyn ReadParams>,
    ) -> Result<Box<dyn Engine>, Error> {
        self.check()?;
        #[cfg(feature = "libtorch")]
        if self.is_libtorch() {
            return Ok(Box::new(crate::TorchEngine::reading(self, bf16, config, weights)?));
        }
        Err(self.error(
            "it runs models alone that this program can train; pretrained ones run on cpu and libtorch's devices",
        ))
    }

    /// Bytes of its memory that nobody uses now, if that can be known.
    #[cfg(feature = "libtorch")]
    pub(crate) fn free_bytes(self) -> Option<u64> {
        let Some(index) = self.gpu() else {
            let text = std::fs::read_to_string("/proc/meminfo").ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            return Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?);
        };
        let gpus = gpus().ok()?;
        gpus.iter().find(|gpu| gpu.index == index).map(|gpu| gpu.free << 20)
    }

    /// Whether it is one of PyTorch's library.
    pub fn is_libtorch(self) -> bool {
        matches!(self, Self::Libtorch | Self::LibtorchCuda(_) | Self::LibtorchMps)
    }

    /// burn's handle.
    #[cfg(feature = "burn")]
    pub(crate) fn open(self) -> Result<Device, Error> {
        self.prepare()?;
        if self.is_gpu() {
            self.tried().map_err(|reason| self.error(&reason))
        } else {
            Ok(self.handle())
        }
    }

    /// libtorch's own device.
    #[cfg(feature = "libtorch")]
    pub(crate) fn open_torch(self) -> Result<tch::Device, Error> {
        self.prepare()?;
        match self {
            Self::Libtorch => Ok(tch::Device::Cpu),
            Self::LibtorchCuda(index) => {
                self.tried().map_err(|reason| self.error(&reason))?;
                Ok(tch::Device::Cuda(index))
            }
            Self::LibtorchMps => {
                self.tried().map_err(|reason| self.error(&reason))?;
                Ok(tch::Device::Mps)
            }
            _ => Err(self.error(
                "it is not one of libtorch's; they are libtorch, libtorch:cuda:N and libtorch:mps",
            )),
        }
    }

    #[cfg(feature = "burn")]
    fn prepare(self) -> Result<(), Error> {
        self.check()?;
        #[cfg(feature = "libtorch")]
        if matches!(self, Self::Libtorch) {
            // Of this thread's operations: jobs side by side share the processor.
            tch::set_num_threads(i32::try_from(rayon::current_num_threads()).unwrap_or(i32::MAX));
        }
        Ok(())
    }

    /// burn's handle, after a first small computation on it: backends look for their drivers and
    /// libraries on first use and panic where they cannot find them. An exponential is part of it
    /// since CubeCL takes that function, and no sum, from the CUDA toolkit. Otherwise the reason.
    #[cfg(feature = "burn")]
    fn tried(self) -> Result<Device, String> {
        let computed = failure::caught(|| {
            let device = self.handle();
            let sum = Tensor::<1>::zeros([4], &device).exp().sum().into_scalar::<f32>();
            (device, sum)
        });
        match computed.map_err(|panic| self.explained(&panic))? {
            (device, 4.0) => Ok(device),
            (_, sum) => Err(format!(
                "four exponentials of 0 add up to {sum} on it, not 4; it computes wrongly"
            )),
        }
    }

    /// What a backend's panic on this device becomes.
    #[cfg(feature = "burn")]
    pub(crate) fn failed(self, panic: &str) -> Error {
        self.error(&self.explained(panic))
    }

    #[cfg(feature = "burn")]
    fn explained(self, panic: &str) -> String {
        let gpu =
            self.gpu().and_then(|index| gpus().ok()?.into_iter().find(|gpu| gpu.index == index));
        failure::explained(panic, gpu.as_ref())
    }

    fn error(self, reason: &str) -> Error {
        Error::Device(format!("{self}: {reason}"))
    }

    #[cfg(feature = "burn")]
    #[allow(
        deprecated,
        reason = "burn keeps its older backends for this version; they are offered as long as it does"
    )]
    fn handle(self) -> Device {
        match self {
            #[cfg(feature = "ndarray")]
            Self::Ndarray => Device::ndarray(),
            #[cfg(feature = "libtorch")]
            Self::Libtorch => Device::libtorch(),
            #[cfg(feature = "libtorch")]
            Self::LibtorchCuda(index) => Device::libtorch_cuda(index),
            #[cfg(feature = "libtorch")]
            Self::LibtorchMps => Device::libtorch_mps(),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Device::cuda(index),
            _ => Device::flex(),
        }
    }
}

impl fmt::Display for BurnDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::Ndarray => f.write_str("ndarray"),
            Self::Libtorch => f.write_str("libtorch"),
            Self::LibtorchCuda(index) => write!(f, "libtorch:cuda:{index}"),
            Self::LibtorchMps => f.write_str("libtorch:mps"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for BurnDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let index = |text: &str| {
            text.parse().map_err(|_| format!("GPU \"{text}\": expected a number from 0"))
        };
        match parts.as_slice() {
            ["flex"] => Ok(Self::Flex),
            ["ndarray"] => Ok(Self::Ndarray),
            ["libtorch"] => Ok(Self::Libtorch),
            ["libtorch", "cuda"] => Ok(Self::LibtorchCuda(0)),
            ["libtorch", "cuda", n] => Ok(Self::LibtorchCuda(index(n)?)),
            ["libtorch", "mps"] => Ok(Self::LibtorchMps),
            ["cuda"] => Ok(Self::Cuda(0)),
            ["cuda", n] => Ok(Self::Cuda(index(n)?)),
            _ => Err("expected flex, ndarray, libtorch, libtorch:cuda:N, libtorch:mps or cuda:N"
                .to_string()),
        }
    }
}

/// Whether PyTorch's library reaches Apple's graphics processor here.
fn metal() -> bool {
    #[cfg(feature = "libtorch")]
    return tch::utils::has_mps();
    #[cfg(not(feature = "libtorch"))]
    false
}

/// GFLOP/s of a product of two 1024 x 1024 float32 matrices by the library that burn's CPU backend
/// stands on (`gemm`), on the current threads: the median of 20. None without the feature `burn`.
#[cfg(feature = "burn")]
pub fn library_sgemm() -> Option<f64> {
    const N: usize = 1024;
    let device = Device::flex();
    let matrix = |seed: usize| {
        let data: Vec<f32> =
            (0..N * N).map(|i| ((i * 7919 + seed) % 1000) as f32 / 1000.0).collect();
        Tensor::<2>::from_data(TensorData::new(data, [N, N]), &device)
    };
    let (x, y) = (matrix(1), matrix(2));
    let mut seconds: Vec<f64> = (0..20)
        .map(|_| {
            let begun = std::time::Instant::now();
            std::hint::black_box(x.clone().matmul(y.clone()));
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    Some(2.0 * (N * N * N) as f64 / seconds[10] / 1e9)
}

/// GFLOP/s of a library's matrix product: none, this build has no such library (feature `burn`).
#[cfg(not(feature = "burn"))]
pub fn library_sgemm() -> Option<f64> {
    None
}

/// In which format a device multiplies float32 matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// As they are: 24 bits of precision.
    Float32,
    /// On the tensor cores of an NVIDIA GPU, which round the factors to TF32 (11 bits of precision,
    /// so about 5e-4) and add up in float32. CubeCL does so wherever the shapes allow it and it is
    /// faster; PyTorch does not unless told to.
    Tf32,
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::Tf32 => "float32 with products in TF32",
        })
    }
}

/// The version of the libtorch in this process, by what lies beside the library: `version.py` of a
/// Python package, `build-version` of a C++ distribution. None where it cannot be told: on systems
/// without /proc, and in builds without libtorch.
pub fn libtorch_version() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let library = library.into_iter().find(|path| path.contains("/libtorch_cpu.so"))?;
    version_beside(std::path::Path::new(library))
}

/// The version of the libtorch whose library `lib/libtorch_cpu.so` is.
fn version_beside(library: &std::path::Path) -> Option<String> {
    let root = library.parent()?.parent()?;
    if let Ok(text) = std::fs::read_to_string(root.join("version.py")) {
        let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        return Some(line.trim().trim_matches(['\'', '"']).to_string());
    }
    Some(std::fs::read_to_string(root.join("build-version")).ok()?.trim().to_string())
}

/// A graphics processor, as its driver tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// From 0.
    pub index: usize,
    /// Its model.
    pub name: String,
    /// Memory, MiB.
    pub memory: u64,
    /// Memory that nobody uses now, MiB.
    pub free: u64,
    /// The driver's version.
    pub driver: String,
}

impl Gpu {
    /// The driver's branch: 580 of 580.159.04.
    fn major_driver(&self) -> Option<u32> {
        self.driver.split('.').next()?.parse().ok()
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, name, memory, free, driver } = self;
        write!(f, "GPU {index} is {name} with {memory} MiB ({free} free), driver {driver}")
    }
}

/// This machine's NVIDIA GPUs, by `nvidia-smi`, which comes with their driver.
///
/// # Errors
/// Why there are none to be found.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=index,name,memory.total,memory.free,driver_version",
        "--format=csv,noheader,nounits",
    ]);
    let output =
        command.output().map_err(|e| format!("nvidia-smi, which comes with the driver: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = text.lines().next().unwrap_or("nothing").trim().to_string();
        return Err(format!("nvidia-smi says: {said}"));
    }
    // A warning may stand among them, and a GPU that is cut into instances has no memory of its own
    // to tell of.
    let found: Vec<Gpu> = text.lines().filter_map(gpu).collect();
    if found.is_empty() {
        let first = text.lines().find(|line| !line.trim().is_empty()).map_or("nothing", str::trim);
        return Err(format!("nvidia-smi lists none with memory of its own, but: {first}"));
    }
    Ok(found)
}

fn gpu(line: &str) -> Option<Gpu> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, name, memory, free, driver] = fields.as_slice() else { return None };
    Some(Gpu {
        index: index.parse().ok()?,
        name: name.to_string(),
        memory: memory.parse().ok()?,
        free: free.parse().ok()?,
        driver: driver.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for device in
            BurnDevice::KINDS.into_iter().chain([BurnDevice::Cuda(3), BurnDevice::LibtorchCuda(1)])
        {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(BurnDevice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "libtorch:0", "flex:0", "cuda:0:0"] {
            assert!(wrong.parse::<BurnDevice>().is_err_and(|e| e.contains("expected")), "{wrong}");
        }
    }

    #[test]
    #[cfg(feature = "burn")]
    fn what_is_not_there_is_said() {
        for device in BurnDevice::KINDS {
            match (device.not_built(), device.open()) {
                (Some(command), Err(error)) => {
                    assert!(error.to_string().contains(command), "{error}");
                }
                (None, Err(error)) => {
                    let said = error.to_string();
                    assert!(
                        device.is_gpu() && said.starts_with(&format!("device {device}: ")),
                        "{said}"
                    );
                    assert_eq!(said.lines().count(), 1, "{said}");
                }
                (command, Ok(_)) => assert_eq!(command, None, "{device} opens without its backend"),
            }
        }
    }

    #[test]
    fn the_version_beside_a_library() {
        let folder =
            std::env::temp_dir().join(format!("induction-libtorch-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("lib")).unwrap();
        let library = folder.join("lib/libtorch_cpu.so");
        assert_eq!(version_beside(&library), None);
        std::fs::write(folder.join("build-version"), "2.9.0+cpu\n").unwrap();
        assert_eq!(version_beside(&library).as_deref(), Some("2.9.0+cpu"));
        std::fs::write(
            folder.join("version.py"),
            "__all__ = []\n__version__ = '2.11.0+cu130'\ndebug = False\n",
        )
        .unwrap();
        assert_eq!(version_beside(&library).as_deref(), Some("2.11.0+cu130"));
        std::fs::remove_dir_all(folder).unwrap();
        assert_eq!(
            libtorch_version().is_some(),
            cfg!(all(feature = "libtorch", target_os = "linux"))
        );
    }

    #[test]
    fn the_drivers_words() {
        let found = gpu("1, NVIDIA H100 80GB HBM3, 81559, 81000, 550.54.15").unwrap();
        assert_eq!((found.index, found.memory, found.driver.as_str()), (1, 81559, "550.54.15"));
        assert_eq!(found.major_driver(), Some(550));
        assert_eq!(gpu("1, NVIDIA H100"), None);
        assert_eq!(gpu("No devices were found"), None);
    }
}
