//! burn's devices: which this build and this machine have.

use std::{fmt, process::Command, str::FromStr};
#[cfg(feature = "burn")]
use std::{
    panic,
    sync::{Mutex, PoisonError},
};

#[cfg(feature = "burn")]
use burn::tensor::{Device, Tensor, TensorData};
use induction_model::{ModelConfig, Params};

use crate::{Engine, Error, Exactness};

/// A device of one of burn's backends. Written `flex`, `ndarray`, `libtorch`, `libtorch:cuda:N`, `cuda:N`.
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
    /// CubeCL's kernels on a GPU (feature `cuda`).
    Cuda(usize),
}

impl BurnDevice {
    /// One of each kind, the first GPU standing for all.
    pub const KINDS: [Self; 5] = [Self::Flex, Self::Ndarray, Self::Libtorch, Self::LibtorchCuda(0), Self::Cuda(0)];

    /// The command that makes a build with the backend, if this one is without.
    fn not_built(self) -> Option<&'static str> {
        match self {
            Self::Flex if !cfg!(feature = "burn") => Some("cargo build --release --features burn"),
            Self::Ndarray if !cfg!(feature = "ndarray") => Some("cargo build --release --features ndarray"),
            Self::Libtorch | Self::LibtorchCuda(_) if !cfg!(feature = "libtorch") => Some("cargo xtask libtorch"),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Some("cargo build --release --features cuda"),
            _ => None,
        }
    }

    /// What it stands on.
    pub fn backend(self) -> &'static str {
        match self {
            Self::Flex => "burn 0.22.1, burn-flex",
            Self::Ndarray => "burn 0.22.1, burn-ndarray",
            Self::Libtorch | Self::LibtorchCuda(_) => "burn 0.22.1, burn-tch on libtorch 2.9.0",
            Self::Cuda(_) => "burn 0.22.1, burn-cuda",
        }
    }

    /// Whether it is a graphics processor.
    pub fn is_gpu(self) -> bool {
        self.gpu().is_some()
    }

    /// The number of its graphics processor.
    pub fn gpu(self) -> Option<usize> {
        match self {
            Self::LibtorchCuda(index) | Self::Cuda(index) => Some(index),
            Self::Flex | Self::Ndarray | Self::Libtorch => None,
        }
    }

    /// Whether it multiplies matrices of bfloat16.
    pub fn has_bf16(self) -> bool {
        self != Self::Ndarray
    }

    /// What a repetition may be expected to give. libtorch promises no order of sums, and CubeCL picks kernels by timing
    /// them.
    pub fn exactness(self) -> Exactness {
        match self {
            Self::Flex | Self::Ndarray => Exactness::Exact,
            Self::Libtorch | Self::LibtorchCuda(_) | Self::Cuda(_) => Exactness::Statistical,
        }
    }

    /// Numbers that the attention scores of the examples in work may fill in a layer. Enough to keep the matrix products
    /// long (64 MiB of float32 on a CPU, 1 GiB on a GPU), little enough that large batches and long evaluations run in
    /// constant memory.
    pub fn numbers_at_once(self) -> usize {
        if self.is_gpu() { 1 << 28 } else { 1 << 24 }
    }

    /// What this build or this machine lacks for it, and what helps; nothing if it can be tried.
    pub fn missing(self) -> Option<String> {
        if let Some(command) = self.not_built() {
            return Some(format!("not in this build; it is in one made by `{command}`"));
        }
        let index = self.gpu()?;
        let found = match gpus() {
            Ok(found) => found,
            Err(reason) => return Some(format!("no NVIDIA GPU to be found ({reason})")),
        };
        let names: Vec<String> = found.iter().map(Gpu::to_string).collect();
        let there = found.iter().any(|gpu| gpu.index == index);
        (!there).then(|| format!("there is no GPU {index}, but {}", names.join("; ")))
    }

    /// Checks that nothing is [`missing`](Self::missing).
    ///
    /// # Errors
    /// What is.
    pub fn check(self) -> Result<(), Error> {
        self.missing().map_or(Ok(()), |missing| Err(Error::Device(format!("{self}: {missing}"))))
    }

    /// The engine on it, with these weights; `bf16`: training multiplies matrices of bfloat16.
    ///
    /// # Errors
    /// A device that is not there, an invalid configuration or one outside the paper's family, parameters that are not its
    /// own.
    #[cfg_attr(not(feature = "burn"), expect(unused_variables, reason = "there is nothing to open"))]
    pub fn engine(self, bf16: bool, config: &ModelConfig, params: &Params) -> Result<Box<dyn Engine>, Error> {
        self.check()?;
        #[cfg(feature = "burn")]
        return Ok(Box::new(crate::BurnEngine::on(self, bf16, config, params)?));
        #[cfg(not(feature = "burn"))]
        unreachable!("without burn something is missing for every device")
    }

    /// burn's handle.
    #[cfg(feature = "burn")]
    pub(crate) fn open(self) -> Result<Device, Error> {
        self.check()?;
        #[cfg(feature = "libtorch")]
        if matches!(self, Self::Libtorch) {
            // Of this thread's operations: jobs side by side share the processor.
            tch::set_num_threads(i32::try_from(rayon::current_num_threads()).unwrap_or(i32::MAX));
        }
        if self.is_gpu() { self.tried() } else { Ok(self.handle()) }
    }

    /// burn's handle, after a first small computation on it: backends find their drivers on first use and panic where they
    /// cannot. The panic's message is the reason.
    #[cfg(feature = "burn")]
    fn tried(self) -> Result<Device, Error> {
        // The hook is the whole process's: two threads at once would leave it silent.
        static HOOK: Mutex<()> = Mutex::new(());
        let guard = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let opened = panic::catch_unwind(|| {
            let device = self.handle();
            let sum = Tensor::<1>::ones([4], &device).sum().into_scalar::<f32>();
            (device, sum)
        });
        panic::set_hook(hook);
        drop(guard);
        match opened {
            Ok((device, 4.0)) => Ok(device),
            Ok((_, sum)) => Err(Error::Device(format!("{self}: four ones add up to {sum} on it"))),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not start");
                let line = text.lines().next().unwrap_or_default();
                Err(Error::Device(format!("{self}: {line}")))
            }
        }
    }

    #[cfg(feature = "burn")]
    #[allow(deprecated, reason = "burn keeps its older backends for this version; they are offered as long as it does")]
    fn handle(self) -> Device {
        match self {
            #[cfg(feature = "ndarray")]
            Self::Ndarray => Device::ndarray(),
            #[cfg(feature = "libtorch")]
            Self::Libtorch => Device::libtorch(),
            #[cfg(feature = "libtorch")]
            Self::LibtorchCuda(index) => Device::libtorch_cuda(index),
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
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for BurnDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let index = |text: &str| text.parse().map_err(|_| format!("GPU \"{text}\": expected a number from 0"));
        match parts.as_slice() {
            ["flex"] => Ok(Self::Flex),
            ["ndarray"] => Ok(Self::Ndarray),
            ["libtorch"] => Ok(Self::Libtorch),
            ["libtorch", "cuda"] => Ok(Self::LibtorchCuda(0)),
            ["libtorch", "cuda", n] => Ok(Self::LibtorchCuda(index(n)?)),
            ["cuda"] => Ok(Self::Cuda(0)),
            ["cuda", n] => Ok(Self::Cuda(index(n)?)),
            _ => Err("expected flex, ndarray, libtorch, libtorch:cuda:N or cuda:N".to_string()),
        }
    }
}

/// GFLOP/s of a product of two 1024 x 1024 float32 matrices by the library that burn's CPU backend stands on (`gemm`), on
/// the current threads: the median of 20. None without the feature `burn`.
#[cfg(feature = "burn")]
pub fn library_sgemm() -> Option<f64> {
    const N: usize = 1024;
    let device = Device::flex();
    let matrix = |seed: usize| {
        let data: Vec<f32> = (0..N * N).map(|i| ((i * 7919 + seed) % 1000) as f32 / 1000.0).collect();
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
    command.args(["--query-gpu=index,name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits"]);
    let output = command.output().map_err(|e| format!("nvidia-smi, which comes with the driver: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = text.lines().next().unwrap_or("nothing").trim().to_string();
        return Err(format!("nvidia-smi says: {said}"));
    }
    let found: Option<Vec<Gpu>> = text.lines().filter(|line| !line.trim().is_empty()).map(gpu).collect();
    found.filter(|found| !found.is_empty()).ok_or_else(|| "nvidia-smi lists none".to_string())
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
        for device in BurnDevice::KINDS.into_iter().chain([BurnDevice::Cuda(3), BurnDevice::LibtorchCuda(1)]) {
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
                (Some(command), Err(error)) => assert!(error.to_string().contains(command), "{error}"),
                (None, Err(error)) => {
                    let said = error.to_string();
                    assert!(device.is_gpu() && said.starts_with(&format!("device {device}: ")), "{said}");
                    assert_eq!(said.lines().count(), 1, "{said}");
                }
                (command, Ok(_)) => assert_eq!(command, None, "{device} opens without its backend"),
            }
        }
    }

    /// Engines are opened by jobs side by side, and a panic after that must still be heard.
    #[test]
    #[cfg(feature = "burn")]
    fn trying_a_device_leaves_the_panic_hook() {
        static HEARD: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let before = panic::take_hook();
        panic::set_hook(Box::new(|_| {
            HEARD.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }));
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| (0..50).for_each(|_| drop(BurnDevice::Flex.tried())))));
        });
        let _ = panic::catch_unwind(|| panic!("heard"));
        panic::set_hook(before);
        assert_eq!(HEARD.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[test]
    fn the_drivers_words() {
        let found = gpu("1, NVIDIA H100 80GB HBM3, 81559, 81000, 550.54.15").unwrap();
        assert_eq!((found.index, found.memory, found.driver.as_str()), (1, 81559, "550.54.15"));
        assert_eq!(gpu("1, NVIDIA H100"), None);
        assert_eq!(gpu("No devices were found"), None);
    }
}
